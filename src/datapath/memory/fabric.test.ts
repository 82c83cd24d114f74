import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gatewayMac } from '../../lib/mac.ts'
import type { NamespacePlan, PortLink, PortPlan } from '../../plan/node-plan.ts'
import {
  blue,
  direct,
  flat,
  home,
  type NodeName,
  plan,
  podMac,
  port,
  red,
  type TestNetwork,
} from '../conformance-plan.ts'
import { memoryDatapath } from './datapath.ts'
import { MemoryFabric, type Sent } from './fabric.ts'

const nodes = ['n1', 'n2'] as const

/** Two nodes, `eth1` of both on phy-net0 and `eth2` on phy-net1, with pods `/blue1`, `/blue2` on n1 and `/blue3` on n2. */
function fabricWith(
  networks: TestNetwork[],
  more: { plan?: Partial<NamespacePlan>; nowMs?: () => number } = {},
): MemoryFabric {
  const fabric = new MemoryFabric(more.nowMs ?? (() => 0))
  fabric.addSwitch('phy-net0')
  fabric.addSwitch('phy-net1')
  for (const [i, node] of nodes.entries()) {
    fabric.addNode(node, [
      {
        name: 'eth1',
        mac: `02:00:00:00:01:0${i}`,
        mtu: 1500,
        addresses: [`192.168.10.${i + 11}/24`],
        switch: 'phy-net0',
      },
      {
        name: 'eth2',
        mac: `02:00:00:00:02:0${i}`,
        mtu: 1500,
        addresses: [`192.168.20.${i + 11}/24`],
        switch: 'phy-net1',
      },
    ])
    const ports: PortPlan[] = []
    for (const network of networks)
      for (const n of node === 'n1' ? [1, 2] : [3]) {
        fabric.addPodNamespace(`/${network.name}${n}`)
        ports.push(port(network, node, n, `/${network.name}${n}`))
      }
    const whole = plan(node, networks, ports)
    Object.assign(whole.namespaces[0] as NamespacePlan, more.plan)
    fabric.node(node).replace(whole)
  }
  return fabric
}

const udp = (daddr: string, more: Partial<Sent> & { saddr?: string; ttl?: number } = {}): Sent => {
  const { saddr, ttl, ...rest } = more
  return {
    l4proto: 'udp',
    dport: 7,
    ...rest,
    ip: { daddr, ...(saddr ? { saddr } : {}), ...(ttl ? { ttl } : {}) },
  }
}

const fates: [string, string, Sent, string, (fabric: MemoryFabric) => void][] = [
  [
    'forged source',
    '/blue1',
    udp('10.1.1.2', { saddr: '10.1.9.9' }),
    'dropped at n1/pn-blue: table inet polynet chain from-ports: not its MAC and address',
    () => {},
  ],
  ['nobody there', '/blue1', udp('10.1.1.99'), 'dropped at n1/pn-blue: no route to 10.1.1.99', () => {}],
  [
    'nobody there, switched',
    '/flat1',
    udp('10.2.1.99'),
    'dropped at /flat1: nobody on eth0 answers for 10.2.1.99',
    () => {},
  ],
  ['another network', '/blue1', udp('10.2.1.1'), 'dropped at /blue1: no route to 10.2.1.1', () => {}],
  [
    'too big',
    '/blue1',
    udp('10.1.1.2', { size: 1451 }),
    "dropped at /blue1: 1451 bytes are more than eth0's MTU of 1450",
    () => {},
  ],
  [
    'at the end of its life',
    '/blue1',
    udp('10.1.1.2', { ttl: 1 }),
    'dropped at n1/pn-blue: its time to live is over',
    () => {},
  ],
  [
    'NIC is down',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n1/host: no route to 192.168.10.12 by eth1',
    (f) => f.down('n1', 'eth1'),
  ],
  [
    'NIC is gone',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n1/pn-blue: no route to 10.1.2.3',
    (f) => f.unplug('n1', 'eth1'),
  ],
  [
    'the other’s NIC is down',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n1/host: nobody on eth1 answers for 192.168.10.12',
    (f) => f.down('n2', 'eth1'),
  ],
  [
    'the other node is gone',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n1/host: nobody on eth1 answers for 192.168.10.12',
    (f) => f.removeNode('n2'),
  ],
  [
    'the other has no such network',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n2/host: no tunnel has VNI 101 on port 5789',
    (f) => f.node('n2').replace(plan('n2', [red])),
  ],
  [
    'the pod is gone',
    '/blue1',
    udp('10.1.2.3'),
    'dropped at n2/pn-blue: no route to 10.1.2.3',
    (f) => f.removePodNamespace('/blue3'),
  ],
]
for (const [title, from, sent, reason, before] of fates)
  test(`a packet that is lost says where and why: ${title}`, () => {
    const fabric = fabricWith([blue, flat])
    before(fabric)
    const { delivered, dropped } = fabric.send(from, sent)
    assert.deepEqual({ delivered, dropped }, { delivered: [], dropped: [reason] })
  })

test('a delivery says where it was, by what it came, and what it crossed', () => {
  const fabric = fabricWith([blue, red])
  const { delivered, dropped, crossed, path } = fabric.send('/red1', udp('10.2.2.3'))
  assert.deepEqual(dropped, [])
  assert.deepEqual(crossed, ['n1/eth2', 'n2/eth2', 'phy-net1'])
  assert.deepEqual(
    delivered.map((d) => [d.netns, d.link, d.packet.ip, d.crossed]),
    [
      [
        '/red3',
        'eth0',
        { saddr: '10.2.1.1', daddr: '10.2.2.3', ttl: 62 },
        ['n1/eth2', 'phy-net1', 'n2/eth2'],
      ],
    ],
  )
  assert.deepEqual(
    path.filter((line) => !line.includes('arp ')),
    [
      `/red1 eth0: out 10.2.1.1 > 10.2.2.3 udp 7 to ${gatewayMac}`,
      'n1/pn-red prerouting: table inet polynet chain from-ports: accept',
      'n1/pn-red pnvx: out 10.2.1.1 > 10.2.2.3 udp 7 to 0a:54:c0:a8:14:0c',
      'n1/host eth2: out 192.168.20.11 > 192.168.20.12 udp 5789 vni 102 [10.2.1.1 > 10.2.2.3 udp 7 to 0a:54:c0:a8:14:0c] to 02:00:00:00:02:01',
      'n2/pn-red prerouting: table inet polynet chain from-ports: accept',
      `n2/pn-red pnred3: out 10.2.1.1 > 10.2.2.3 udp 7 to ${podMac(red, 'n2', 3)}`,
      '/red3 eth0: delivered 10.2.1.1 > 10.2.2.3 udp 7 to 0a:58:0a:02:02:03',
    ],
  )
})

test('a NIC that comes back does not bring back what was made on it; replace does', () => {
  const fabric = fabricWith([blue])
  fabric.unplug('n1', 'eth1')
  fabric.plug('n1', 'eth1')
  assert.equal(fabric.send('/blue1', udp('10.1.2.3')).delivered.length, 0)
  const ports = [...fabric.node('n1').ports.values()]
  fabric.node('n1').replace(plan('n1', [blue], ports))
  assert.equal(fabric.send('/blue1', udp('10.1.2.3')).delivered.length, 1)
})

test('a tunnel on a NIC that is not there is refused by name', () => {
  const fabric = fabricWith([])
  fabric.unplug('n1', 'eth1')
  const why = 'make link pnvx in pn-blue: ENODEV; the host has no eth1'
  assert.deepEqual(fabric.node('n1').replace(plan('n1', [blue])).refused, [{ netns: 'pn-blue', why }])
})

test('a tunnel packet that anyone sends arrives inside the network, as in a kernel without a guard', () => {
  const fabric = fabricWith([blue, home])
  const inner = {
    size: 100,
    ether: { saddr: '0a:00:00:00:00:01', daddr: '0a:54:c0:a8:0a:0c' },
    ip: { saddr: '10.1.1.1', daddr: '10.1.2.3', ttl: 64 },
    l4proto: 'udp',
    dport: 7,
  }
  const forged = udp('192.168.10.12', { dport: 5789, size: 150, tunnelled: { vni: blue.vni, frame: inner } })
  assert.deepEqual(
    fabric.send('/home1', forged).delivered.map((d) => d.netns),
    ['/blue3'],
  )
})

test('masquerading hides a sender, and its answers find the way back', () => {
  const fabric = fabricWith([home], {
    plan: {
      tables: [
        ...(plan('n1', [home]).namespaces[0] as NamespacePlan).tables,
        {
          family: 'inet',
          name: 'leaving',
          sets: [],
          chains: [
            {
              name: 'nat',
              base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
              rules: [
                {
                  do: [
                    { match: 'oifname', is: 'eth1' },
                    { match: 'ip saddr', is: '10.244.0.0/16' },
                    { masquerade: true },
                  ],
                },
              ],
            },
            {
              name: 'stateful',
              base: { type: 'filter', hook: 'forward', priority: 0, policy: 'drop' },
              rules: [
                { do: [{ match: 'ct state', is: 'established' }, { verdict: 'accept' }] },
                { do: [{ match: 'iifname', is: ['pnhome1', 'pnhome2'] }, { verdict: 'accept' }] },
              ],
            },
          ],
        },
      ],
    },
  })
  const [there] = fabric.send('/home1', udp('192.168.10.12', { sport: 5000 })).delivered
  assert.deepEqual([there?.netns, there?.packet.ip?.saddr], ['node:n2', '192.168.10.11'])
  const answer = { l4proto: 'udp', sport: 7, dport: 5000, ip: { daddr: '192.168.10.11' } } as const
  const [back] = fabric.send('node:n2', answer).delivered
  assert.deepEqual([back?.netns, back?.packet.ip?.daddr], ['/home1', '10.244.1.1'])
  assert.deepEqual(
    fabric.send('node:n2', { ...answer, dport: 5001 }).delivered.map((d) => d.netns),
    ['node:n1'],
  )
})

/** A host whose namespace has these besides its NICs; nothing of Polynet's. */
const hostWith = (more: Partial<NamespacePlan>): MemoryFabric => {
  const fabric = fabricWith([])
  const host = plan('n1', []).namespaces[0] as NamespacePlan
  fabric.setForeign('n1', { ...host, ...more })
  return fabric
}

test('the longest prefix wins, then the lowest metric, then the first', () => {
  const fabric = hostWith({
    routes: [
      { to: '0.0.0.0/0', link: 'eth1', via: '192.168.10.12' },
      { to: '203.0.113.0/24', link: 'eth1', via: '192.168.10.12', metric: 2 },
      { to: '203.0.113.0/24', link: 'eth2', via: '192.168.20.12', metric: 1 },
      { to: '203.0.113.9/32', link: 'eth1', via: '192.168.10.12' },
    ],
  })
  const by = (to: string) => fabric.send('node:n1', udp(to)).crossed.filter((c) => c.startsWith('phy'))
  assert.deepEqual(['198.51.100.1', '203.0.113.1', '203.0.113.9'].flatMap(by), [
    'phy-net0',
    'phy-net1',
    'phy-net0',
  ])
  fabric.down('n1', 'eth2')
  assert.deepEqual(by('203.0.113.1'), ['phy-net0'])
})

test('a packet that says it comes from the receiver itself is dropped', () => {
  const fabric = fabricWith([])
  const { dropped } = fabric.send('node:n1', udp('192.168.10.12', { saddr: '192.168.20.12' }))
  assert.deepEqual(dropped, ['dropped at n2/host: 192.168.20.12 is an address of its own, from eth1'])
})

test('a frame for another MAC is not read, though it arrives', () => {
  const fabric = fabricWith([blue])
  const { delivered, path } = fabric.sendFrame('/blue1', 'eth0', {
    ether: { saddr: podMac(blue, 'n1', 1), daddr: '0a:00:00:00:00:99' },
    ip: { saddr: '10.1.1.1', daddr: '10.1.1.2', ttl: 64 },
  })
  assert.deepEqual([delivered, path.length], [[], 1])
})

test('a routed port answers no ARP: neighbours are permanent', () => {
  const fabric = fabricWith([blue, home])
  fabric
    .sendFrame('/home1', 'eth0', {
      ether: { saddr: podMac(home, 'n1', 1), daddr: 'ff:ff:ff:ff:ff:ff' },
      arp: {
        operation: 'request',
        senderMac: podMac(home, 'n1', 1),
        senderIp: '10.244.1.1',
        targetIp: '192.168.10.11',
      },
    })
    .path.forEach((line) => {
      assert.ok(!line.includes('reply'), line)
    })
})

test('a switch sends a frame only where its receiver was heard', () => {
  const fabric = fabricWith([])
  fabric.addNode('n3', [
    { name: 'eth1', mac: '02:00:00:00:01:03', mtu: 1500, addresses: [], switch: 'phy-net0' },
  ])
  assert.deepEqual(fabric.send('node:n1', udp('192.168.10.12')).crossed, ['n1/eth1', 'n2/eth1', 'phy-net0'])
  const stranger = { ether: { saddr: '02:00:00:00:01:00', daddr: '02:00:00:00:09:09' } }
  assert.deepEqual(fabric.sendFrame('node:n1', 'eth1', stranger).crossed, [
    'n1/eth1',
    'n2/eth1',
    'n3/eth1',
    'phy-net0',
  ])
})

test('an answer makes a connection established, and its namespace’s end forgets it', () => {
  const stateful = (n: NamespacePlan): NamespacePlan => ({
    ...n,
    tables: [
      ...n.tables,
      {
        family: 'inet',
        name: 'stateful',
        sets: [],
        chains: [
          {
            name: 'c',
            base: { type: 'filter', hook: 'forward', priority: 0, policy: 'drop' },
            rules: [
              { comment: 'known', do: [{ match: 'ct state', is: 'established' }, { verdict: 'accept' }] },
              {
                do: [
                  { match: 'iifname', is: 'pnblue1' },
                  { match: 'th dport', is: 7 },
                  { verdict: 'accept' },
                ],
              },
            ],
          },
        ],
      },
    ],
  })
  const fabric = fabricWith([blue])
  const ports = [...fabric.node('n1').ports.values()]
  const whole = plan('n1', [blue], ports)
  fabric.node('n1').replace({ ...whole, namespaces: whole.namespaces.map(stateful) })
  const heard = (from: string, to: string, sport: number, dport: number) =>
    fabric.send(from, { l4proto: 'udp', sport, dport, ip: { daddr: to } }).delivered.length
  assert.equal(heard('/blue2', '10.1.1.1', 7, 5000), 0)
  assert.equal(heard('/blue1', '10.1.1.2', 5000, 7), 1)
  assert.equal(heard('/blue2', '10.1.1.1', 7, 5000), 1)
  assert.equal(heard('/blue2', '10.1.1.1', 7, 5001), 0)
  const path = fabric.send('/blue1', {
    l4proto: 'udp',
    sport: 5000,
    dport: 7,
    ip: { daddr: '10.1.1.2' },
  }).path
  assert.ok(path.includes('n1/pn-blue forward: table inet stateful chain c: accept (known)'), path.join('\n'))
  fabric.node('n1').replace(plan('n1', []))
  fabric.node('n1').replace({ ...whole, namespaces: whole.namespaces.map(stateful) })
  assert.equal(heard('/blue2', '10.1.1.1', 7, 5000), 0)
})

test('a connection that nobody answers is forgotten after a while, and counts no more', () => {
  let now = 0
  const fabric = fabricWith([blue], { nowMs: () => now })
  const ports = [...fabric.node('n1').ports.values()]
  const whole = plan('n1', [blue], ports)
  const counted = (n: NamespacePlan): NamespacePlan => ({
    ...n,
    tables: [
      ...n.tables,
      {
        family: 'inet',
        name: 'counted',
        sets: [{ name: 'held', key: ['iifname'], dynamic: { size: 9 }, elements: [] }],
        chains: [
          {
            name: 'c',
            base: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' },
            rules: [
              {
                do: [
                  { match: 'ct status', not: 'confirmed' },
                  { add: 'held', key: ['iifname'], countOver: 1 },
                  { verdict: 'drop' },
                ],
              },
            ],
          },
        ],
      },
    ],
  })
  fabric.node('n1').replace({ ...whole, namespaces: whole.namespaces.map(counted) })
  const heard = (sport: number) =>
    fabric.send('/blue1', { l4proto: 'udp', sport, dport: 7, ip: { daddr: '10.1.1.2' } }).delivered.length
  assert.deepEqual([heard(1), heard(2), heard(1)], [1, 0, 1])
  now += 29_000
  assert.deepEqual([heard(2), heard(1)], [0, 1])
  now += 31_000
  assert.deepEqual([heard(2), heard(1)], [1, 0])
})

test('a pod whose link was deleted has none', () => {
  const fabric = fabricWith([blue])
  fabric.loseLink('/blue1', 'eth0')
  assert.deepEqual([...(fabric.stack('/blue1')?.devices.keys() ?? [])], ['lo'])
})

test('a bridge does not pass on what is larger than the port’s MTU', () => {
  const fabric = fabricWith([flat])
  const [first, second] = [...fabric.node('n1').ports.values()] as [PortPlan, PortPlan]
  fabric.node('n1').attach([first, { ...second, inside: { ...second.inside, mtu: 1300 } }])
  assert.deepEqual(fabric.send('/flat1', udp('10.2.1.2', { size: 1400 })).dropped, [
    "dropped at n1/pn-flat: 1400 bytes are more than pnflat2's MTU of 1300",
  ])
})

test('after close nobody is called back', async () => {
  const fabric = fabricWith([])
  const datapath = memoryDatapath(fabric, 'n1')
  let calls = 0
  datapath.onNics(() => calls++)
  fabric.down('n1', 'eth1')
  await datapath.close()
  fabric.up('n1', 'eth1')
  assert.equal(calls, 1)
})

const onWire = (node: NodeName, n: number, link: PortLink, mac?: string): PortPlan => {
  const made = direct(node, n, `/${node}-${n}`, 'eth2')
  const { mac: _, ...inside } = made.inside
  return { ...made, link, inside: { ...inside, ...(mac ? { mac } : {}) } }
}
const macvlan = (mode: 'bridge' | 'private' | 'vepa' | 'passthru'): PortLink => ({
  kind: 'macvlan',
  parent: 'eth2',
  mode,
})
const ipvlan: PortLink = { kind: 'ipvlan', parent: 'eth2', mode: 'l2' }
const vlan = (id: number): PortLink => ({ kind: 'vlan', parent: 'eth2', id })
const device: PortLink = { kind: 'host-device', device: 'eth2' }

const wired: [string, PortLink, PortLink, PortLink | undefined, string[]][] = [
  [
    'macvlans in bridge mode reach all',
    macvlan('bridge'),
    macvlan('bridge'),
    macvlan('bridge'),
    ['/n2-3', '/n1-2', 'node:n2'],
  ],
  [
    'private macvlans do not reach their own kind on the NIC',
    macvlan('private'),
    macvlan('bridge'),
    macvlan('private'),
    ['/n2-3', 'node:n2'],
  ],
  ['ipvlans reach all', ipvlan, ipvlan, ipvlan, ['/n2-3', '/n1-2', 'node:n2']],
  ['a VLAN reaches only itself', vlan(7), vlan(7), vlan(8), ['/n2-3']],
  ['another VLAN is not reached', vlan(7), vlan(8), undefined, []],
  ['a whole device reaches the wire', device, macvlan('bridge'), undefined, ['/n2-3', 'node:n2']],
]
for (const [title, one, far, near, reached] of wired)
  test(`on the wire: ${title}`, () => {
    const fabric = fabricWith([])
    for (const path of ['/n1-1', '/n1-2', '/n2-3']) fabric.addPodNamespace(path)
    fabric.node('n1').attach([onWire('n1', 1, one), ...(near ? [onWire('n1', 2, near)] : [])])
    fabric.node('n2').attach([onWire('n2', 3, far)])
    const found = ['192.168.20.123', '192.168.20.112', '192.168.20.12', '192.168.20.11'].flatMap((to) =>
      fabric.send('/n1-1', udp(to)).delivered.map((d) => d.netns),
    )
    assert.deepEqual(found, reached)
  })

test('a device given to a pod leaves the host, and comes back when the pod’s namespace goes', () => {
  const fabric = fabricWith([])
  fabric.addPodNamespace('/n1-1')
  fabric.node('n1').attach([onWire('n1', 1, device)])
  assert.equal(fabric.stack('node:n1')?.devices.has('eth2'), false)
  fabric.removePodNamespace('/n1-1')
  assert.equal(fabric.stack('node:n1')?.devices.has('eth2'), true)
})

test('isolated bridge ports reach others, not each other', () => {
  const fabric = fabricWith([flat])
  const isolated = [...fabric.node('n1').ports.values()].map(
    (p): PortPlan => (p.link.kind === 'veth' ? { ...p, link: { ...p.link, isolated: true } } : p),
  )
  fabric.node('n1').attach(isolated)
  assert.equal(fabric.send('/flat1', udp('10.2.1.2')).delivered.length, 0)
  assert.equal(fabric.send('/flat1', udp('10.2.2.3')).delivered.length, 1)
})

test('plans that follow each other leave what the last one says, whatever came before', () => {
  let seed = 7
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    return Math.floor((seed / 2 ** 32) * n)
  }
  const networks = [blue, red, flat, home]
  const pods = networks.flatMap((network) =>
    [1, 2, 3, 4].map((n) => ({ network, n, path: `/${network.name}-${n}` })),
  )
  const any = () => {
    const some = networks.filter(() => random(3) > 0)
    const ports = pods.filter((p) => some.includes(p.network) && random(2) > 0)
    return plan(
      'n1',
      some,
      ports.map((p) => port(p.network, 'n1', p.n, p.path)),
    )
  }
  const empty = (): MemoryFabric => {
    const fabric = fabricWith([])
    for (const { path } of pods) fabric.addPodNamespace(path)
    return fabric
  }
  const long = empty()
  for (let round = 0; round < 200; round++) {
    if (random(4) === 0) long.loseLink(`/${['blue', 'flat', 'home'][random(3)]}-${random(4) + 1}`, 'eth0')
    if (random(4) === 0) long.loseLink('node:n1/pn-blue', 'pnvx')
    const next = any()
    const before = long.node('n1').describe()
    const { changes } = long.node('n1').replace(next)
    const after = long.node('n1').describe()
    const short = empty()
    short.node('n1').replace(structuredClone(next))
    assert.deepEqual(after, short.node('n1').describe())
    // The report is exactly the difference.
    const difference = [
      ...before.filter((l) => !after.includes(l)).map((l) => `- ${l}`),
      ...after.filter((l) => !before.includes(l)).map((l) => `+ ${l}`),
    ]
    assert.deepEqual([...changes].sort(), difference.sort())
    const addressOf = (p: PortPlan) => p.inside.addresses[0]?.split('/')[0] as string
    for (const p of next.ports)
      for (const q of next.ports) {
        const there = next.ports.filter((r) => r.network === p.network && addressOf(r) === addressOf(q))
        const { delivered } = long.send(p.inside.netns, udp(addressOf(q)))
        assert.deepEqual(
          delivered.map((d) => d.netns),
          there.map((r) => r.inside.netns),
        )
      }
  }
})
