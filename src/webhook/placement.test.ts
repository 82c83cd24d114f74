import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pod } from '../api/core.ts'
import { mutation } from './answer.ts'
import { pod, viewOf } from './view.fixture.ts'

const mutated = (object: Pod): Pod =>
  mutation(viewOf(), {
    uid: 'u',
    kind: { group: '', version: 'v1', kind: 'Pod' },
    operation: 'CREATE',
    namespace: 'blue',
    object,
  }).object as Pod

const reaches = (wire: string) => ({ key: `physical.polynet.dev/${wire}`, operator: 'In', values: ['true'] })
const required = (...nodeSelectorTerms: unknown[]) => ({
  nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
})

test('a pod is kept to the nodes that reach the physical networks of all its Networks', () => {
  const { affinity } = mutated(pod({ networks: 'data vlan7 red/open' })).spec
  assert.deepEqual(affinity, required({ matchExpressions: [reaches('phy-net0'), reaches('phy-net1')] }))
})

test('each of the alternatives that a pod has asks for them, and selects no more than before', () => {
  const zone = { key: 'zone', operator: 'In', values: ['a'] }
  const onNode = { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] }
  const preferredDuringSchedulingIgnoredDuringExecution = [{ weight: 1, preference: {} }]
  const before = required({ matchExpressions: [zone] }, onNode, {})
  const affinity = {
    podAffinity: { kept: true },
    nodeAffinity: { ...before.nodeAffinity, preferredDuringSchedulingIgnoredDuringExecution },
  }
  const after = required(
    { matchExpressions: [zone, reaches('phy-net1')] },
    { ...onNode, matchExpressions: [reaches('phy-net1')] },
    {},
  )
  assert.deepEqual(mutated(pod({ networks: 'data' }, { affinity })).spec.affinity, {
    podAffinity: { kept: true },
    nodeAffinity: { ...after.nodeAffinity, preferredDuringSchedulingIgnoredDuringExecution },
  })
})

test('a pod that takes a NIC from its node asks for one, for each that it takes', () => {
  const taking = pod({ networks: 'default/nic default/nic:eth5' })
  taking.spec.containers = [
    { name: 'main', resources: { requests: { cpu: '1' } } },
    { name: 'side', resources: { limits: { memory: '1Gi' } } },
  ]
  const { containers, affinity } = mutated(taking).spec
  assert.deepEqual(containers, [
    {
      name: 'main',
      resources: {
        requests: { cpu: '1', 'nic.polynet.dev/phy-net0': '2' },
        limits: { 'nic.polynet.dev/phy-net0': '2' },
      },
    },
    { name: 'side', resources: { limits: { memory: '1Gi' } } },
  ])
  assert.deepEqual(affinity, required({ matchExpressions: [reaches('phy-net0')] }))
})

test('a pod asks for a device for each attachment that has one of a device plugin, and for nothing else by that way', () => {
  const networks = 'default/vf,default/cpu,default/vf,default/own'
  const { containers } = mutated(pod({ 'k8s.v1.cni.cncf.io/networks': networks })).spec
  assert.deepEqual(containers, [
    {
      name: 'main',
      resources: { requests: { 'intel.com/sriov': '2' }, limits: { 'intel.com/sriov': '2' } },
    },
  ])
})

const same: [what: string, pod: Pod][] = [
  ['asks for nothing', pod({})],
  ['asks wrongly', pod({ networks: 'data:eth1:eth2' })],
  ['asks for networks that every node reaches', pod({ networks: 'red/open' })],
  [
    'asks for its devices itself',
    pod(
      { 'k8s.v1.cni.cncf.io/networks': 'default/vf,default/vf' },
      { containers: [{ name: 'main', resources: { limits: { 'intel.com/sriov': '3' } } }] },
    ),
  ],
  ['has its node', pod({ networks: 'data' }, { nodeName: 'n1' })],
  ['went this way before', mutated(pod({ networks: 'data default/nic' }))],
]
for (const [what, before] of same)
  test(`a pod that ${what} stays as it is`, () => assert.deepEqual(mutated(before), before))
