import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../api/address-block.ts'
import type { IPAMClaim, Node, Pod } from '../api/core.ts'
import { crds } from '../api/crds.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { customResourceDefinitions } from '../kube/memory/crd.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { type BlockSurroundings, removeStaleBlocks, type StatefulSet, staleBlocks } from './addresses.ts'

const uid = '00000000-0000-4000-8000-0000000b10e0'
const node = (name: string, more: Partial<Node['spec']> = {}, id = name): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, uid: id },
  spec: more,
})
const block = (cidr: string, nodeName: string, holder?: string, networkUID = uid): AddressBlock => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AddressBlock',
  metadata: { namespace: 'lab', name: cidr },
  spec: {
    network: 'blue',
    networkUID,
    cidr,
    node: nodeName,
    nodeUID: nodeName,
    ...(holder ? { holder } : {}),
  },
})
const named = (kind: string, name: string, spec: object = {}) => ({
  apiVersion: 'v1',
  kind,
  metadata: { namespace: 'lab', name },
  spec,
})
const blue = { ...named('Network', 'blue'), metadata: { namespace: 'lab', name: 'blue', uid } } as Network

const notReady = { taints: [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' }] }
const outOfService = {
  taints: [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute', value: 'nodeshutdown' }],
}

const cases: [title: string, around: Partial<BlockSurroundings>, want: string[]][] = [
  ['a node that runs keeps its blocks', { nodes: [node('n1')], blocks: [block('10.1.0.0/26', 'n1')] }, []],
  [
    'a node that is only not reached keeps its blocks: its pods run',
    { nodes: [node('n1', notReady)], blocks: [block('10.1.0.0/26', 'n1')] },
    [],
  ],
  [
    'the blocks of a deleted node are stale',
    { nodes: [node('n2')], blocks: [block('10.1.0.0/26', 'n1'), block('10.1.0.64/26', 'n2')] },
    ['10.1.0.0/26'],
  ],
  [
    'a node that came back under another UID does not have the old blocks',
    { nodes: [node('n1', {}, 'another')], blocks: [block('10.1.0.0/26', 'n1')] },
    ['10.1.0.0/26'],
  ],
  [
    'the blocks of a node declared out of service are stale',
    {
      nodes: [node('n1', outOfService)],
      blocks: [block('10.1.0.0/26', 'n1'), block('10.1.240.7/32', 'n1', 'pod lab/a')],
    },
    ['10.1.0.0/26', '10.1.240.7/32'],
  ],
  [
    'an address kept for a claim outlives its node',
    {
      blocks: [block('10.1.240.7/32', 'n1', 'claim lab/vm')],
      claims: [named('IPAMClaim', 'vm') as IPAMClaim],
    },
    [],
  ],
  [
    'and goes with its claim',
    { nodes: [node('n1')], blocks: [block('10.1.240.7/32', 'n1', 'claim lab/vm')] },
    ['10.1.240.7/32'],
  ],
  [
    'but not while it is attached somewhere',
    {
      nodes: [node('n1')],
      blocks: [block('10.1.240.7/32', 'n1', 'claim lab/vm')],
      slices: [
        {
          ...named('AttachmentSlice', 'blue-n1'),
          network: 'blue',
          networkUID: 'blue-uid',
          node: 'n1',
          nodeUID: 'n1',
          attachments: [
            {
              pod: 'vm-1',
              podNamespace: 'lab',
              podUID: 'u',
              containerID: 'c',
              interface: 'eth1',
              ips: ['10.1.240.7'],
            },
          ],
        },
      ],
    },
    [],
  ],
  [
    'and with its network',
    {
      networks: [],
      blocks: [block('10.1.240.7/32', 'n1', 'claim lab/vm')],
      claims: [named('IPAMClaim', 'vm') as IPAMClaim],
    },
    ['10.1.240.7/32'],
  ],
  [
    'a StatefulSet’s pod keeps its address while the set wants the pod, or the pod is there',
    {
      blocks: ['db-0', 'db-1', 'db-2', 'web-0', 'gone-0'].map((pod, i) =>
        block(`10.1.240.${i}/32`, 'n1', `statefulset-pod lab/${pod}`),
      ),
      pods: [named('Pod', 'web-0') as Pod],
      statefulSets: [named('StatefulSet', 'db', { replicas: 2 }) as StatefulSet],
    },
    ['10.1.240.2/32', '10.1.240.4/32'],
  ],
  [
    'and not of a pod that is long gone, unless it is there again',
    {
      blocks: ['db-0', 'db-1'].map((pod, i) => block(`10.1.240.${i}/32`, 'n1', `statefulset-pod lab/${pod}`)),
      pods: [named('Pod', 'db-1') as Pod],
      statefulSets: [named('StatefulSet', 'db', { replicas: 2 }) as StatefulSet],
      longGone: new Set(['lab/db-0', 'lab/db-1']),
    },
    ['10.1.240.0/32'],
  ],
  [
    'where nobody looks at StatefulSets, their pods’ addresses are kept',
    { blocks: [block('10.1.240.7/32', 'n1', 'statefulset-pod lab/db-0')] },
    [],
  ],
]

for (const [title, around, want] of cases)
  test(title, () => {
    const all = { nodes: [], blocks: [], networks: [blue], claims: [], ...around }
    assert.deepEqual(
      staleBlocks(all).map((b) => b.spec.cidr),
      want,
    )
  })

test('a new node’s block is not removed because the watch of nodes lags behind', async () => {
  const kube = new MemoryKube()
  for (const definition of crds()) await kube.create(customResourceDefinitions, definition)
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'lab' } })
  const there = await kube.create(resources.nodes, node('n1'))
  const leased = (cidr: string, name: string, nodeUID = name) => {
    const made = block(cidr, name)
    const spec = { ...made.spec, nodeUID }
    return kube.create(resources.addressBlocks, { ...made, metadata: { namespace: 'lab', name }, spec })
  }
  const blocks = [await leased('10.1.0.0/26', 'n1', there.metadata.uid), await leased('10.1.0.64/26', 'n2')]
  const around = { nodes: [], blocks, networks: [blue], claims: [] }
  const removed = await removeStaleBlocks(kube, around)
  const left = (await kube.list(resources.addressBlocks)).items
  assert.deepEqual(
    [removed, left].map((list) => list.map((b) => b.spec.node)),
    [['n2'], ['n1']],
  )
  assert.deepEqual(await removeStaleBlocks(kube, around), [])
})
