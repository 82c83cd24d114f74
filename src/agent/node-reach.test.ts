import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Node } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { reachOf, sayReach } from './node-reach.ts'

const node: Node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } },
  spec: {},
  status: { addresses: [{ type: 'InternalIP', address: '192.168.1.11' }], capacity: { cpu: '2' } },
}
const mapping = (physicalNetwork: string, usable: boolean, address?: string) => ({
  physicalNetwork,
  usable,
  ...(address && { address }),
})

test('a node reaches what its NICs carry now, and what a pod has taken with it', () => {
  const mappings = [
    mapping('management', true, '192.168.1.11'),
    mapping('phy-net0', true, '192.168.10.11'),
    mapping('phy-net1', false),
    mapping('phy-net2', false),
  ]
  assert.deepEqual(reachOf(node, mappings, new Set(['phy-net2'])), {
    labels: {
      'physical.polynet.dev/management': 'true',
      'physical.polynet.dev/phy-net0': 'true',
      'physical.polynet.dev/phy-net2': 'true',
    },
    // The node's own NIC is no pod's.
    nics: { 'nic.polynet.dev/phy-net0': '1', 'nic.polynet.dev/phy-net2': '1' },
  })
})

test('a Node says what it reaches, and nobody writes what it says already', async () => {
  const kube = new MemoryKube()
  await kube.create(resources.nodes, node)
  await kube.update(resources.nodes, node, 'status')
  const said = async (...names: string[]) => {
    const current = await kube.get(resources.nodes, { name: 'n1' })
    const mappings = names.map((name) => mapping(name, true))
    await sayReach(kube, current, reachOf(current, mappings, new Set()))
    const { metadata, status } = await kube.get(resources.nodes, { name: 'n1' })
    return { version: metadata.resourceVersion, labels: metadata.labels, ...status, addresses: undefined }
  }
  const both = await said('phy-net0', 'phy-net1')
  const nics = { 'nic.polynet.dev/phy-net0': '1', 'nic.polynet.dev/phy-net1': '1' }
  assert.deepEqual(both, {
    version: both.version,
    addresses: undefined,
    labels: {
      'kubernetes.io/hostname': 'n1',
      'physical.polynet.dev/phy-net0': 'true',
      'physical.polynet.dev/phy-net1': 'true',
    },
    capacity: { cpu: '2', ...nics },
    allocatable: nics,
  })
  assert.equal((await said('phy-net0', 'phy-net1')).version, both.version)
  const { labels, capacity, allocatable } = await said()
  assert.deepEqual([labels, capacity, allocatable], [{ 'kubernetes.io/hostname': 'n1' }, { cpu: '2' }, {}])
})
