import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { emptyNamespace, type NamespacePlan } from '../../plan/node-plan.ts'
import { describePlace } from './describe.ts'
import { applyNamespaces } from './namespaces.ts'
import { createNamespace, removeNamespace } from './netns.ts'
import { Place } from './place.ts'
import { impossible } from './possible.ts'
import { packetSocket, udpSocket } from './sockets.ts'

/** Two machines on phy-net0, by a switch. */
const machines: NamespacePlan[] = [
  {
    ...emptyNamespace('phy-net0'),
    links: [
      { kind: 'bridge', name: 'switch', mac: '0a:00:00:00:00:01', mtu: 1500 },
      ...[1, 2].map((n) => ({
        kind: 'veth' as const,
        name: `n${n}`,
        mac: `0a:00:00:00:01:0${n}`,
        mtu: 1500,
        bridge: 'switch',
        peer: { netns: `n${n}`, name: 'eth1', mac: `0a:00:00:00:02:0${n}` },
      })),
    ],
  },
  {
    ...emptyNamespace('n1'),
    sysctls: { 'ipv4/ip_forward': '1', 'ipv4/conf/eth1/rp_filter': '2' },
    addresses: [{ link: 'eth1', address: '192.168.10.11/24' }],
    routes: [
      { to: '0.0.0.0/0', link: 'eth1', via: '192.168.10.1' },
      { to: '10.1.0.0/16', link: 'eth1', via: 'fe80::12', source: '192.168.10.11', metric: 50 },
      { to: 'fd00:10:1::/64', link: 'eth1', via: 'fe80::12' },
    ],
    neighbours: [{ link: 'eth1', address: 'fe80::12', mac: '0a:00:00:00:02:02' }],
  },
  { ...emptyNamespace('n2'), addresses: [{ link: 'eth1', address: '192.168.10.12/24' }] },
]

const n1 = [
  'address n1 eth1 192.168.10.11/24',
  'link n1 eth1 veth mac 0a:00:00:00:02:01 mtu 1500 up',
  'namespace n1',
  'neighbour n1 eth1 fe80::12 0a:00:00:00:02:02',
  'route n1 0.0.0.0/0 via 192.168.10.1 link eth1',
  'route n1 10.1.0.0/16 via fe80::12 link eth1 source 192.168.10.11 metric 50',
  'route n1 fd00:10:1::/64 via fe80::12 link eth1',
]

describe('namespaces by path', { skip: impossible() ?? false }, () => {
  let dir = ''
  let paths: Record<string, string> = {}

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'polynet-namespaces-'))
    paths = Object.fromEntries(machines.map(({ netns }) => [netns, join(dir, netns)]))
    for (const path of Object.values(paths)) createNamespace(path)
  })

  afterEach(() => {
    for (const path of Object.values(paths)) removeNamespace(path)
    assert.deepEqual(readdirSync(dir), [])
    rmSync(dir, { recursive: true })
  })

  const seen = (netns: string): string[] => {
    const place = new Place(paths[netns]!)
    try {
      return describePlace(netns, place).sort()
    } finally {
      place.close()
    }
  }

  test('a setting that this kernel does not have is refused, unless it is of br_netfilter', () => {
    const set = (name: string) =>
      applyNamespaces([{ ...emptyNamespace('n2'), sysctls: { [name]: '0' } }], paths)
    assert.deepEqual(set('bridge/none-of-that-name'), [])
    assert.throws(() => set('ipv4/none-of-that-name'), /ENOENT/)
  })

  test('become as planned, and a second time nothing changes', () => {
    assert.ok(applyNamespaces(machines, paths).includes('+ link n1 eth1'))
    assert.deepEqual(applyNamespaces(machines, paths), [])
    assert.deepEqual(seen('n1'), n1)
    assert.deepEqual(seen('phy-net0'), [
      'link phy-net0 n1 veth mac 0a:00:00:00:01:01 mtu 1500 bridge switch up',
      'link phy-net0 n2 veth mac 0a:00:00:00:01:02 mtu 1500 bridge switch up',
      'link phy-net0 switch bridge mac 0a:00:00:00:00:01 mtu 1500 up',
      'namespace phy-net0',
    ])
  })

  test('keep what another plan made in them', () => {
    applyNamespaces(machines, paths)
    const more = {
      ...emptyNamespace('n1'),
      links: [{ kind: 'bridge' as const, name: 'br0', mac: '0a:00:00:00:00:02', mtu: 1500 }],
    }
    assert.deepEqual(applyNamespaces([more], paths), ['+ link n1 br0'])
    assert.deepEqual(seen('n1'), [...n1, 'link n1 br0 bridge mac 0a:00:00:00:00:02 mtu 1500 up'].sort())
  })

  test('carry packets, which can be watched on the switch', async () => {
    applyNamespaces(machines, paths)
    const wire = packetSocket(paths['phy-net0']!, 'n2')
    const server = udpSocket(paths.n2!, { port: 1000 })
    const client = udpSocket(paths.n1!)
    client.send('192.168.10.12', 1000, Buffer.from('hello'))
    const got = await server.receive(500)
    assert.deepEqual([got?.data.toString(), got?.address], ['hello', '192.168.10.11'])
    const crossed = wire.drain().filter((frame) => frame.data.includes('hello'))
    assert.deepEqual(
      crossed.map((frame) => frame.outgoing),
      [true],
    )
    for (const socket of [wire, server, client]) socket.close()
  })

  test('cannot be made where there is something, and may be removed twice', () => {
    assert.throws(() => createNamespace(paths.n1!), /the file is there already; remove it first/)
    removeNamespace(paths.n1!)
    removeNamespace(paths.n1!)
    createNamespace(paths.n1!)
    assert.deepEqual(seen('n1'), ['namespace n1'])
  })

  /** What is wrong with the plan, and what is said of it. */
  const refused: [string, Partial<NamespacePlan>, RegExp][] = [
    [
      'a link that is not there',
      { addresses: [{ link: 'eth9', address: '192.168.10.11/24' }] },
      /^Fault: find link eth9: ENODEV/,
    ],
    [
      'a next hop the kernel does not take',
      { routes: [{ to: '10.1.0.0/16', link: 'lo', via: '127.0.0.1' }] },
      /^Fault: add route n1 10\.1\.0\.0\/16 via 127\.0\.0\.1 link lo: EINVAL: Nexthop has invalid gateway/,
    ],
    [
      'a setting that is not there',
      { sysctls: { 'ipv4/no_such': '1' } },
      /^Fault: set ipv4\/no_such to 1: ENOENT/,
    ],
    [
      'a peer in a namespace that is not in the plan',
      { links: [{ kind: 'veth', name: 'a', mtu: 1500, peer: { netns: 'n3', name: 'b' } }] },
      /nobody said where namespace n3 is/,
    ],
  ]
  for (const [what, plan, said] of refused)
    test(`say what the kernel refused: ${what}`, () => {
      assert.throws(() => applyNamespaces([{ ...emptyNamespace('n1'), ...plan }], paths), said)
    })
})
