import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planNode } from './plan-node.ts'
import { freshState, type Packet, trace } from './trace.ts'

const [host] = planNode({
  closed: [],
  attachments: [],
  networks: [
    {
      network: {
        apiVersion: 'polynet.dev/v1alpha1',
        kind: 'Network',
        metadata: { namespace: 'polynet-system', name: 'default', uid: 'default' },
        spec: { subnets: [{ cidr: '10.244.0.0/16' }, { cidr: 'fd00:10:244::/56' }] },
        status: { vni: 4096, mtu: 1450 },
      },
      place: 'host',
      wire: { nic: 'eth0', endpoint: '192.168.1.11', tunnelPort: 14789 },
      remotes: [],
      local: ['10.244.0.0/26'],
      peers: [],
    },
  ],
}).namespaces

const cases: [what: string, saddr: string, daddr: string, translated: boolean][] = [
  ['a pod to the outside', '10.244.0.5', '203.0.113.1', true],
  ['a pod to the API server', '10.244.0.5', '192.168.1.10', true],
  ['a pod to a pod of another node', '10.244.0.5', '10.244.9.9', false],
  ['a pod to a group', '10.244.0.5', '224.0.0.251', false],
  ['the node to a pod', '192.168.1.11', '10.244.9.9', false],
  ['the node to the outside', '192.168.1.11', '203.0.113.1', false],
  ['a pod to the outside, IPv6', 'fd00:10:244::5', '2001:db8::1', true],
  ['a pod to a pod, IPv6', 'fd00:10:244::5', 'fd00:10:244:0:1::9', false],
  ['a pod to a group, IPv6', 'fd00:10:244::5', 'ff02::fb', false],
]

for (const [what, saddr, daddr, translated] of cases)
  test(`${what} goes by ${translated ? "the node's address" : 'its own address'}`, () => {
    const packet: Packet = {
      ether: { saddr: '0a:58:0a:f4:00:05', daddr: '0a:58:a9:fe:01:01' },
      ip: { saddr, daddr },
      l4proto: 'udp',
      sport: 1234,
      dport: 53,
      oifname: 'eth0',
    }
    const seen = trace(host!.tables, packet, { family: 'inet', hook: 'postrouting' }, freshState())
    assert.equal(seen.masquerade ?? false, translated)
  })
