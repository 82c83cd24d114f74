import { setTimeout as sleep } from 'node:timers/promises'
import type { KubeObject, Resource } from '../../src/api/meta.ts'
import type { Figures } from '../figures.ts'
import type { Place } from './place.ts'
import { batch, cases, figuresOf, keyOf, type Results, titleOf } from './pods.ts'
import type { Size } from './rows.ts'
import { bare, polynet } from './ways.ts'

/** Whose requests are counted, by the account they ask with. */
const accounts = {
  'polynet-agent': ['polynet-system', 'polynet-agent'],
  'polynet-controller': ['polynet-system', 'polynet-controller'],
  'polynet-webhook': ['polynet-system', 'polynet-webhook'],
  multus: ['kube-system', 'multus'],
  whereabouts: ['kube-system', 'whereabouts'],
  // Of `addresses`.
  allocator: [polynet.namespace, 'allocator'],
} as const

interface FlowSchema extends KubeObject {
  spec: unknown
}

const flowSchemas: Resource<FlowSchema> = {
  group: 'flowcontrol.apiserver.k8s.io',
  version: 'v1',
  kind: 'FlowSchema',
  plural: 'flowschemas',
  namespaced: false,
}

/** The API server counts requests by flow: each account becomes one, of the priority that it has anyway. */
export async function countAccounts({ kube }: Place): Promise<void> {
  for (const [name, [namespace, account]] of Object.entries(accounts))
    await kube
      .create(flowSchemas, {
        apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
        kind: 'FlowSchema',
        metadata: { name: flowOf(name) },
        spec: {
          priorityLevelConfiguration: {
            name: namespace === 'kube-system' ? 'workload-high' : 'workload-low',
          },
          // Before Kubernetes' own flows of the same accounts.
          matchingPrecedence: 850,
          distinguisherMethod: { type: 'ByUser' },
          rules: [
            {
              subjects: [{ kind: 'ServiceAccount', serviceAccount: { namespace, name: account } }],
              resourceRules: [
                { verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*'] },
              ],
              nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
            },
          ],
        },
      })
      .catch((error) => {
        if (error.kind !== 'exists') throw error
      })
}

const flowOf = (name: string): string => `bench-${name}`

export interface Counts {
  /** By account. */
  own: Record<string, number>
  /** Of all clients, watches and the counting apart. */
  all: number
  conflicts: number
  /** How often the API server asked Polynet's webhook. */
  webhook: number
}

export async function counts({ kubectl }: Place): Promise<Counts> {
  const text = await kubectl(['get', '--raw', '/metrics'])
  const sum = (metric: string, ...labels: RegExp[]) =>
    text
      .split('\n')
      .filter((line) => line.startsWith(`${metric}{`) && labels.every((label) => label.test(line)))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0)
  const dispatched = (name: string) =>
    sum('apiserver_flowcontrol_dispatched_requests_total', new RegExp(`flow_schema="${flowOf(name)}"`))
  return {
    own: Object.fromEntries(Object.keys(accounts).map((name) => [name, dispatched(name)])),
    all: sum('apiserver_request_total', /verb="(GET|LIST|POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION)"/),
    conflicts: sum('apiserver_request_total', /code="409"/),
    webhook: sum('apiserver_admission_webhook_request_total', /name="[a-z-]+\.polynet\.dev"/),
  }
}

export const spent = (before: Counts, after: Counts): Counts => ({
  own: Object.fromEntries(Object.entries(after.own).map(([name, n]) => [name, n - before.own[name]!])),
  all: after.all - before.all,
  conflicts: after.conflicts - before.conflicts,
  webhook: after.webhook - before.webhook,
})

/** What is asked of the API server for a pod's whole life, alone and in a burst; and how long that burst takes. */
export async function requests(place: Place, size: Size): Promise<Figures[]> {
  await countAccounts(place)
  // The API server sorts requests anew a moment later.
  await sleep(2000)
  // What goes on anyway: leases of nodes and leaders.
  const restMs = size({ small: 500, full: 20_000 })
  const idle = await counts(place)
  await sleep(restMs)
  const still = spent(idle, await counts(place))
  const rows: Figures['rows'] = []
  const bursts: Results = new Map()
  const many = size({ small: 3, full: 100 })
  for (const [way, networks] of cases) {
    if (!place.hurried) await batch(place, way, networks, 1, 'before')
    for (const [count, times] of [
      [1, size({ small: 1, full: 3 })],
      [many, 1],
    ] as const) {
      await sleep(size({ small: 500, full: 3000 }))
      const before = await counts(place)
      const began = performance.now()
      for (let i = 0; i < times; i++) {
        const done = await batch(place, way, networks, count, `asked-${count}-${i}`)
        if (count === many) bursts.set(keyOf(way, networks), [done])
      }
      await sleep(size({ small: 500, full: 2000 }))
      const share = (performance.now() - began) / restMs
      const { own, all, conflicts, webhook } = spent(before, await counts(place))
      const pods = count * times
      const net = (one: number, background: number) => Math.max(0, one - background * share) / pods
      const sides = Object.keys(accounts).filter(
        (name) => name.startsWith('polynet') === (way.side === 'polynet'),
      )
      const mine = sides.reduce((sum, name) => sum + net(own[name]!, still.own[name]!), 0)
      const parts = sides
        .filter((name) => own[name]! > 0 && way !== bare)
        .map((name) => `${name.replace('polynet-', '')} ${net(own[name]!, still.own[name]!).toFixed(1)}`)
      rows.push([
        titleOf(way, networks),
        networks,
        count === 1 ? 'one by one' : `${count} at once`,
        way === bare ? 0 : mine,
        parts.join(', '),
        net(all, still.all),
        conflicts / pods,
        way === polynet ? webhook / pods : 0,
      ])
    }
  }
  return [
    ...figuresOf(many, 1, bursts),
    {
      title: 'API requests a pod, from its creation until it is gone',
      columns: ['by', 'networks', 'pods', 'own', 'of these', 'of all clients', 'conflicts', 'webhook calls'],
      rows,
      notes: [
        'Counted by the API server; new watches count, what is sent on open ones does not. own: by the side’s own accounts. of all clients: with',
        'kubelets, controllers and the bench itself. What the cluster asks anyway in that time is taken off. webhook calls: of the API server to Polynet.',
      ],
    },
  ]
}
