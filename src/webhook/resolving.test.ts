import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPatch } from 'rfc6902'
import type { Pod } from '../api/core.ts'
import type { AdmissionRequest } from './admission.ts'
import { mutation } from './answer.ts'
import { review } from './review.ts'
import { pod, viewOf } from './view.fixture.ts'

const created = (object: Pod): AdmissionRequest => ({
  uid: 'u',
  kind: { group: '', version: 'v1', kind: 'Pod' },
  operation: 'CREATE',
  namespace: 'blue',
  object,
})
const mutated = (object: Pod) => mutation(viewOf(), created(object)).object as Pod

/** What is changed of a pod, and what it is warned of then, as lines. */
const done = (object: Pod): string[] => {
  const after = mutated(object)
  const changes = createPatch(object, after).map((change) => {
    const value = 'value' in change ? JSON.stringify(change.value) : ''
    return `${change.op} ${change.path} ${value}`
  })
  return [...changes, ...review(viewOf(), created(after)).warnings]
}

/** As the API server fills it in. */
const filled: Pick<Pod['spec'], 'dnsPolicy'> = { dnsPolicy: 'ClusterFirst' }
const ofNamed =
  'add /spec/dnsConfig {"nameservers":["10.1.0.53","fd00:10:1::53"],"searches":["blue.example","example"],' +
  '"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}'
const ofFlat = 'add /spec/dnsConfig {"nameservers":["192.168.1.53"]}'
const none = 'replace /spec/dnsPolicy "None"'
const open = (eth0: string) =>
  `eth0: Network ${eth0} does not reach the cluster's DNS, so the pod resolves no names; ` +
  'set spec.dns of the Network, or dnsPolicy of the pod'
const npwg = 'k8s.v1.cni.cncf.io/networks'
const byRoute = JSON.stringify([
  { name: 'default', namespace: 'polynet-system', 'default-route': ['10.244.0.1'] },
])

const cases: [
  what: string,
  annotations: Record<string, string>,
  spec: Partial<Pod['spec']>,
  want: string[],
][] = [
  ['asks for a Network with name servers as eth0', { networks: 'named:eth0' }, filled, [ofNamed, none]],
  [
    'asks for one by the annotation for default networks',
    { 'polynet.dev/default-network': 'named' },
    filled,
    [ofNamed, none],
  ],
  ['has its node', { networks: 'named:eth0' }, { ...filled, nodeName: 'n1' }, [ofNamed, none]],
  ['gets eth0 of another plugin', { networks: 'flat:eth0' }, filled, [ofFlat, none]],
  ['asks for a Network with name servers beside eth0', { networks: 'named:eth1' }, filled, []],
  ['asks the servers of its node', { networks: 'named:eth0' }, { dnsPolicy: 'Default' }, []],
  [
    'has servers of its own',
    { networks: 'named:eth0' },
    { dnsPolicy: 'None', dnsConfig: { nameservers: ['203.0.113.53'] } },
    [],
  ],
  ['adds to those of the cluster', { networks: 'named:eth0' }, { ...filled, dnsConfig: {} }, []],
  ["is on its node's network", { networks: 'named:eth0' }, { ...filled, hostNetwork: true }, []],
  [
    'shows a static pod',
    { networks: 'named:eth0', 'kubernetes.io/config.mirror': 'x' },
    { ...filled, nodeName: 'n1' },
    [],
  ],
  ['asks for eth0 that has none', { networks: 'red/open:eth0' }, filled, [open('red/open')]],
  ['asks for eth0 that has none, by default', { networks: 'red/open:eth0' }, {}, [open('red/open')]],
  ['has nothing but other closed ones', { networks: 'red/open:eth0 named:eth1' }, filled, [open('red/open')]],
  ['has a closed eth0 and another policy', { networks: 'red/open:eth0' }, { dnsPolicy: 'Default' }, []],
  [
    'has a server that it reaches',
    { networks: 'red/open:eth0' },
    { ...filled, dnsConfig: { nameservers: ['10.2.0.53'] } },
    [],
  ],
  [
    'sends by the default network',
    { 'polynet.dev/default-network': 'red/open', [npwg]: byRoute },
    filled,
    [],
  ],
  ["has the cluster's default network as eth0", { networks: 'polynet-system/default:eth0' }, filled, []],
  ['has eth0 of a plugin that may reach it', { networks: 'weave:eth0' }, filled, []],
  ['gets eth0 from its node', { networks: 'red/open:eth1' }, filled, []],
]
for (const [what, annotations, spec, want] of cases)
  test(`a pod that ${what}: ${want.join('; ') || 'as it is'}`, () =>
    assert.deepEqual(done(pod(annotations, spec)), want))

test('what was changed once is not changed again', () => {
  const once = mutated(pod({ networks: 'named:eth0' }, filled))
  assert.deepEqual(done(once), [])
})

test('whoever makes pods is warned of eth0 that resolves no names, and not where the pods will be given servers', () => {
  const warned = (networks: string) => {
    const template = { metadata: { annotations: { networks } }, spec: { ...filled, containers: [] } }
    const metadata = { namespace: 'blue', name: 'web' }
    const object = { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { template } }
    return review(viewOf(), {
      ...created(object as never),
      kind: { group: 'apps', version: 'v1', kind: 'Deployment' },
    })
  }
  assert.deepEqual(warned('red/open:eth0'), { warnings: [open('red/open')] })
  assert.deepEqual(warned('named:eth0'), { warnings: [] })
})
