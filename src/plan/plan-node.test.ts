import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import type { NamespacePlan, PortPlan } from './node-plan.ts'
import { planNode } from './plan-node.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

// Address plan: blue 10.1.0.0/16 and fd00:10:1::/64 on phy-net0 192.168.10.0/24; node n gets .n+10.

const closed = ['192.168.10.0/24', '169.254.0.0/16']

const blue = network('tenant-a', 'blue', 'blue-uid', {
  physicalNetwork: 'phy-net0',
  subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }],
})

function network(namespace: string, name: string, uid: string, spec: Network['spec'], vni = 4096): Network {
  return {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace, name, uid },
    spec,
    status: { vni, mtu: 1450 },
  }
}

const onN1 = (n: Network, more: Partial<NetworkView> = {}): NetworkView => ({
  network: n,
  place: 'own',
  wire: { nic: 'eth1', endpoint: '192.168.10.11', tunnelPort: 14790 },
  remotes: [
    { cidr: '10.1.0.64/26', endpoint: '192.168.10.12' },
    { cidr: 'fd00:10:1::40/122', endpoint: '192.168.10.12' },
  ],
  local: ['10.1.0.0/26'],
  peers: [],
  ...more,
})

const held = (more: Partial<HeldAttachment> = {}): HeldAttachment => ({
  networkUID: 'blue-uid',
  containerID: 'c1',
  interface: 'eth1',
  pod: 'tenant-a/web',
  netns: '/run/netns/web',
  addresses: [{ address: '10.1.0.7/16' }, { address: 'fd00:10:1::7/64' }],
  index: 1,
  ...more,
})

const namespaceText = (n: NamespacePlan): string[] => [
  ...n.links.map((l) =>
    l.kind === 'vxlan'
      ? `vxlan ${l.name} vni ${l.vni} port ${l.port} from ${l.local} by ${l.underlay} mac ${l.mac} mtu ${l.mtu}${l.bridge ? ` bridge ${l.bridge}` : ''}`
      : `${l.kind} ${l.name}`,
  ),
  ...n.addresses.map((a) => `address ${a.address} ${a.link}`),
  ...n.routes.map(
    (r) => `${r.blackhole ? 'blackhole' : 'route'} ${r.to} ${r.link}${r.via ? ` via ${r.via}` : ''}`,
  ),
  ...n.neighbours.map((e) => `neighbour ${e.address} ${e.mac} ${e.link}`),
  ...n.forwarding.map((e) => `forward ${e.mac} ${e.endpoint ?? ''} ${e.link}`),
]

const portText = (p: PortPlan): string[] => [
  `${p.key} in ${p.netns}: ${p.link.kind}`,
  `mac ${p.inside.mac} mtu ${p.inside.mtu}`,
  ...p.inside.addresses.map((a) => `inside address ${a}`),
  ...p.inside.routes.map(
    (r) =>
      `inside route ${r.to}${r.via ? ` via ${r.via}` : ''}${r.metric ? ` metric ${r.metric}` : ''}${r.table ? ` table ${r.table}` : ''}`,
  ),
  ...(p.inside.rules ?? []).map(
    (r) =>
      `inside rule ${r.priority} from ${r.from} table ${r.table ?? 'main'}${r.exceptDefault ? ' except default' : ''}`,
  ),
  ...p.inside.neighbours.map((n) => `inside neighbour ${n.address} ${n.mac}`),
  ...p.routes.map((r) => `route ${r.to}`),
  ...p.neighbours.map((n) => `neighbour ${n.address} ${n.mac}`),
  ...p.elements.map((e) => `${e.family} ${e.set} ${e.key.slice(1).join(' ')}`.trimEnd()),
]

test('a Layer3 network is a namespace with a tunnel, a neighbour per node and a route per block', () => {
  const [, own] = planNode({ closed, networks: [onN1(blue)], attachments: [] }).namespaces
  assert.equal(own!.netns, 'pn-ad64e92015c6')
  assert.deepEqual(namespaceText(own!), [
    'existing lo',
    'vxlan pnvx vni 4096 port 14790 from 192.168.10.11 by eth1 mac 0a:54:c0:a8:0a:0b mtu 1450',
    'existing pnup',
    'address 169.254.1.1/32 lo',
    'address 169.254.192.1/31 pnup',
    'address fd70:6f6c:796e:6574::1/127 pnup',
    'route 10.1.0.64/26 pnvx via fe80::a54:c0a8:a0c',
    'route fd00:10:1::40/122 pnvx via fe80::a54:c0a8:a0c',
    'route 0.0.0.0/0 pnup via 169.254.192.0',
    'route ::/0 pnup via fd70:6f6c:796e:6574::',
    'blackhole 10.1.0.0/16 lo',
    'blackhole fd00:10:1::/64 lo',
    'neighbour fe80::a54:c0a8:a0c 0a:54:c0:a8:0a:0c pnvx',
    'forward 0a:54:c0:a8:0a:0c 192.168.10.12 pnvx',
  ])
})

test('where the MTU is too small for IPv6, nodes stand for themselves behind the tunnel, if their addresses are of IPv4', () => {
  const spec = { ...blue.spec, subnets: [{ cidr: '10.1.0.0/16' }] }
  const small: Network = { ...blue, spec, status: { vni: 4096, mtu: 1279 } }
  const remotes = [
    { cidr: '10.1.0.64/26', endpoint: '192.168.10.12' },
    { cidr: '10.1.0.128/26', endpoint: 'fd00:10::12' },
  ]
  const attachments = [held({ addresses: [{ address: '10.1.0.7/16' }] })]
  const { namespaces, ports } = planNode({ closed, networks: [onN1(small, { remotes })], attachments })
  const [, own] = namespaces
  assert.deepEqual(
    namespaceText(own!).filter((line) => line.includes('pnvx') && !line.startsWith('vxlan')),
    [
      'route 10.1.0.64/26 pnvx via 192.168.10.12',
      'neighbour 192.168.10.12 0a:54:c0:a8:0a:0c pnvx',
      'forward 0a:54:c0:a8:0a:0c 192.168.10.12 pnvx',
    ],
  )
  assert.deepEqual(
    ports.map(({ inside }) => inside.sysctls),
    [{}],
  )
})

test('a pod of a Layer3 network has host addresses, one next hop and permanent neighbours on both sides', () => {
  const { ports } = planNode({ closed, networks: [onN1(blue)], attachments: [held()] })
  assert.deepEqual(ports.flatMap(portText), [
    'c1/eth1 in pn-ad64e92015c6: veth',
    'mac 0a:58:0a:01:00:07 mtu 1450',
    'inside address 10.1.0.7/32',
    'inside address fd00:10:1::7/128',
    'inside route 10.1.0.0/16 via 169.254.1.1 metric 1',
    'inside route fd00:10:1::/64 via fe80::1 metric 1',
    'inside route 10.1.0.0/16 via 169.254.1.1 table 8001',
    'inside route fd00:10:1::/64 via fe80::1 table 8001',
    'inside route 0.0.0.0/0 via 169.254.1.1 table 8001',
    'inside route ::/0 via fe80::1 table 8001',
    'inside rule 8001 from 10.1.0.7 table 8001 except default',
    'inside rule 8101 from 10.1.0.7 table main except default',
    'inside rule 8201 from 10.1.0.7 table 8001',
    'inside rule 8001 from fd00:10:1::7 table 8001 except default',
    'inside rule 8101 from fd00:10:1::7 table main except default',
    'inside rule 8201 from fd00:10:1::7 table 8001',
    'inside neighbour 169.254.1.1 0a:58:a9:fe:01:01',
    'inside neighbour fe80::1 0a:58:a9:fe:01:01',
    'route 10.1.0.7/32',
    'route fd00:10:1::7/128',
    'neighbour 10.1.0.7 0a:58:0a:01:00:07',
    'neighbour fd00:10:1::7 0a:58:0a:01:00:07',
    'inet links',
    'inet ports 0a:58:0a:01:00:07 10.1.0.7',
    'inet ports6 0a:58:0a:01:00:07 fd00:10:1::7',
  ])
})

test('the default route goes to the attachment that asks for it, by the gateway it asks for', () => {
  const routes = (more: Partial<HeldAttachment>) =>
    planNode({
      closed,
      networks: [onN1(blue)],
      attachments: [held({ index: 0, ...more })],
    }).ports[0]!.inside.routes.map((r) => `${r.to} via ${r.via}`)
  assert.deepEqual(routes({ defaultRoute: [] }), [
    '10.1.0.0/16 via 169.254.1.1',
    'fd00:10:1::/64 via fe80::1',
    '0.0.0.0/0 via 169.254.1.1',
    '::/0 via fe80::1',
  ])
  // A pod of one family gets routes of that family.
  assert.deepEqual(routes({ defaultRoute: [], addresses: [{ address: '10.1.0.7/16' }] }), [
    '10.1.0.0/16 via 169.254.1.1',
    '0.0.0.0/0 via 169.254.1.1',
  ])
})

test('two networks with the same subnet are two namespaces that share nothing', () => {
  const green = network('tenant-b', 'green', 'green-uid', { ...blue.spec }, 4097)
  const plan = planNode({
    closed,
    networks: [onN1(green), onN1(blue)],
    attachments: [held({ networkUID: 'green-uid', containerID: 'c2' }), held()],
  })
  assert.deepEqual(
    plan.namespaces.map((n) => n.netns),
    ['host', 'pn-ad64e92015c6', 'pn-f06cd61ccb5d'],
  )
  assert.deepEqual(
    plan.ports.map((p) => `${p.key} ${p.netns}`),
    ['c1/eth1 pn-ad64e92015c6', 'c2/eth1 pn-f06cd61ccb5d'],
  )
})

test('the default network is rendered in the host, beside the guard of the tunnel ports, in one table', () => {
  const [host] = planNode({ closed, networks: [onN1(blue, { place: 'host' })], attachments: [] }).namespaces
  assert.deepEqual(
    host!.tables.map((t) => `${t.family} ${t.name}: ${t.chains.map((c) => c.name).join(' ')}`),
    ['inet polynet: from-ports from-port ceiling outwards tunnels-leaving tunnelled'],
  )
  const peers = host!.tables[0]!.sets.find((s) => s.name === 'tunnel-peers')
  assert.deepEqual(peers!.elements, [{ key: ['eth1', '192.168.10.12', 14790] }])
})

test('the order of what is known changes nothing', () => {
  const red = network('tenant-a', 'red', 'red-uid', { subnets: [{ cidr: '10.2.0.0/16' }] }, 4098)
  const red1 = held({ networkUID: 'red-uid', containerID: 'c0', addresses: [{ address: '10.2.0.9/16' }] })
  const remotes = onN1(blue).remotes
  assert.deepEqual(
    planNode({ closed, networks: [onN1(blue), onN1(red)], attachments: [held(), red1] }),
    planNode({
      closed,
      networks: [onN1(red), onN1(blue, { remotes: remotes.toReversed() })],
      attachments: [red1, held()],
    }),
  )
})

test('a block that lies in none of the subnets leads nowhere', () => {
  const [, own] = planNode({
    closed,
    networks: [onN1(blue, { remotes: [{ cidr: '10.9.0.0/26', endpoint: '192.168.10.12' }] })],
    attachments: [],
  }).namespaces
  assert.deepEqual(
    own!.routes.filter((r) => r.link === 'pnvx'),
    [],
  )
  assert.deepEqual(own!.forwarding, [])
})

test('a Layer2 network floods to the nodes that hold addresses and knows where each MAC is', () => {
  const l2 = network('tenant-a', 'l2', 'l2-uid', {
    topology: 'Layer2',
    subnets: [{ cidr: '10.1.0.0/16' }],
  })
  const view = onN1(l2, {
    peers: [{ attachment: { ips: ['10.1.0.70'] }, endpoint: '192.168.10.12' }],
  })
  const plan = planNode({
    closed,
    networks: [view],
    attachments: [
      held({
        networkUID: 'l2-uid',
        addresses: [{ address: '10.1.0.7/16', gateway: '10.1.0.1' }],
        defaultRoute: [],
      }),
    ],
  })
  assert.deepEqual(namespaceText(plan.namespaces[1]!), [
    'existing lo',
    'bridge pnbr',
    'vxlan pnvx vni 4096 port 14790 from 192.168.10.11 by eth1 mac 0a:54:c0:a8:0a:0b mtu 1450 bridge pnbr',
    'existing pnup',
    'address 10.1.0.1/16 pnbr',
    'address 169.254.192.1/31 pnup',
    'route 0.0.0.0/0 pnup via 169.254.192.0',
    'blackhole 10.1.0.0/16 lo',
    'forward 00:00:00:00:00:00 192.168.10.12 pnvx',
    'forward 0a:58:0a:01:00:46 192.168.10.12 pnvx',
  ])
  assert.deepEqual(plan.ports.flatMap(portText).slice(2), [
    'inside address 10.1.0.7/16',
    'inside route 0.0.0.0/0 via 10.1.0.1 metric 1',
    'inside route 10.1.0.0/16 table 8001',
    'inside route 0.0.0.0/0 via 10.1.0.1 table 8001',
    'inside rule 8001 from 10.1.0.7 table 8001 except default',
    'inside rule 8101 from 10.1.0.7 table main except default',
    'inside rule 8201 from 10.1.0.7 table 8001',
    'bridge links',
    'bridge ports 0a:58:0a:01:00:07 10.1.0.7',
    'bridge arps 0a:58:0a:01:00:07 0a:58:0a:01:00:07 10.1.0.7',
  ])
})

test('a network that can have no tunnel now has nothing that hangs on one, and its port is not watched for it', () => {
  const tunnelled = (topology: 'Layer3' | 'Layer2', severed?: true) => {
    const it = network('tenant-a', 'blue', 'blue-uid', { ...blue.spec, topology })
    const peers = [{ attachment: { ips: ['10.1.0.65'] }, endpoint: '192.168.10.12' }]
    const { namespaces } = planNode({
      networks: [onN1(it, { ...(topology === 'Layer2' ? { peers } : {}), ...(severed ? { severed } : {}) })],
      attachments: [],
      closed,
    })
    const own = namespaces.find(({ netns }) => netns !== 'host')
    const on = [own?.links.map(({ name }) => ({ link: name })), own?.routes, own?.neighbours, own?.forwarding]
    const watched = namespaces.flatMap(({ tables }) => tables.flatMap(({ sets }) => sets))
    return [
      on.flat().filter((each) => each?.link === 'pnvx').length,
      watched.find(({ name }) => name === 'tunnel-ports')?.elements.length ?? 0,
    ]
  }
  assert.deepEqual(
    [
      ...[tunnelled('Layer3'), tunnelled('Layer3', true)],
      ...[tunnelled('Layer2'), tunnelled('Layer2', true)],
    ],
    [
      ...[
        [5, 1],
        [0, 0],
      ],
      ...[
        [3, 1],
        [0, 0],
      ],
    ],
  )
})

test('a Direct attachment sits on the NIC and is checked inside the pod', () => {
  const direct = network('tenant-a', 'direct', 'direct-uid', {
    topology: 'Direct',
    direct: { mode: 'macvlan' },
    subnets: [{ cidr: '192.168.10.0/24', gateway: '192.168.10.1' }],
  })
  const plan = planNode({
    closed,
    networks: [onN1(direct, { remotes: [] })],
    attachments: [held({ networkUID: 'direct-uid', addresses: [{ address: '192.168.10.77/24' }] })],
  })
  assert.deepEqual(
    plan.namespaces.map((n) => n.netns),
    ['host'],
  )
  assert.deepEqual(plan.ports[0]!.link, { kind: 'macvlan', parent: 'eth1', mode: 'bridge' })
  assert.deepEqual(plan.ports[0]!.inside.tables[0]!.sets[0]!.elements, [{ key: ['192.168.10.77'] }])
})

test("a pod's interface may send what its other interface on the network has, and nothing else changes", () => {
  const [port] = planNode({
    closed,
    networks: [onN1(blue)],
    attachments: [held({ siblings: ['10.1.0.8'] })],
  }).ports
  const [alone] = planNode({ closed, networks: [onN1(blue)], attachments: [held()] }).ports
  const more = portText(port!).filter((line) => !portText(alone!).includes(line))
  assert.deepEqual(more, ['inet ports 0a:58:0a:01:00:07 10.1.0.8'])
})
