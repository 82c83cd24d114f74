import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HostPhysicalNetwork, Nic } from '../api/host-physical-network.ts'
import { apiVersionOf } from '../api/meta.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { resources } from '../api/resources.ts'
import type { PortHolder } from './foreign-tunnel.ts'
import { hostStatus, mappingsFor } from './wire.ts'

const labels = { 'kubernetes.io/hostname': 'n1', rack: 'a' }

const nics: Nic[] = [
  {
    name: 'eth0',
    mac: '0a:58:c0:a8:01:0b',
    mtu: 1500,
    up: true,
    driver: 'virtio_net',
    addresses: ['192.168.1.11/24'],
  },
  {
    name: 'eth1',
    mac: '0a:58:c0:a8:0a:0b',
    mtu: 1500,
    up: true,
    driver: 'ixgbe',
    pciAddress: '0000:3b:00.0',
    addresses: ['fe80::1/64', '192.168.10.11/24'],
  },
  {
    name: 'eth2',
    mac: '0a:58:c0:a8:14:0b',
    mtu: 9000,
    up: true,
    driver: 'ixgbe',
    pciAddress: '0000:3b:00.1',
    addresses: ['169.254.3.4/16', 'fd00:20::11/64'],
  },
  { name: 'eth3', mac: '0a:58:00:00:00:03', mtu: 1500, up: false, addresses: ['192.168.30.11/24'] },
  { name: 'eth4', mac: '0a:58:00:00:00:04', mtu: 1500, up: true, addresses: ['fe80::4/64'] },
]

const wire = (name: string, spec: PhysicalNetwork['spec']): PhysicalNetwork => ({
  apiVersion: apiVersionOf(resources.physicalNetworks),
  kind: 'PhysicalNetwork',
  metadata: { name },
  spec,
})

const host = (...mappings: NonNullable<HostPhysicalNetwork['spec']['mappings']>): HostPhysicalNetwork => ({
  apiVersion: apiVersionOf(resources.hostPhysicalNetworks),
  kind: 'HostPhysicalNetwork',
  metadata: { name: 'n1' },
  spec: { mappings },
})

const shown = (wires: PhysicalNetwork[], own?: HostPhysicalNetwork, tunnels: PortHolder[] = []): string[] =>
  mappingsFor(wires, own, nics, labels, tunnels).map((m) =>
    m.usable
      ? `${m.physicalNetwork} ${m.nic} ${m.address} ${m.mtu}`
      : `${m.physicalNetwork} ${m.nic ?? '-'}: ${m.message}`,
  )

const rules: [title: string, spec: PhysicalNetwork['spec'], want: string[]][] = [
  ['by name', { nics: [{ match: { name: 'eth1' } }] }, ['phy-net0 eth1 192.168.10.11 1500']],
  [
    'by name glob and driver together',
    { nics: [{ match: { name: 'eth?', driver: 'virtio_net' } }] },
    ['phy-net0 eth0 192.168.1.11 1500'],
  ],
  [
    'by PCI address, over IPv6 where there is no IPv4 but a link-local one',
    { nics: [{ match: { pciAddress: '0000:3b:00.1' } }] },
    ['phy-net0 eth2 fd00:20::11 9000'],
  ],
  [
    'by MAC in any spelling',
    { nics: [{ match: { mac: '0A-58-C0-A8-0A-0B' } }] },
    ['phy-net0 eth1 192.168.10.11 1500'],
  ],
  [
    'by the first rule that selects the node',
    {
      nics: [
        { nodeSelector: { matchLabels: { rack: 'b' } }, match: { name: 'eth0' } },
        { nodeSelector: { matchLabels: { rack: 'a' } }, match: { name: 'eth1' } },
        { match: { name: 'eth2' } },
      ],
    },
    ['phy-net0 eth1 192.168.10.11 1500'],
  ],
  [
    'with the MTU of the wire where the NIC carries more',
    { mtu: 4000, nics: [{ match: { name: 'eth2' } }] },
    ['phy-net0 eth2 fd00:20::11 4000'],
  ],
  [
    'not at all where no rule selects the node',
    { nics: [{ nodeSelector: { matchLabels: { rack: 'b' } }, match: { name: 'eth0' } }] },
    [],
  ],
  ['not at all without a rule', {}, []],
  [
    'not by a NIC that is not there',
    { nics: [{ match: { name: 'eth9' } }] },
    [
      'phy-net0 -: no NIC has name eth9 (there are: eth0, eth1, eth2, eth3, eth4); correct spec.nics[0].match of PhysicalNetwork phy-net0, or plug it in',
    ],
  ],
  [
    'not by a dot that would be a wildcard',
    { nics: [{ match: { name: 'eth.' } }] },
    [
      'phy-net0 -: no NIC has name eth. (there are: eth0, eth1, eth2, eth3, eth4); correct spec.nics[0].match of PhysicalNetwork phy-net0, or plug it in',
    ],
  ],
  [
    'not by one of two that match',
    { nics: [{ match: { driver: 'ixgbe' } }] },
    [
      'phy-net0 -: eth1 and eth2 have driver ixgbe; narrow spec.nics[0].match of PhysicalNetwork phy-net0 to one',
    ],
  ],
  [
    'not by a NIC that is down',
    { nics: [{ match: { name: 'eth3' } }] },
    ['phy-net0 eth3: eth3 is down; set it up (ip link set eth3 up) and see whether its cable is in'],
  ],
  [
    'by a NIC without an address, for what needs no tunnels',
    { nics: [{ match: { name: 'eth4' } }] },
    ['phy-net0 eth4 undefined 1500'],
  ],
  [
    'not by a NIC that carries less than the wire',
    { mtu: 9000, nics: [{ match: { name: 'eth1' } }] },
    [
      'phy-net0 eth1: eth1 carries packets of 1500 bytes and spec.mtu of PhysicalNetwork phy-net0 says 9000; raise the one (ip link set eth1 mtu 9000) or lower the other',
    ],
  ],
]

for (const [title, spec, want] of rules)
  test(`a NIC reaches a physical network ${title}`, () =>
    assert.deepEqual(shown([wire('phy-net0', spec)]), want))

const both = [
  wire('phy-net1', { nics: [{ match: { name: 'eth2' } }] }),
  wire('phy-net0', { nics: [{ match: { name: 'eth0' } }] }),
]

test("the host's own mapping wins over the rule of the physical network, and others keep theirs", () =>
  assert.deepEqual(shown(both, host({ physicalNetwork: 'phy-net0', match: { name: 'eth1' } })), [
    'phy-net0 eth1 192.168.10.11 1500',
    'phy-net1 eth2 fd00:20::11 9000',
  ]))

test("the host's own mapping wins also where it matches nothing", () =>
  assert.deepEqual(shown([both[1]!], host({ physicalNetwork: 'phy-net0', match: { name: 'eth7' } })), [
    'phy-net0 -: no NIC has name eth7 (there are: eth0, eth1, eth2, eth3, eth4); correct spec.mappings[0].match of HostPhysicalNetwork n1, or plug it in',
  ]))

test('a mapping to a physical network that does not exist is named', () =>
  assert.deepEqual(shown([], host({ physicalNetwork: 'phy-net7', match: { name: 'eth1' } })), [
    'phy-net7 -: PhysicalNetwork phy-net7 does not exist; create it, or take the mapping out of HostPhysicalNetwork n1',
  ]))

const others: PortHolder[] = [
  { name: 'flannel.1', port: 8472, vni: 1, families: [4], plain: true },
  { name: 'vxlan.calico', port: 4789, vni: 4096, families: [4], plain: true },
  { name: 'cilium_vxlan', port: 8473, vni: 0, families: [4, 6], plain: false },
  { name: 'gbp6', port: 8474, vni: 9, families: [6], plain: false },
  { name: 'dnsmasq (process 812)', port: 14791, families: [4] },
  { port: 14792, families: [4, 6] },
  { name: 'named (process 813)', port: 14793, families: [6] },
]
const remedy =
  'give that another port, or use a PhysicalNetwork with another spec.tunnelPort than phy-net0 has'
const ports: [title: string, nic: string, port: number, want: string][] = [
  ['that nobody has', 'eth1', 14790, 'phy-net0 eth1 192.168.10.11 1500'],
  ['that a program has', 'eth1', 14791, `phy-net0 eth1: dnsmasq (process 812) has UDP port 14791; ${remedy}`],
  [
    'that nobody shows to have',
    'eth1',
    14792,
    `phy-net0 eth1: a program (ss -lunpe sport = :14792 may know which) has UDP port 14792; ${remedy}`,
  ],
  ['that a program has for the other family', 'eth1', 14793, 'phy-net0 eth1 192.168.10.11 1500'],
  ['that a plain device shares', 'eth1', 8472, 'phy-net0 eth1 192.168.10.11 1500'],
  [
    "of a device with a network's identifier",
    'eth1',
    4789,
    `phy-net0 eth1: vxlan.calico has VXLAN identifier 4096 on UDP port 4789, and from 4096 on they are for networks; ${remedy}`,
  ],
  ['that the other family has', 'eth2', 4789, 'phy-net0 eth2 fd00:20::11 9000'],
  [
    'of a device that shares with nobody',
    'eth1',
    8473,
    `phy-net0 eth1: cilium_vxlan has UDP port 8473 for itself and shares it with no other VXLAN device; ${remedy}`,
  ],
  ['of such a device of the other family', 'eth1', 8474, 'phy-net0 eth1 192.168.10.11 1500'],
]
for (const [title, name, tunnelPort, want] of ports)
  test(`a physical network with a tunnel port ${title}`, () => {
    for (const given of ['spec', 'status'] as const) {
      const physical = wire('phy-net0', { nics: [{ match: { name } }] })
      physical[given] = { ...physical[given], tunnelPort }
      assert.deepEqual(shown([physical], undefined, others), [want])
    }
  })

test('the status sums NICs and mappings up for people', () => {
  const mappings = mappingsFor(
    both,
    host({ physicalNetwork: 'phy-net1', match: { name: 'eth7' } }),
    nics,
    labels,
  )
  const { nicNames, mapped } = hostStatus(nics, mappings)
  assert.deepEqual([nicNames, mapped], ['eth0,eth1,eth2,eth3,eth4', 'phy-net0=eth0,phy-net1=none'])
})
