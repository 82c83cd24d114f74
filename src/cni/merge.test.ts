import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mergeResults } from './merge.ts'
import type { CniResult } from './result.ts'

const netns = '/run/netns/web'

/** As go-cni, and with it containerd, sees a result: addresses by interface, those of none on eth0. */
function seenByRuntime({ interfaces = [], ips = [] }: CniResult): Record<string, string[]> {
  const seen: Record<string, string[]> = Object.fromEntries(interfaces.map((i) => [i.name, []]))
  for (const { address, interface: index } of ips) {
    assert(
      index === undefined || interfaces[index],
      `address ${address} is on interface ${index}, which is not listed`,
    )
    seen[index === undefined ? 'eth0' : interfaces[index]!.name]?.push(address)
  }
  return seen
}

// eth0 in the default network by a bridge plugin, net1 in network blue by Polynet, net2 in red by a plugin that lists no number.
const pod: CniResult[] = [
  {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'cni0' }, { name: 'veth1' }, { name: 'eth0', sandbox: netns }],
    ips: [
      { address: '10.244.0.5/24', gateway: '10.244.0.1', interface: 2 },
      { address: 'fd00:10:244::5/64', interface: 2 },
    ],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: { nameservers: ['10.96.0.10'], domain: 'cluster.local', search: ['cluster.local'] },
  },
  {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'net1', sandbox: netns }],
    ips: [{ address: '10.1.0.7/16', interface: 0 }],
    dns: { nameservers: ['10.1.0.53', '10.96.0.10'], domain: 'blue.example' },
  },
  {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0' }, { name: 'net2', sandbox: netns }],
    ips: [{ address: '10.2.0.7/16' }],
  },
]

test('a runtime finds each address at its interface, and the pod its addresses at eth0', () => {
  assert.deepEqual(seenByRuntime(mergeResults(pod)), {
    cni0: [],
    veth1: [],
    eth0: ['10.244.0.5/24', 'fd00:10:244::5/64'],
    net1: ['10.1.0.7/16'],
    net2: ['10.2.0.7/16'],
  })
})

test('the merged result has everything once, renumbered', () => {
  assert.deepEqual(mergeResults(pod), {
    cniVersion: '1.1.0',
    interfaces: [
      { name: 'cni0' },
      { name: 'veth1' },
      { name: 'eth0', sandbox: netns },
      { name: 'net1', sandbox: netns },
      { name: 'net2', sandbox: netns },
    ],
    ips: [
      { address: '10.244.0.5/24', gateway: '10.244.0.1', interface: 2 },
      { address: 'fd00:10:244::5/64', interface: 2 },
      { address: '10.1.0.7/16', interface: 3 },
      { address: '10.2.0.7/16', interface: 4 },
    ],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: { nameservers: ['10.96.0.10', '10.1.0.53'], domain: 'cluster.local', search: ['cluster.local'] },
  })
})

test('one result alone is itself; none is an empty one', () => {
  assert.deepEqual(mergeResults([pod[0]!]), pod[0])
  assert.deepEqual(mergeResults([]), { cniVersion: '1.1.0' })
})
