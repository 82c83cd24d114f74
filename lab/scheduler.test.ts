import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Node, Pod } from '../src/api/core.ts'
import { placementFor } from './scheduler.ts'

const node = (
  name: string,
  more: { labels?: Record<string, string>; spec?: Node['spec']; gpus?: string; ready?: string } = {},
): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, ...more.labels } },
  spec: more.spec ?? {},
  status: {
    allocatable: { pods: '3', 'example.com/vf': more.gpus ?? '0' },
    conditions: [{ type: 'Ready', status: more.ready ?? 'True' }],
  },
})

const pod = (name: string, spec: Partial<Pod['spec']> = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: { containers: [{ name: 'c' }], ...spec },
})

const affinity = (key: string, operator: string, ...values: string[]) => ({
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{ matchExpressions: [{ key, operator, values }] }],
    },
  },
})

const vf = { resources: { limits: { 'example.com/vf': '1' } } }

const nodes = [
  node('n3', { labels: { disk: 'ssd' } }),
  node('n1', { spec: { taints: [{ key: 'nfv', value: 'yes', effect: 'NoSchedule' }] }, gpus: '1' }),
  node('n2', { gpus: '1' }),
  node('n4', { spec: { unschedulable: true } }),
  node('n5', { ready: 'False' }),
]
const taken = [
  pod('on-n2', { nodeName: 'n2', containers: [{ name: 'c', ...vf }] }),
  pod('one-on-n3', { nodeName: 'n3' }),
  pod('two-on-n3', { nodeName: 'n3' }),
]

const cases: [string, Partial<Pod['spec']>, string][] = [
  ['goes where the fewest pods are', {}, 'n2'],
  ['follows its node selector', { nodeSelector: { disk: 'ssd' } }, 'n3'],
  ['follows required affinity', { affinity: affinity('disk', 'Exists') }, 'n3'],
  [
    'stays away from what affinity excludes',
    { affinity: affinity('kubernetes.io/hostname', 'NotIn', 'n2') },
    'n3',
  ],
  [
    'goes to a tainted node only when it tolerates the taint',
    { tolerations: [{ key: 'nfv', value: 'yes' }] },
    'n1',
  ],
  [
    'finds no node for what is taken',
    { containers: [{ name: 'c', ...vf }] },
    '0/5 nodes are available: 1 node(s) had untolerated taint {nfv: yes}, 1 node(s) were not ready, 1 node(s) were unschedulable, 2 Insufficient example.com/vf.',
  ],
  [
    'takes the device that is left',
    { containers: [{ name: 'c', ...vf }], tolerations: [{ operator: 'Exists' }] },
    'n1',
  ],
  [
    'finds no node for a label nobody has',
    { nodeSelector: { disk: 'tape' }, tolerations: [{ operator: 'Exists' }] },
    "0/5 nodes are available: 1 node(s) were not ready, 4 node(s) didn't match Pod's node affinity/selector.",
  ],
]

for (const [title, spec, want] of cases)
  test(`a pod ${title}`, () => {
    const placement = placementFor(pod('new', spec), nodes, taken)
    assert.equal('node' in placement ? placement.node : placement.unschedulable, want)
  })

test('a node takes no more pods than it has room for, and pods that ended take none', () => {
  const full = [1, 2, 3].map((n) => pod(`p${n}`, { nodeName: 'n2' }))
  const n2 = nodes.filter((n) => n.metadata.name === 'n2')
  assert.deepEqual(placementFor(pod('new'), n2, full), {
    unschedulable: '0/1 nodes are available: 1 Too many pods.',
  })
  full[0]!.status = { phase: 'Succeeded' }
  assert.deepEqual(placementFor(pod('new'), n2, full), { node: 'n2' })
})
