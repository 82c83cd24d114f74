import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isFault } from '../../lib/fault.ts'
import { macBytes } from '../../lib/mac.ts'
import { emptyNamespace, type NamespacePlan, type PortPlan } from '../../plan/node-plan.ts'
import { beside, blue, direct, plan, port, red } from '../conformance-plan.ts'
import type { Datapath } from '../port.ts'
import { linuxDatapath } from './linux.ts'
import { applyNamespaces } from './namespaces.ts'
import { Batch } from './netlink.ts'
import { createNamespace, inside, ownNetns, removeNamespace } from './netns.ts'
import { Place } from './place.ts'
import { impossible } from './possible.ts'
import * as rt from './route.ts'
import { type PacketSocket, packetSocket, udpSocket } from './sockets.ts'
import { seenTables } from './tables.ts'

describe('ports on this kernel', { skip: impossible() ?? false }, () => {
  let dir = ''
  let datapath: Datapath
  const at = (name: string) => join(dir, name)
  const open: string[] = []
  const namespace = (name: string): string => {
    createNamespace(at(name))
    open.push(name)
    return at(name)
  }

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'polynet-ports-'))
    const wiring: NamespacePlan[] = [
      {
        ...emptyNamespace('host'),
        links: (['eth1', 'eth2'] as const).map((name) => ({
          kind: 'veth',
          name,
          mac: name === 'eth1' ? '0a:58:c0:a8:0a:0b' : '0a:58:c0:a8:14:0b',
          mtu: 1500,
          peer: { netns: 'wire', name },
        })),
        addresses: [{ link: 'eth1', address: '192.168.10.11/24' }],
      },
      { ...emptyNamespace('wire'), addresses: [{ link: 'eth2', address: '192.168.20.1/24' }] },
    ]
    applyNamespaces(wiring, { host: namespace('host'), wire: namespace('wire') })
    datapath = await linuxDatapath({ runDir: at('run'), hostNetns: at('host') })
    await datapath.replace(plan('n1', []))
  })

  afterEach(async () => {
    await datapath.close()
    for (const name of readdirSync(at('run/netns'))) removeNamespace(join(at('run/netns'), name))
    for (const name of open.splice(0)) removeNamespace(at(name))
    rmSync(dir, { recursive: true })
  })

  const links = (netns: string): rt.SeenLink[] => {
    const place = new Place(netns)
    try {
      return place.route
        .dump(rt.dumpLinks)
        .map(rt.seenLink)
        .filter((link) => !link.loopback)
    } finally {
      place.close()
    }
  }
  const summary = (netns: string): string[] =>
    links(netns).map((l) => `${l.name} ${l.kind ?? 'hardware'} ${l.mac} ${l.mtu} ${l.up ? 'up' : 'down'}`)

  test('a host’s NIC moves into the pod and back, as it was', async () => {
    const pod = namespace('pod')
    const port: PortPlan = {
      ...direct('n1', 1, pod, 'eth2'),
      link: { kind: 'host-device', device: 'eth2' },
    }
    port.inside = { ...port.inside, name: 'net1', mac: '0a:58:c0:a8:14:6f', mtu: 1400 }
    port.inside.addresses = ['192.168.20.111/24']
    const before = summary(at('host'))
    assert.deepEqual(await datapath.attach([port]), [{ key: port.key, mac: '0a:58:c0:a8:14:6f' }])
    assert.deepEqual(summary(pod), ['net1 veth 0a:58:c0:a8:14:6f 1400 up'])
    assert.deepEqual(await datapath.check([port]), [])
    assert.deepEqual(
      (await datapath.nics()).map((nic) => nic.name),
      ['eth1'],
    )
    assert.deepEqual((await datapath.replace({ ...plan('n1', []), ports: [port] })).changes, [])
    await datapath.detach([port])
    assert.deepEqual(summary(pod), [])
    assert.deepEqual(summary(at('host')), before)
    await datapath.detach([port])
  })

  test('a NIC goes back under its own name, whatever its pod says of it', async () => {
    const pod = namespace('pod')
    const made = direct('n1', 1, pod, 'eth2')
    const port: PortPlan = { ...made, link: { kind: 'host-device', device: 'eth2' } }
    const before = summary(at('host'))
    const [, , mac] = before.find((line) => line.startsWith('eth2 '))!.split(' ')
    for (const alias of [`polynet cni0 ${mac} 1500 up`, `polynet pnvx ${mac} 1500 up`, 'polynet mine']) {
      await datapath.attach([port])
      const place = new Place(pod)
      const batch = new Batch()
      rt.setLink(batch, 'lie', { name: 'eth0', alias })
      place.route.send(batch)
      place.close()
      await datapath.detach([port])
      const names = (netns: string) => links(netns).map(({ name }) => name)
      assert.deepEqual([names(pod), names(at('host'))], [[], ['eth1', 'eth2']], alias)
    }
  })

  // The kernel gives NICs to the machine's first namespace, which no test may be in: done by hand, as it does it.
  test('a NIC that the kernel gave back when the pod’s namespace ended is made what it was', async () => {
    const host = new Place(at('host'))
    const before = summary(at('host'))
    for (const came of ['net1', 'dev7']) {
      const pod = namespace('pod')
      const port: PortPlan = {
        ...direct('n1', 1, pod, 'eth2'),
        link: { kind: 'host-device', device: 'eth2' },
      }
      port.inside = { ...port.inside, name: 'net1', mac: '0a:58:c0:a8:14:6f', mtu: 1400 }
      await datapath.attach([port])
      const from = new Place(pod)
      const batch = new Batch()
      const index = from.index('net1')
      rt.setLink(batch, 'close it', { index, up: false })
      rt.setLink(batch, 'give it back', { index, name: came, netns: host.fd })
      from.route.send(batch)
      from.close()
      removeNamespace(pod)
      assert.ok(summary(at('host')).includes(`${came} veth 0a:58:c0:a8:14:6f 1400 down`))
      const { changes, orphans } = await datapath.replace({ ...plan('n1', []), ports: [port] })
      assert.deepEqual(changes, [`~ link host eth2 was ${came}`])
      assert.deepEqual(orphans, [port.key])
      assert.deepEqual(summary(at('host')), before)
      assert.deepEqual((await datapath.replace(plan('n1', []))).changes, [])
      await datapath.detach([port])
    }
    host.close()
  })

  test('a NIC that came back stays as it is while somebody has its name', async () => {
    const host = new Place(at('host'))
    const alias = (text: string) => {
      const batch = new Batch()
      rt.setLink(batch, 'write an alias', { index: host.index('eth2'), alias: text })
      host.route.send(batch)
    }
    const before = summary(at('host'))
    for (const text of [
      'polynet eth1 0a:00:00:00:00:09 1300 up',
      'polynet pnvx 0a:00:00:00:00:09 1300',
      'polynet',
    ])
      try {
        alias(text)
        assert.deepEqual((await datapath.replace(plan('n1', []))).changes, [], text)
        assert.deepEqual(summary(at('host')), before, text)
      } finally {
        alias('')
      }
    host.close()
  })

  test('source rules go when the port does, and when it cannot be made', async () => {
    const pod = namespace('pod')
    const rules = (): number => {
      const place = new Place(pod)
      try {
        const all = [rt.AF_INET, rt.AF_INET6].flatMap((family) =>
          place.route.dump(() => rt.dumpRules(family)),
        )
        return all.map(rt.seenRule).filter((rule) => rule !== undefined).length
      } finally {
        place.close()
      }
    }
    await datapath.replace(plan('n1', [blue]))
    const made = beside(port(blue, 'n1', 1, pod), 8001)
    await datapath.attach([made])
    assert.equal(rules(), 6)
    await datapath.detach([made])
    assert.equal(rules(), 0)
    const impossible = port(blue, 'n1', 2, pod, 'eth1')
    impossible.inside.routes.push({ to: '10.9.0.0/16', link: 'nowhere' })
    await assert.rejects(datapath.attach([made, impossible]))
    assert.equal(rules(), 0)
    assert.deepEqual(summary(pod), [])
  })

  test('what a pod on the wire may not send does not leave its namespace', async () => {
    const pod = namespace('pod')
    const port = direct('n1', 1, pod, 'eth2')
    const own = port.inside.addresses[0]!.replace('/24', '')
    port.inside.tables = [
      {
        family: 'netdev',
        name: 'polynet-eth0',
        sets: [{ name: 'own', key: ['ip saddr'], elements: [{ key: [own] }] }],
        chains: [
          {
            name: 'leaving',
            base: { type: 'filter', hook: 'egress', priority: 0, policy: 'drop', devices: ['eth0'] },
            rules: [
              { do: [{ match: 'ether type', is: 'arp' }, { verdict: 'accept' }] },
              {
                do: [
                  { match: 'ether type', is: 'ip' },
                  { lookup: ['ip saddr'], in: 'own' },
                  { verdict: 'accept' },
                ],
              },
            ],
          },
        ],
      },
    ]
    await datapath.attach([port])
    const listener = udpSocket(at('wire'), { port: 1000 })
    const send = async (address: string, foreign: boolean): Promise<string | undefined> => {
      const socket = udpSocket(pod, { address, foreign })
      socket.send('192.168.20.1', 1000, Buffer.from('hello'))
      socket.close()
      return (await listener.receive(100))?.address
    }
    assert.equal(await send(own, false), own)
    assert.equal(await send('192.168.20.200', true), undefined)
    listener.close()
    assert.deepEqual(await datapath.check([port]), [])
    await datapath.detach([port])
    assert.deepEqual(summary(pod), [])
    const place = new Place(pod)
    assert.deepEqual(
      seenTables(place, () => true),
      [],
    )
    place.close()
  })

  for (const link of [
    { kind: 'ipvlan', parent: 'eth2', mode: 'l2' },
    { kind: 'vlan', parent: 'eth2', id: 100 },
  ] as const)
    test(`a ${link.kind} on the wire is made, or the kernel cannot`, async () => {
      const pod = namespace('pod')
      const made = direct('n1', 1, pod, 'eth2')
      const port: PortPlan = { ...made, link, inside: { ...made.inside, mac: undefined } }
      try {
        await datapath.attach([port])
      } catch (error) {
        assert.ok(isFault(error, 'unsupported'), String(error))
        assert.deepEqual(summary(pod), [])
        return
      }
      assert.deepEqual(await datapath.check([port]), [])
      assert.deepEqual((await datapath.replace({ ...plan('n1', []), ports: [port] })).changes, [])
      await datapath.detach([port])
      assert.deepEqual(summary(pod), [])
    })

  test('an interface of somebody else keeps its name', async () => {
    const pod = namespace('pod')
    const host = namespace('other')
    const taken = { kind: 'veth' as const, name: 'theirs', mtu: 1500, peer: { netns: 'pod', name: 'eth0' } }
    applyNamespaces([{ ...emptyNamespace('other'), links: [taken] }, emptyNamespace('pod')], {
      other: host,
      pod,
    })
    const before = summary(pod)
    await assert.rejects(
      datapath.attach([direct('n1', 1, pod, 'eth2')]),
      /direct1c1\/eth0.*eth0.*there already/,
    )
    assert.deepEqual(summary(pod), before)
  })

  test('a pod that spoils its own interface does not keep others from being made right', async () => {
    const ports = [1, 2, 3].map((n) => direct('n1', n, namespace(`pod${n}`), 'eth2'))
    const all = { ...plan('n1', []), ports }
    await datapath.replace(all)
    const edit = (n: number, fill: (batch: Batch) => void) => {
      const place = new Place(at(`pod${n}`))
      const batch = new Batch()
      fill(batch)
      place.route.send(batch)
      place.close()
    }
    edit(1, (batch) => {
      rt.deleteLink(batch, 'delete', 'eth0')
      rt.newBridge(batch, 'take its name', { name: 'eth0' })
    })
    for (const n of [2, 3]) edit(n, (batch) => rt.deleteLink(batch, 'delete', 'eth0'))
    const { spoilt } = await datapath.replace(all)
    assert.match(spoilt?.join() ?? '', /^direct1c1\/eth0: [^,]*eth0[^,]* there already[^,]*$/)
    assert.deepEqual(await datapath.check(ports.slice(1)), [])
    edit(1, (batch) => rt.deleteLink(batch, 'delete', 'eth0'))
    assert.equal((await datapath.replace(all)).spoilt, undefined)
    assert.deepEqual(await datapath.check(ports), [])
  })

  test('a pod that fills its namespace keeps nobody waiting, nor others from being made right', async () => {
    const ports = [1, 2].map((n) => port(blue, 'n1', n, namespace(`pod${n}`)))
    const all = plan('n1', [blue], ports)
    await datapath.replace(all)
    const place = new Place(at('pod1'))
    const index = place.index('eth0')
    for (let high = 0; high < 256; high++) {
      const batch = new Batch()
      for (let low = 0; low < 256; low++)
        rt.newRoute(batch, 'fill', index, { to: `203.${high}.${low}.0/24`, link: 'eth0' })
      place.route.send(batch)
    }
    place.close()
    const edit = new Place(at('pod2'))
    const batch = new Batch()
    rt.deleteLink(batch, 'delete', 'eth0')
    edit.route.send(batch)
    edit.close()
    const { spoilt } = await datapath.replace(all)
    assert.match(spoilt?.join() ?? '', /^blue1c1\/eth0: list routes: there are more than [^,]*$/)
    assert.deepEqual(await datapath.check(ports.slice(1)), [])
  })

  test('an interface that its pod renamed and put another in place of stays as it is, and so does its node’s side', async () => {
    const ports = [1, 2].map((n) => port(blue, 'n1', n, namespace(`pod${n}`)))
    const all = plan('n1', [blue], ports)
    await datapath.replace(all)
    const place = new Place(at('pod1'))
    const batch = new Batch()
    rt.setLink(batch, 'close it', { name: 'eth0', up: false })
    rt.setLink(batch, 'rename it', { index: place.index('eth0'), name: 'eth0-nic' })
    rt.newBridge(batch, 'take its name', { name: 'eth0' })
    place.route.send(batch)
    place.close()
    const before = [links(at('pod1')), await datapath.describe()]
    for (const unchanged of [[], ports.map(({ key }) => key), []]) {
      const { changes, spoilt } = await datapath.replace(all, unchanged)
      assert.deepEqual(changes, [])
      assert.equal(spoilt?.length, unchanged.length === 0 ? 1 : undefined)
      assert.deepEqual([links(at('pod1')), await datapath.describe()], before)
    }
    await datapath.replace(plan('n1', [blue, red], ports))
    assert.ok((await datapath.describe()).some((line) => line.includes('pn-red')))
  })

  test('a pod whose namespace cannot be entered does not keep others from being made right', async () => {
    // As one that ends between two looks: there, and then no namespace of a network.
    const ports = [port(blue, 'n1', 1, '/proc/self/ns/uts'), port(blue, 'n1', 2, namespace('pod2'))]
    const { spoilt } = await datapath.replace(plan('n1', [blue], ports))
    assert.match(spoilt?.join() ?? '', /^blue1c1\/eth0: enter namespace \d+: EINVAL/)
    assert.deepEqual(await datapath.check(ports.slice(1)), [])
  })

  test('all that pods have made impossible is named at once, and the others are made right', async () => {
    const pod = (n: number) => port(blue, 'n1', n, namespace(`pod${n}`))
    const [taken, refused, other, lost] = [pod(1), pod(2), pod(3), pod(4)] as const
    const ended = port(blue, 'n1', 5, '/proc/self/ns/uts')
    await datapath.replace(plan('n1', [blue], [taken, refused, lost]))
    const edit = (netns: string, fill: (batch: Batch) => void) => {
      const place = new Place(netns)
      const batch = new Batch()
      fill(batch)
      place.route.send(batch)
      place.close()
    }
    for (const { inside } of [taken, lost])
      edit(inside.netns, (batch) => rt.deleteLink(batch, 'delete', 'eth0'))
    edit(taken.inside.netns, (batch) => rt.newBridge(batch, 'take its name', { name: 'eth0' }))
    // Nobody but the kernel knows better here.
    const badRoute = { to: '10.9.0.0/16', link: 'pnblue2', via: '127.0.0.1' }
    const bad = { ...refused, routes: [...refused.routes, badRoute] }
    const both = [blue, red].map((network) => {
      const one = port(network, 'n1', 6, at('pod6'))
      return { ...one, inside: { ...one.inside, name: `a-name-too-long-${network.name}` } }
    })
    namespace('pod6')
    for (const attempt of ['first', 'second']) {
      const wanted = plan('n1', [blue, red], [taken, bad, other, lost, ended, ...both])
      const { spoilt, orphans, refused } = await datapath.replace(wanted)
      assert.deepEqual(
        spoilt?.map((text) => text.split(': ')[0]).sort(),
        [taken, bad, ended, both[0]!].map(({ key }) => key),
        attempt,
      )
      assert.equal(refused, undefined)
      assert.deepEqual(orphans, [])
      assert.deepEqual(await datapath.check([other, lost]), [])
    }
    edit(taken.inside.netns, (batch) => rt.deleteLink(batch, 'delete', 'eth0'))
    const ports = [taken, refused, other, lost]
    assert.equal((await datapath.replace(plan('n1', [blue], ports))).spoilt, undefined)
    assert.deepEqual(await datapath.check(ports), [])
  })

  test('pods whose NIC is gone do not keep others from being made right', async () => {
    const onWire = direct('n1', 1, namespace('pod1'), 'eth2')
    const taker: PortPlan = {
      ...direct('n1', 2, namespace('pod2'), 'eth2'),
      link: { kind: 'host-device', device: 'eth2' },
    }
    const other = port(blue, 'n1', 3, namespace('pod3'))
    await datapath.attach([onWire])
    const host = new Place(at('host'))
    const batch = new Batch()
    rt.deleteLink(batch, 'unplug it', 'eth2')
    host.route.send(batch)
    host.close()
    const { spoilt } = await datapath.replace(plan('n1', [blue], [onWire, taker, other]))
    assert.deepEqual(
      spoilt?.map((text) => text.split(':')[0]),
      [onWire.key, taker.key],
    )
    assert.deepEqual(await datapath.check([other]), [])
  })

  test('a pod that puts what nobody can delete among the links to be deleted is taken away all the same', async () => {
    const pod = namespace('pod')
    const crowd = (netns: string, name: string) => {
      const place = new Place(netns)
      const batch = new Batch()
      rt.setLink(batch, 'crowd', { name, group: rt.doomedGroup })
      place.route.send(batch)
      place.close()
    }
    const port = direct('n1', 1, pod, 'eth2')
    await datapath.attach([port])
    crowd(pod, 'lo')
    await datapath.detach([port])
    assert.deepEqual(summary(pod), [])
    // A NIC that comes back from a pod is in no group.
    const taker: PortPlan = { ...port, link: { kind: 'host-device', device: 'eth2' } }
    const before = summary(at('host'))
    await datapath.attach([taker])
    crowd(pod, 'eth0')
    await datapath.detach([taker])
    const made = applyNamespaces(
      [
        {
          ...emptyNamespace('host'),
          links: [{ kind: 'veth', name: 'pnold', mtu: 1500, peer: { netns: 'pod', name: 'old' } }],
        },
        emptyNamespace('pod'),
      ],
      { host: at('host'), pod },
    )
    assert.equal(made.length > 0, true)
    await datapath.replace(plan('n1', []))
    assert.deepEqual(summary(at('host')), before)
  })

  test('a tunnel has what its NIC leaves it, and the network’s MTU once the NIC has that', async () => {
    const all = plan('n1', [blue])
    for (const { links } of all.namespaces)
      for (const link of links) if (link.kind === 'vxlan') link.mtu = 8950
    const tunnel = () =>
      summary(at('run/netns/pn-blue'))
        .filter((line) => line.includes('vxlan'))
        .map((line) => line.split(' ')[3])
    await datapath.replace(all)
    assert.deepEqual(tunnel(), ['1450'])
    assert.deepEqual((await datapath.replace(all)).changes, [])
    const setMtu = (mtu: number) => {
      const host = new Place(at('host'))
      const batch = new Batch()
      rt.setLink(batch, `give it ${mtu}`, { name: 'eth1', mtu })
      host.route.send(batch)
      host.close()
    }
    setMtu(9000)
    await datapath.replace(all)
    assert.deepEqual(tunnel(), ['8950'])
    setMtu(1400)
    assert.deepEqual((await datapath.replace(all)).changes, [])
  })

  test('settings that the links of an attachment start with are not those of later links', async () => {
    const pod = namespace('pod')
    const setting = (link: string) =>
      inside(pod, () => readFileSync(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, 'utf8').trim())
    const made = direct('n1', 1, pod, 'eth2')
    made.inside.sysctls = { 'ipv6/conf/eth0/disable_ipv6': '1' }
    await datapath.attach([made])
    assert.deepEqual([setting('eth0'), setting('default'), await datapath.check([made])], ['1', '0', []])
    const taken = { ...made, key: 'direct1c1/net1', link: { ...made.link, parent: 'missing' } } as PortPlan
    taken.inside = { ...made.inside, name: 'net1', sysctls: { 'ipv6/conf/net1/disable_ipv6': '1' } }
    await assert.rejects(datapath.attach([taken]), /missing/)
    assert.equal(setting('default'), '0')
  })

  test('the node’s end of a port has an IPv6 address only where the pod has one', async () => {
    const both = port(blue, 'n1', 1, namespace('both'))
    const withoutIPv6 = (n: number, mtu: number): PortPlan => {
      const made = port(blue, 'n1', n, namespace(`pod${n}`))
      const isV4 = (text: string) => !text.includes(':')
      const { addresses, routes, neighbours } = made.inside
      return {
        ...made,
        routes: made.routes.filter(({ to }) => isV4(to)),
        neighbours: made.neighbours.filter(({ address }) => isV4(address)),
        inside: {
          ...made.inside,
          mtu,
          addresses: addresses.filter(isV4),
          routes: routes.filter(({ to }) => isV4(to)),
          neighbours: neighbours.filter(({ address }) => isV4(address)),
        },
      }
    }
    // With 1000 the kernel has no IPv6 on the link at all.
    const ports = [both, withoutIPv6(2, 1450), withoutIPv6(3, 1000)]
    await datapath.replace(plan('n1', [blue]))
    await datapath.attach(ports)
    const place = new Place(at(`run/netns/${blue.netns}`))
    const addresses = place.route.dump(rt.dumpAddresses).map(rt.seenAddress)
    const of = ({ link }: PortPlan) => {
      const index = link.kind === 'veth' && place.index(link.name)
      return addresses.filter((seen) => seen.index === index).map(({ address }) => address)
    }
    const found = ports.map(of)
    place.close()
    assert.deepEqual(found, [['fe80::858:a9ff:fefe:101/64'], [], []])
    assert.deepEqual(await datapath.check(ports), [])
    assert.deepEqual((await datapath.replace(plan('n1', [blue], ports))).changes, [])
  })

  test('pods whose ports are unchanged are not looked into, unless one lost its node’s side', async () => {
    const ports = [1, 2].map((n) => port(blue, 'n1', n, namespace(`pod${n}`)))
    const all = plan('n1', [blue], ports)
    await datapath.replace(all)
    const unchanged = ports.map(({ key }) => key)
    const before = await datapath.describe()
    assert.deepEqual(await datapath.replace(all, unchanged), { changes: [], orphans: [] })
    assert.deepEqual(await datapath.describe(), before)
    const edit = (netns: string, fill: (batch: Batch) => void) => {
      const place = new Place(netns)
      const batch = new Batch()
      fill(batch)
      place.route.send(batch)
      place.close()
    }
    const spoil = (n: number) =>
      edit(at(`pod${n}`), (b) => rt.setLink(b, 'spoil', { name: 'eth0', mtu: 1300 }))
    const spoilt = async () => (await datapath.check(ports)).length
    spoil(1)
    assert.deepEqual((await datapath.replace(all, unchanged)).changes, [])
    assert.equal(await spoilt(), 1)
    // Only those that are said to be unchanged.
    spoil(2)
    await datapath.replace(all, unchanged.slice(0, 1))
    assert.equal(await spoilt(), 1)
    await datapath.replace(all)
    assert.equal(await spoilt(), 0)
    const [first] = ports
    edit(join(at('run/netns'), first!.netns), (b) => {
      const { link } = first!
      if (link.kind === 'veth') rt.deleteLink(b, 'delete', link.name)
    })
    await datapath.replace(all, unchanged)
    assert.equal(await spoilt(), 0)
    assert.deepEqual(await datapath.describe(), before)
  })

  test('isolated ports of a bridge reach others, but not each other', async () => {
    const network: NamespacePlan = {
      ...emptyNamespace('pn-flat'),
      links: [
        { kind: 'existing', name: 'lo' },
        { kind: 'bridge', name: 'pnbr', mtu: 1500 },
      ],
    }
    const port = (n: number, isolated: boolean): PortPlan => {
      const made = direct('n1', n, namespace(`pod${n}`), 'eth2')
      made.link = {
        kind: 'veth',
        name: `pn${n}`,
        mac: '0a:58:a9:fe:01:01',
        noarp: false,
        bridge: 'pnbr',
        isolated,
      }
      return { ...made, netns: 'pn-flat' }
    }
    const ports = [port(1, true), port(2, true), port(3, false)]
    const all = { namespaces: [plan('n1', []).namespaces[0]!, network], ports }
    await datapath.replace({ ...all, ports: [] })
    await datapath.attach(ports)
    assert.deepEqual((await datapath.replace(all)).changes, [])
    const broadcast = async (from: number): Promise<number[]> => {
      const sockets = ports.map(({ inside }) => packetSocket(inside.netns, 'eth0'))
      const frame = Buffer.alloc(60, 0x5a)
      frame.fill(0xff, 0, 6)
      frame.writeUInt16BE(0x88b5, 12)
      sockets[from]!.send(frame)
      await new Promise((resolve) => setTimeout(resolve, 50))
      const got = (socket: PacketSocket) => socket.drain().some((f) => !f.outgoing && f.data.equals(frame))
      const result = sockets.flatMap((socket, i) => (got(socket) ? [i] : []))
      for (const socket of sockets) socket.close()
      return result
    }
    assert.deepEqual([await broadcast(0), await broadcast(1), await broadcast(2)], [[2], [2], [0, 1]])
  })

  test('a bridge learns no MAC from what a pod sends to bridges', async () => {
    const network: NamespacePlan = {
      ...emptyNamespace('pn-flat'),
      links: [{ kind: 'bridge', name: 'pnbr', mtu: 1500 }],
    }
    const ports = [1, 2, 3].map((n): PortPlan => {
      const made = direct('n1', n, namespace(`pod${n}`), 'eth2')
      const mac = '0a:58:a9:fe:01:01'
      return {
        ...made,
        netns: 'pn-flat',
        link: { kind: 'veth', name: `pn${n}`, mac, noarp: false, bridge: 'pnbr' },
      }
    })
    await datapath.replace({ namespaces: [plan('n1', []).namespaces[0]!, network], ports: [] })
    await datapath.attach(ports)
    const [victim, friend, evil] = ports.map(({ inside }) => packetSocket(inside.netns, 'eth0')) as [
      PacketSocket,
      PacketSocket,
      PacketSocket,
    ]
    const [victims, friends] = ports.map(({ inside }) => Buffer.from(macBytes(inside.mac!))) as [
      Buffer,
      Buffer,
    ]
    const frame = (to: Buffer, from: Buffer) => Buffer.concat([to, from, Buffer.alloc(48, 0x5a)])
    const pause = () => new Promise((resolve) => setTimeout(resolve, 20))
    const saw = (socket: PacketSocket, sent: Buffer) =>
      socket.drain().some((f) => !f.outgoing && f.data.equals(sent))
    try {
      victim.send(frame(Buffer.alloc(6, 0xff), victims))
      await pause()
      for (let last = 0; last < 16; last++) {
        evil.send(frame(Buffer.from([0x01, 0x80, 0xc2, 0, 0, last]), victims))
        // That one is forwarded where no spanning tree is spoken: rules of the plan drop it.
        if (last === 0) victim.send(frame(Buffer.alloc(6, 0xff), victims))
        await pause()
        const sent = frame(victims, friends)
        friend.send(sent)
        await pause()
        assert.deepEqual(
          [saw(victim, sent), saw(evil, sent)],
          [true, false],
          `01:80:c2:00:00:0${last.toString(16)}`,
        )
      }
    } finally {
      for (const socket of [victim, friend, evil]) socket.close()
    }
  })

  test('no thread of the process is left in another namespace', async () => {
    const own = readlinkSync(ownNetns)
    const pods = [1, 2, 3, 4].map((n) => direct('n1', n, namespace(`pod${n}`), 'eth2'))
    const busy = pods.map(async (port) => {
      await datapath.attach([port])
      await Promise.all([readFile('/proc/self/status'), datapath.check([port]), readFile('/proc/self/stat')])
      await datapath.detach([port])
    })
    assert.throws(() =>
      inside(at('host'), () => assert.notEqual(readlinkSync(ownNetns), own) ?? JSON.parse('')),
    )
    await Promise.all(busy)
    const threads = readdirSync('/proc/self/task').filter((id) => existsSync(`/proc/self/task/${id}/ns/net`))
    assert.ok(threads.length > 4)
    for (const id of threads) assert.equal(readlinkSync(`/proc/self/task/${id}/ns/net`), own)
  })

  test('an inspector that is asked for while the thread is in a pod’s namespace opens outside', () => {
    const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
    const script = `
      import { readdirSync, readlinkSync } from 'node:fs'
      import inspector from 'node:inspector'
      import { setTimeout as sleep } from 'node:timers/promises'
      const { inside, ownNetns } = await import(${module('./netns.ts')})
      const { openInspectorWhenAsked } = await import(${module('../../lib/inspector.ts')})
      const own = readlinkSync(ownNetns)
      openInspectorWhenAsked(0)
      inside(${JSON.stringify(namespace('pod'))}, () => {
        process.kill(process.pid, 'SIGUSR1')
        const until = performance.now() + 300
        while (performance.now() < until) JSON.stringify(own)
      })
      while (!inspector.url()) await sleep(10)
      const elsewhere = readdirSync('/proc/self/task').filter((id) => readlinkSync('/proc/self/task/' + id + '/ns/net') !== own)
      console.log(elsewhere.length)
      inspector.close()
      process.exit(0)`
    const { stdout } = spawnSync(
      process.execPath,
      ['--inspect-port=0', '--input-type=module', '-e', script],
      {
        encoding: 'utf8',
      },
    )
    assert.equal(stdout, '0\n')
  })
})
