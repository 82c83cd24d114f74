import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../api/address-block.ts'
import type { HostPhysicalNetwork, NicMapping } from '../api/host-physical-network.ts'
import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { candidates, lastSingles } from '../ipam/block.ts'
import { familiesOf, poolOf } from '../ipam/pool.ts'
import { type Usage, usageOf } from '../ipam/usage.ts'
import { formatPrefix } from '../lib/ip.ts'
import {
  addressesText,
  conditionsWith,
  isBesideTunnels,
  mtuFor,
  networkConfined,
  networkReady,
  physicalReady,
  type Surroundings,
} from './conditions.ts'

const blue = (spec: Network['spec'] = {}, status?: Network['status']): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { name: 'blue', namespace: 'tenant-a', uid: 'blue-uid' },
  spec: { physicalNetwork: 'phy-net0', subnets: [{ cidr: '10.1.0.0/24' }], ...spec },
  ...(status ? { status } : {}),
})

const phyNet0: PhysicalNetwork = {
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'PhysicalNetwork',
  metadata: { name: 'phy-net0' },
  spec: {},
}

const host = (name: string, mapping: Partial<NicMapping>): HostPhysicalNetwork => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'HostPhysicalNetwork',
  metadata: { name },
  spec: {},
  status: { mappings: [{ physicalNetwork: 'phy-net0', usable: true, ...mapping }] },
})

const n1 = host('n1', { nic: 'eth1', address: '192.168.10.11', mtu: 1500 })
const n2 = host('n2', { nic: 'eth1', address: '192.168.10.12', mtu: 9000 })
const tiny = host('n4', { nic: 'eth1', address: '192.168.10.14', mtu: 576 })
const down = host('n3', { usable: false, message: 'eth1 is down; set it up' })

const block = (cidr: string): AddressBlock => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AddressBlock',
  metadata: { name: cidr, namespace: 'tenant-a' },
  spec: { network: 'blue', networkUID: 'blue-uid', cidr, node: 'n1', nodeUID: 'n1-uid' },
})

const around = (more: Partial<Surroundings> = {}): Surroundings => ({
  physical: [phyNet0],
  hosts: [n1, n2],
  networks: [],
  usage: [],
  problems: [],
  ...more,
})

const appended = blue({ subnets: [{ cidr: '10.1.0.0/24' }, { cidr: '10.2.0.0/24' }] })
const dual = blue({ subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/116' }] })

/** The network's, when everything that nodes can lease is leased, as far as `isLeased` says so. */
function usage(network: Network, isLeased: (cidr: string) => boolean = () => true): Usage[] {
  const pool = poolOf(network)
  const all = familiesOf(pool).flatMap((family) => [
    ...candidates(pool, family, 'n1'),
    ...lastSingles(pool, family, 'n1'),
  ])
  return usageOf(
    pool,
    all.filter((prefix) => isLeased(formatPrefix(prefix))),
  )
}

const ready: [string, Network, Surroundings, number | undefined, string][] = [
  [
    'pods of a network that is deleted hold it',
    { ...blue(), metadata: { ...blue().metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } },
    around({ users: ['a/1', 'a/2', 'a/3', 'a/4', 'a/5', 'a/6'] }),
    4096,
    'False Deleting: is being deleted; it goes when pods a/1, a/2, a/3, a/4, a/5 and 1 more are gone',
  ],
  ['all is well', blue(), around(), 4096, 'True Ready: reached by 2 nodes'],
  [
    'a node does not reach the wire',
    blue(),
    around({ hosts: [n1, down] }),
    4096,
    'True NotOnEveryNode: reached by 1 of 2 nodes; node n3: eth1 is down; set it up',
  ],
  [
    'a node says that its NIC carries next to nothing',
    blue({}, { mtu: 1450 }),
    around({ hosts: [n1, tiny] }),
    4096,
    'True NotOnEveryNode: reached by 1 of 2 nodes; node n4: eth1 has an MTU of 576, too small for this network; give it at least 1330',
  ],
  [
    'all nodes say so',
    blue({}, { mtu: 526 }),
    around({ hosts: [tiny] }),
    4096,
    'True Ready: reached by 1 nodes',
  ],
  [
    'it is as small as what a node’s NIC leaves it',
    blue({ mtu: 576 }),
    around({ hosts: [n1, host('n4', { nic: 'eth1', address: '192.168.10.14', mtu: 626 })] }),
    4096,
    'True Ready: reached by 2 nodes',
  ],
  ['no node does', blue(), around({ hosts: [down] }), 4096, 'False NoNode: node n3: eth1 is down; set it up'],
  [
    'no agent has registered',
    blue(),
    around({ hosts: [] }),
    4096,
    'False NoNode: no node has registered yet; see whether the agents run',
  ],
  [
    'the NIC has no address for tunnels',
    blue(),
    around({ hosts: [host('n1', { nic: 'eth1', mtu: 1500 })] }),
    4096,
    'False NoNode: node n1: eth1 has no address that tunnels could start from; give it one (ip address add … dev eth1)',
  ],
  [
    'it needs no tunnels',
    blue({ topology: 'Direct' }),
    around({ hosts: [host('n1', { nic: 'eth1', mtu: 1500 })] }),
    undefined,
    'True Ready: reached by 1 nodes',
  ],
  [
    'its VLAN is not for networks',
    blue({ topology: 'Direct', direct: { mode: 'vlan' }, vlan: 7 }),
    around({ physical: [{ ...phyNet0, spec: { vlanRange: { min: 100, max: 199 } } }] }),
    undefined,
    'False VlanNotAllowed: spec.vlan: PhysicalNetwork phy-net0 has VLANs 100 to 199 for networks, not 7; choose one of those',
  ],
  [
    'no rule names a NIC',
    blue(),
    around({ hosts: [{ ...n1, status: { mappings: [] } }] }),
    4096,
    'False NoNode: no node maps a NIC to PhysicalNetwork phy-net0; give it spec.nics, or map it in a HostPhysicalNetwork',
  ],
  [
    'nodes have registered, but none maps a NIC to its wire',
    blue({ physicalNetwork: 'phy-net1' }),
    around({ physical: [phyNet0, { ...phyNet0, metadata: { name: 'phy-net1' } }] }),
    4096,
    'False NoNode: no node maps a NIC to PhysicalNetwork phy-net1; give it spec.nics, or map it in a HostPhysicalNetwork',
  ],
  [
    'its packets are to be larger than a wire carries',
    blue({ mtu: 9000 }, { mtu: 1450 }),
    around(),
    4096,
    'True MTULowered: reached by 2 nodes; spec.mtu: 9000 is more than the wires carry, so pods get 1450; make another Network with spec.mtu 1450, or none, or one after the NICs have more',
  ],
  [
    'its physical network is not there',
    blue({ physicalNetwork: 'phy-net9' }),
    around(),
    4096,
    'False PhysicalNetworkMissing: spec.physicalNetwork: PhysicalNetwork phy-net9 does not exist; create it or name one of: phy-net0',
  ],
  [
    'the spec is wrong',
    blue(),
    around({ problems: [{ path: 'spec.subnets[0].cidr', problem: 'is no prefix' }] }),
    4096,
    'False Invalid: spec.subnets[0].cidr: is no prefix',
  ],
  [
    'all blocks are leased, but not what goes out one by one',
    blue(),
    around({ usage: usage(blue(), (cidr) => !cidr.endsWith('/32')) }),
    4096,
    "True Exhausted: reached by 2 nodes; spec.subnets: all 60 IPv4 blocks are leased to nodes, so pods get only what is free in their node's, then the 15 that still go out one by one; append a subnet, delete pods that are not needed, or make another Network with smaller blocks (spec.blockSize)",
  ],
  [
    'all addresses are leased, and a node does not reach the wire',
    blue(),
    around({ usage: usage(blue()), hosts: [n1, down] }),
    4096,
    "True Exhausted: reached by 1 of 2 nodes; spec.subnets: all 60 IPv4 blocks are leased to nodes, so pods get only what is free in their node's; append a subnet, delete pods that are not needed, or make another Network with smaller blocks (spec.blockSize); node n3: eth1 is down; set it up",
  ],
  [
    'all but one block are leased',
    blue(),
    around({ usage: usage(blue(), (cidr) => cidr !== '10.1.0.4/30') }),
    4096,
    'True Ready: reached by 2 nodes',
  ],
  [
    'of two subnets one has blocks left',
    appended,
    around({ usage: usage(appended, (cidr) => cidr.startsWith('10.1.')) }),
    4096,
    'True Ready: reached by 2 nodes',
  ],
  [
    'of two families one has blocks left',
    dual,
    around({ usage: usage(dual, (cidr) => cidr.startsWith('10.1.')) }),
    4096,
    "True Exhausted: reached by 2 nodes; spec.subnets: all 960 IPv4 blocks are leased to nodes, so pods get only what is free in their node's; append a subnet, delete pods that are not needed, or make another Network with smaller blocks (spec.blockSize)",
  ],
  [
    'its addresses go out one by one, and all have',
    blue({ subnets: [{ cidr: '10.1.0.0/29' }] }),
    around({ usage: usage(blue({ subnets: [{ cidr: '10.1.0.0/29' }] })) }),
    4096,
    'True Exhausted: reached by 2 nodes; spec.subnets: all 6 IPv4 addresses are leased to nodes; append a subnet, or delete pods that are not needed',
  ],
  [
    'there is no identifier left',
    blue(),
    around(),
    undefined,
    'False NoIdentifier: all VXLAN identifiers are taken; delete networks that are not used',
  ],
  [
    'another plugin carries it',
    blue({ plugin: 'bridge' }),
    around({ hosts: [] }),
    undefined,
    'True Delegated: plugin bridge carries it',
  ],
]

for (const [title, network, surroundings, vni, want] of ready)
  test(`a network's Ready condition when ${title}`, () => {
    const { status, reason, message } = networkReady(network, surroundings, vni)
    assert.equal(`${status} ${reason}: ${message}`, want)
  })

const own = [1500, 1].map(
  (mtu, i): HostPhysicalNetwork => ({
    ...host(`n${i + 1}`, {}),
    status: {
      nics: [
        { name: 'eth0', mac: '02:00:00:00:00:01', mtu, up: true, addresses: [`192.168.1.1${i + 1}/24`] },
      ],
    },
  }),
)

const mtus: [string, Network, Partial<Surroundings>, number | undefined][] = [
  ['the smallest NIC less the tunnel', blue(), {}, 1450],
  [
    'over IPv6 the tunnel takes more',
    blue(),
    { hosts: [host('n1', { address: 'fd00::1', mtu: 1500 })] },
    1430,
  ],
  ['on the wire itself there is no tunnel', blue({ topology: 'Direct' }), {}, 1500],
  ['what the wire carries counts', blue(), { physical: [{ ...phyNet0, spec: { mtu: 1400 } }] }, 1350],
  ['the spec may ask for less', blue({ mtu: 1300 }), {}, 1300],
  ['but gets no more than there is', blue({ mtu: 9000 }), {}, 1450],
  ['once given, it stays', blue({}, { mtu: 1350 }), {}, 1350],
  ['one node with next to nothing lowers it for nobody', blue(), { hosts: [n1, tiny] }, 1450],
  [
    'nor does one whose NIC leaves just less than 1280',
    blue(),
    { hosts: [n1, host('n4', { address: '192.168.10.14', mtu: 1329 })] },
    1450,
  ],
  [
    'one that leaves 1280 does',
    blue(),
    { hosts: [n1, host('n4', { address: '192.168.10.14', mtu: 1330 })] },
    1280,
  ],
  ['nor one that the nodes’ own addresses carry', blue({ physicalNetwork: undefined }), { hosts: own }, 1450],
  ['where all have less, the smallest', blue(), { hosts: [tiny] }, 526],
  [
    'what no link takes is none',
    blue(),
    { hosts: [host('n4', { address: '192.168.10.14', mtu: 1 })] },
    undefined,
  ],
  [
    'the wire’s own is its administrator’s word',
    blue(),
    { physical: [{ ...phyNet0, spec: { mtu: 576 } }] },
    526,
  ],
  ['unknown while no node has registered', blue(), { hosts: [] }, undefined],
  ['unknown then also where the spec asks for one', blue({ mtu: 9000 }), { hosts: [] }, undefined],
]

for (const [title, network, more, want] of mtus)
  test(`MTU: ${title}`, () => assert.equal(mtuFor(network, around(more)), want))

test('a physical network says which nodes do not reach it', () => {
  const { usable, unusable, ready } = physicalReady(phyNet0, [n1, n2, down])
  assert.deepEqual([usable, unusable], [2, 1])
  assert.equal(ready.message, 'reached by 2 nodes; node n3: eth1 is down; set it up')
  assert.equal(physicalReady(phyNet0, []).ready.status, 'False')
})

test('addresses are counted by what is leased to nodes', () => {
  assert.equal(addressesText(blue(), [block('10.1.0.0/26')]), '64/256')
  assert.equal(addressesText(blue({ subnets: [{ cidr: 'fd00:10:1::/64' }] }), []), '0/2^64')
})

const confined: [string, Network, string][] = [
  ['routed', blue(), 'True CheckedOnNode'],
  ['a broadcast domain', blue({ topology: 'Layer2' }), 'True CheckedOnNode'],
  ['on the wire', blue({ topology: 'Direct' }), 'False CheckedInPod'],
  ['carried by another plugin', blue({ plugin: 'bridge' }), 'Unknown Delegated'],
]

for (const [title, network, want] of confined)
  test(`Confined: ${title}`, () => {
    const { status, reason } = networkConfined(network)
    assert.equal(`${status} ${reason}`, want)
  })

test('a Direct network is beside tunnels where another network has them on its wire, and no VLAN parts them', () => {
  const wire = blue({ topology: 'Direct' })
  const vlan = blue({ topology: 'Direct', direct: { mode: 'vlan' }, vlan: 7 })
  const elsewhere = blue({ physicalNetwork: 'phy-net1' })
  assert.equal(isBesideTunnels(wire, [wire, vlan, elsewhere, blue({ plugin: 'bridge' })]), false)
  assert.equal(isBesideTunnels(wire, [wire, blue()]), true)
  assert.equal(isBesideTunnels(vlan, [vlan, blue()]), false)
  assert.equal(isBesideTunnels(blue(), [blue()]), false)
  assert.equal(networkConfined(wire, true).reason, 'BesideTunnels')
})

test('a condition that does not change keeps its time', () => {
  const finding = { type: 'Ready', status: 'True' as const, reason: 'Ready', message: 'reached by 2 nodes' }
  const [first] = conditionsWith(undefined, [finding], 1, 'then')
  const [same] = conditionsWith([first!], [{ ...finding, message: 'reached by 3 nodes' }], 2, 'now')
  const [changed] = conditionsWith([first!], [{ ...finding, status: 'False' }], 2, 'now')
  assert.deepEqual(
    [first, same, changed].map((c) => `${c?.lastTransitionTime} ${c?.observedGeneration}`),
    ['then 1', 'then 2', 'now 2'],
  )
})
