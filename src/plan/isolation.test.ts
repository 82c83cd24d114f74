import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import { newConnections, openConnections } from './ceiling.ts'
import { portName, uplinkName } from './names.ts'
import { planNode } from './plan-node.ts'
import type { Table } from './ruleset.ts'
import { freshState, type Hook, type Packet, trace } from './trace.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

// Networks blue (Layer3) and flat (Layer2), 10.1.0.0/16 and fd00:10:1::/64 both, on node n1; n2 is 192.168.10.12.
// Pod web of blue is 10.1.0.7 behind its port; a pod of flat is 10.1.0.9.

const network = (uid: string, vni: number, topology?: 'Layer2'): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace: 'tenant-a', name: uid, uid },
  spec: { subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }], ...(topology ? { topology } : {}) },
  status: { vni, mtu: 1450 },
})

const onN1 = (n: Network): NetworkView => ({
  network: n,
  place: 'own',
  wire: { nic: 'eth1', endpoint: '192.168.10.11', tunnelPort: 14790 },
  remotes: [{ cidr: '10.1.0.64/26', endpoint: '192.168.10.12' }],
  local: ['10.1.0.0/26'],
  peers: [],
})

const held = (uid: string, containerID: string, v4: string, v6: string): HeldAttachment => ({
  networkUID: uid,
  containerID,
  interface: 'eth0',
  pod: `tenant-a/${containerID}`,
  netns: `/run/netns/${containerID}`,
  addresses: [{ address: `${v4}/16` }, { address: `${v6}/64` }],
  defaultRoute: [],
  index: 0,
})

const plan = planNode({
  networks: [onN1(network('blue', 4096)), onN1(network('flat', 4097, 'Layer2'))],
  attachments: [
    held('blue', 'web', '10.1.0.7', 'fd00:10:1::7'),
    held('flat', 'cam', '10.1.0.9', 'fd00:10:1::9'),
  ],
  closed: ['10.244.0.0/16', '169.254.0.0/16', '192.168.10.0/24', 'fd00:10:244::/56'],
})

/** The tables of a namespace with the elements of its ports, as the kernel has them. */
function tablesOf(netns: string): Table[] {
  const elements = plan.ports.filter((p) => p.netns === netns).flatMap((p) => p.elements)
  return (plan.namespaces.find((n) => n.netns === netns)?.tables ?? []).map((table) => ({
    ...table,
    sets: table.sets.map((set) => ({
      ...set,
      elements: [...set.elements, ...elements.filter((e) => e.family === table.family && e.set === set.name)],
    })),
  }))
}

const [blue, flat] = ['web/eth0', 'cam/eth0'].map((key) => plan.ports.find((p) => p.key === key)?.netns ?? '')
const webPort = portName('web/eth0')
const camPort = portName('cam/eth0')
const webMac = '0a:58:0a:01:00:07'
const camMac = '0a:58:0a:01:00:09'
const arriving: Hook = { family: 'inet', hook: 'prerouting' }

const udp = (saddr: string, daddr: string, more: Partial<Packet> = {}): Packet => ({
  ether: { saddr: webMac, daddr: '0a:58:a9:fe:01:01' },
  ip: { saddr, daddr },
  l4proto: 'udp',
  sport: 1234,
  dport: 53,
  ctState: 'new',
  ...more,
})

const layer3: [string, string, Packet][] = [
  ['accept', 'its own address', udp('10.1.0.7', '10.1.0.70')],
  ['accept', 'its own IPv6 address', udp('fd00:10:1::7', 'fd00:10:1::70')],
  ['drop', "another pod's address", udp('10.1.0.8', '10.1.0.70')],
  ['drop', "another pod's IPv6 address", udp('fd00:10:1::8', 'fd00:10:1::70')],
  ['drop', 'a link-local source', udp('fe80::7', 'fd00:10:1::70')],
  ['drop', 'another MAC', udp('10.1.0.7', '10.1.0.70', { ether: { saddr: camMac, daddr: webMac } })],
  [
    'drop',
    'a router advertisement of its own address',
    udp('fd00:10:1::7', 'ff02::1', { l4proto: 'icmpv6', icmpType: 'nd-router-advert' }),
  ],
]
for (const [want, what, packet] of layer3)
  test(`Layer3: a pod that sends ${what}: ${want}`, () => {
    assert.equal(trace(tablesOf(blue!), { ...packet, iifname: webPort }, arriving).verdict, want)
  })

test('Layer3: what comes out of the tunnel is not held to ports', () => {
  assert.equal(
    trace(tablesOf(blue!), { ...udp('10.1.0.70', '10.1.0.7'), iifname: 'pnvx' }, arriving).verdict,
    'accept',
  )
})

const own = { saddr: camMac, daddr: 'ff:ff:ff:ff:ff:ff' }
const arp = (senderMac: string, senderIp: string): Packet => ({
  ether: own,
  arp: { operation: 'request', senderMac, senderIp, targetIp: '10.1.0.10' },
})
const advert = (target: string): Packet => ({
  ...udp('fd00:10:1::9', 'ff02::1', { l4proto: 'icmpv6', icmpType: 'nd-neighbor-advert', target }),
  ether: own,
})
const layer2: [string, string, Packet][] = [
  ['accept', 'its own address', { ...udp('10.1.0.9', '10.1.0.10'), ether: own }],
  ['drop', "another pod's address", { ...udp('10.1.0.10', '10.1.0.11'), ether: own }],
  ['accept', 'ARP of itself', arp(camMac, '10.1.0.9')],
  ['drop', "ARP in another's name", arp(camMac, '10.1.0.10')],
  ['drop', "ARP with another's MAC inside", arp(webMac, '10.1.0.9')],
  ['drop', 'a DHCP answer', { ...udp('10.1.0.9', '255.255.255.255', { sport: 67, dport: 68 }), ether: own }],
  [
    'drop',
    'a router advertisement',
    {
      ...udp('fe80::858:aff:fe01:9', 'ff02::1', { l4proto: 'icmpv6', icmpType: 'nd-router-advert' }),
      ether: own,
    },
  ],
  [
    'accept',
    'neighbour discovery from its link-local address',
    {
      ...udp('fe80::858:aff:fe01:9', 'ff02::1', { l4proto: 'icmpv6', icmpType: 'nd-neighbor-solicit' }),
      ether: own,
    },
  ],
  ['accept', 'an answer for its own address', advert('fd00:10:1::9')],
  ['accept', 'an answer for its link-local address', advert('fe80::858:aff:fe01:9')],
  ['drop', "an answer for another's address", advert('fd00:10:1::10')],
  ['drop', "an answer for the gateway's address", advert('fd00:10:1::1')],
  ['drop', 'what is neither IP nor ARP', { ether: own }],
]
for (const [want, what, packet] of layer2)
  test(`Layer2: a pod that sends ${what}: ${want}`, () => {
    const hook: Hook = { family: 'bridge', hook: 'prerouting' }
    assert.equal(trace(tablesOf(flat!), { ...packet, iifname: camPort }, hook).verdict, want)
  })

test("Layer2: the gateway's MAC does not cross the tunnel", () => {
  const packet = { ...udp('10.1.0.1', '10.1.0.70'), ether: { saddr: '0a:58:a9:fe:01:01', daddr: own.daddr } }
  const hook: Hook = { family: 'bridge', hook: 'postrouting' }
  assert.equal(trace(tablesOf(flat!), { ...packet, oifname: 'pnvx' }, hook).verdict, 'drop')
  assert.equal(trace(tablesOf(flat!), { ...packet, oifname: camPort }, hook).verdict, 'accept')
})

const upFrom = (daddr: string, more: Partial<Packet> = {}): Packet =>
  udp('169.254.192.1', daddr, { iifname: uplinkName('blue'), ...more })
const uplink: [string, string, Packet][] = [
  ['accept', 'the internet', upFrom('203.0.113.1')],
  ['drop', 'the host', upFrom('192.168.1.11', { daddrType: 'local' })],
  ['drop', "a node on the host's wires", upFrom('192.168.10.12')],
  ['drop', 'a pod of the default network', upFrom('10.244.3.4')],
  ['drop', 'the metadata address', upFrom('169.254.169.254')],
  ['drop', "another network's uplink", upFrom('169.254.192.3')],
  [
    'accept',
    'what the host asked for',
    upFrom('192.168.1.11', { daddrType: 'local', ctState: 'established' }),
  ],
]
for (const [want, what, packet] of uplink)
  test(`uplink: a packet to ${what}: ${want}`, () => {
    assert.equal(trace(tablesOf('host'), packet, arriving).verdict, want)
  })

const toBlue = (iifname: string, saddr: string, more: Partial<Packet> = {}): Packet =>
  udp(saddr, '10.1.0.7', { iifname, oifname: uplinkName('blue'), ...more })
const out = (daddr: string, more: Partial<Packet> = {}): Packet => upFrom(daddr, { oifname: 'eth1', ...more })
const forwarded: [string, string, Packet][] = [
  ['drop', "another network's pod to a pod of blue", toBlue(uplinkName('flat'), '169.254.192.3')],
  ['drop', 'a pod of the default network to a pod of blue', toBlue('pn0123456789ab', '10.244.0.7')],
  ['drop', 'another machine to a pod of blue', toBlue('eth1', '192.168.10.99')],
  ['accept', 'the answer to a pod of blue', toBlue('eth1', '203.0.113.1', { ctState: 'established' })],
  ['accept', 'a pod of blue to the internet', out('203.0.113.1')],
  ['drop', 'a pod of blue to a service, translated to a pod', out('10.244.3.4')],
  ['drop', 'a pod of blue to a service, translated to a node', out('192.168.10.12')],
  ['accept', 'a pod of blue that answers', out('192.168.10.12', { ctState: 'established' })],
  ['accept', 'what no network has to do with', udp('10.244.0.7', '10.244.3.4', { oifname: 'pnvx' })],
]
for (const [want, what, packet] of forwarded)
  test(`forwarded by the host, ${what}: ${want}`, () => {
    assert.equal(trace(tablesOf('host'), packet, { family: 'inet', hook: 'forward' }).verdict, want)
  })

test('a service that is translated to the host itself is no way from a network to the host', () => {
  const hook: Hook = { family: 'inet', hook: 'input' }
  const translated = upFrom('192.168.1.11', { daddrType: 'local' })
  assert.equal(trace(tablesOf('host'), translated, hook).verdict, 'drop')
  assert.equal(trace(tablesOf('host'), { ...translated, ctState: 'established' }, hook).verdict, 'accept')
  assert.equal(trace(tablesOf('host'), { ...translated, iifname: 'eth1' }, hook).verdict, 'accept')
})

for (const netns of [blue, flat])
  test(`uplink: an address that nobody has does not leave ${netns === blue ? 'a Layer3' : 'a Layer2'} network`, () => {
    const routes = plan.namespaces.find((n) => n.netns === netns)!.routes
    assert.deepEqual(
      routes.filter(({ blackhole }) => blackhole).map(({ to, link, metric }) => `${to} ${link} ${metric}`),
      ['10.1.0.0/16 lo 10000', 'fd00:10:1::/64 lo 10000'],
    )
  })

const within: [tracked: boolean, what: string, packet: Packet][] = [
  [false, 'from pod to pod', udp('10.1.0.7', '10.1.0.70', { iifname: webPort })],
  [false, 'from pod to pod, IPv6', udp('fd00:10:1::7', 'fd00:10:1::70', { iifname: webPort })],
  [false, 'from another node', udp('10.1.0.70', '10.1.0.7', { iifname: 'pnvx' })],
  [false, 'from another node, IPv6', udp('fd00:10:1::70', 'fd00:10:1::7', { iifname: 'pnvx' })],
  [false, 'from the host to a pod', udp('169.254.192.0', '10.1.0.7', { iifname: 'pnup' })],
  [false, 'from the host to a pod, IPv6', udp('fd70::', 'fd00:10:1::7', { iifname: 'pnup' })],
  [true, 'from a pod to the outside', udp('10.1.0.7', '203.0.113.1', { iifname: webPort })],
  [true, 'from a pod to the outside, IPv6', udp('fd00:10:1::7', '2001:db8::1', { iifname: webPort })],
  [true, 'from the outside to a pod', udp('203.0.113.1', '169.254.192.1', { iifname: 'pnup' })],
]
for (const [tracked, what, packet] of within)
  test(`Layer3: what goes ${what} is ${tracked ? '' : 'not '}tracked`, () => {
    const { verdict, notrack = false } = trace(tablesOf(blue!), packet, arriving)
    assert.deepEqual([verdict, notrack], ['accept', !tracked])
  })

test('a packet that is not the first of its connection meets no ceiling', () => {
  for (const netns of ['host', blue!, flat!])
    for (const { name, base } of tablesOf(netns).flatMap(({ chains }) => chains))
      if (name === 'ceiling') assert.equal(base?.type, 'nat')
})

test('frames of a Layer2 network pass no rules of a router', () => {
  const { sysctls } = plan.namespaces.find((n) => n.netns === flat)!
  assert.deepEqual(
    Object.entries(sysctls).filter(([name]) => name.startsWith('bridge/')),
    ['iptables', 'ip6tables', 'arptables'].map((tables) => [`bridge/bridge-nf-call-${tables}`, '0']),
  )
})

const tunnel = (iifname: string, saddr: string, more: Partial<Packet> = {}): Packet =>
  udp(saddr, '192.168.10.11', { iifname, dport: 14790, ...more })
const tunnels: [string, string, Packet][] = [
  ['accept', 'another node by the right NIC', tunnel('eth1', '192.168.10.12')],
  ['drop', 'another node by the wrong NIC', tunnel('eth0', '192.168.10.12')],
  ['drop', 'a stranger by the right NIC', tunnel('eth1', '192.168.10.99')],
  ['drop', 'a pod of a logical network', tunnel(uplinkName('blue'), '169.254.192.1')],
  ['drop', 'a stranger, with an identifier of networks', tunnel('eth1', '192.168.10.99', { vni: 4096 })],
  ['drop', 'a stranger, with one of networks to come', tunnel('eth1', '192.168.10.99', { vni: 70000 })],
  ['accept', "another program's tunnel on that port", tunnel('eth0', '192.168.1.99', { vni: 1 })],
]
const home = { ...network('home', 4098), spec: { subnets: [{ cidr: '10.244.0.0/16' }] } }
const ofHome = planNode({
  networks: [onN1(network('blue', 4096)), { ...onN1(home), place: 'host' }],
  attachments: [],
  closed: [],
}).namespaces[0]!.tables
for (const [want, what, packet] of tunnels)
  test(`tunnel port: a packet from ${what}: ${want}`, () => {
    for (const tables of [tablesOf('host'), ofHome]) {
      const seen = trace(tables, packet, arriving)
      assert.equal(seen.verdict, want)
      assert.equal(seen.notrack ?? false, want === 'accept' && packet.vni !== 1)
    }
  })

test('a pod that opens connections without end is held to a ceiling, and others are not', () => {
  const state = freshState(0)
  const tables = tablesOf(blue!)
  const open = (iifname: string, saddr: string, sport: number, more: Partial<Packet> = {}) =>
    trace(tables, { ...udp(saddr, '203.0.113.1', { sport }), iifname, ...more }, arriving, state).verdict
  const burst = () =>
    Array.from({ length: 10_000 }, (_, i) => open(webPort, '10.1.0.7', state.nowMs + i)).filter(
      (v) => v === 'accept',
    ).length
  assert.equal(burst(), newConnections.burst)
  assert.equal(open('pnvx', '10.1.0.70', 1), 'accept')
  // What nobody answers stays new, and is one connection.
  assert.equal(open(webPort, '10.1.0.7', 1, { ctConfirmed: true }), 'accept')
  let opened = newConnections.burst
  for (let pause = 0; pause < 15; pause++) {
    state.nowMs += 100_000
    opened += burst()
  }
  assert.equal(opened, openConnections.inAll)
  assert.equal(open(webPort, '10.1.0.7', 0), 'drop')
  assert.equal(open('pnvx', '10.1.0.70', 1), 'accept')
})
