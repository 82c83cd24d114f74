import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../lib/fault.ts'
import type { NamespacePlan, NodePlan, PortPlan } from '../../plan/node-plan.ts'
import { blue, direct, flat, green, plan, port } from '../conformance-plan.ts'
import { MemoryFabric } from './fabric.ts'

const fabricWithPods = (): MemoryFabric => {
  const fabric = new MemoryFabric(() => 0)
  fabric.addSwitch('phy-net0')
  for (const node of ['n1', 'n2'])
    fabric.addNode(node, [
      {
        name: 'eth1',
        mac: '02:00:00:00:01:01',
        mtu: 1500,
        addresses: ['192.168.10.11/24'],
        switch: 'phy-net0',
      },
      { name: 'eth2', mac: '02:00:00:00:02:01', mtu: 1500, addresses: [], switch: 'phy-net0' },
    ])
  for (const path of ['/a', '/b']) fabric.addPodNamespace(path)
  return fabric
}

/** The plan of blue and flat with one namespace changed. */
const changed = (netns: string, change: (plan: NamespacePlan) => Partial<NamespacePlan>): NodePlan => {
  const whole = plan('n1', [blue, flat])
  return {
    ...whole,
    namespaces: whole.namespaces.map((n) => (n.netns === netns ? { ...n, ...change(n) } : n)),
  }
}

const plans: [NodePlan, string][] = [
  [
    changed('pn-blue', (p) => ({ links: [...p.links, { kind: 'existing', name: 'eth9' }] })),
    'make link eth9 in pn-blue: ENODEV; there is no such link',
  ],
  [
    changed('host', () => ({ links: [{ kind: 'bridge', name: 'eth1', mtu: 1500 }] })),
    'make link eth1 in host: EEXIST; a link of that name is there and is not ours',
  ],
  [
    changed('host', () => ({ links: [{ kind: 'bridge', name: 'a-name-of-16-byt', mtu: 1500 }] })),
    'make link a-name-of-16-byt in host: EINVAL; a name has 1 to 15 bytes',
  ],
  [
    changed('pn-flat', (p) => ({ links: p.links.filter((l) => l.kind !== 'bridge') })),
    'make link pnvx in pn-flat: ENODEV; there is no bridge pnbr',
  ],
  [
    changed('pn-blue', () => ({ addresses: [{ link: 'eth0', address: '10.1.0.1/16' }] })),
    'make 10.1.0.1/16 in pn-blue: ENODEV; there is no link eth0',
  ],
  [
    plan('n1', [blue, { ...green, vni: blue.vni }]),
    'make link pnvx in pn-green: EEXIST; VNI 101 on port 5789 is taken',
  ],
]
for (const [plan, message] of plans)
  test(`a plan is refused as a kernel would: ${message}`, () => {
    const node = fabricWithPods().node('n1')
    const [, netns = ''] = / in (\S+):/.exec(message) ?? []
    if (netns !== 'host') assert.deepEqual(node.replace(plan).refused, [{ netns, why: message }])
    else
      assert.throws(
        () => node.replace(plan),
        (error) => isFault(error, 'kernel') && error.message === message,
      )
  })

const a = port(blue, 'n1', 1, '/a')
const b = port(blue, 'n1', 2, '/b')
const onEth2 = (n: number, path: string): PortPlan => direct('n1', n, path, 'eth2')
const ports: [PortPlan[], string][] = [
  [
    [port(green, 'n1', 1, '/a')],
    'attach green1c1/eth0 of default/green1c1: ENOENT; the namespace pn-green is not there',
  ],
  [
    [a, { ...b, inside: a.inside }],
    'attach blue1c2/eth0 of default/blue1c2: EEXIST; /a has eth0 already, from blue1c1/eth0',
  ],
  [
    [a, { ...b, link: a.link }],
    'attach blue1c2/eth0 of default/blue1c2: EEXIST; pn-blue has pnblue1 already',
  ],
  [
    [{ ...a, inside: { ...a.inside, name: 'a/b' } }],
    'attach blue1c1/eth0 of default/blue1c1: EINVAL; a/b is no link name, which has 1 to 15 bytes',
  ],
  [
    [{ ...port(flat, 'n1', 1, '/a'), netns: 'pn-blue' }],
    'attach flat1c1/eth0 of default/flat1c1: ENODEV; pn-blue has no bridge pnbr',
  ],
  [
    [{ ...a, elements: [{ family: 'inet', set: 'others', key: [1] }] }],
    'attach blue1c1/eth0 of default/blue1c1: ENOENT; pn-blue has no set others in table inet polynet',
  ],
  [
    [{ ...a, routes: b.routes }],
    'attach blue1c1/eth0 of default/blue1c1: ENODEV; pn-blue has no link pnblue2',
  ],
  [
    [{ ...onEth2(1, '/a'), link: { kind: 'host-device', device: 'eth2' } }, onEth2(2, '/b')],
    'attach direct1c2/eth0 of default/direct1c2: ENODEV; the host has no eth2',
  ],
]
for (const [refused, message] of ports)
  test(`ports are refused as a kernel would: ${message}`, () => {
    const node = fabricWithPods().node('n1')
    node.replace(plan('n1', [blue, flat]))
    const before = node.describe()
    assert.throws(
      () => node.attach(refused),
      (error) => isFault(error, 'kernel') && error.message === message,
    )
    assert.deepEqual(node.describe(), before)
  })

test('what was detached is no longer in the way', () => {
  const node = fabricWithPods().node('n1')
  node.replace(plan('n1', [blue]))
  node.attach([a])
  node.detach([a])
  node.attach([{ ...b, inside: a.inside }])
  assert.deepEqual([...node.ports.keys()], [b.key])
})
