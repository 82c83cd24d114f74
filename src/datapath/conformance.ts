import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isFault } from '../lib/fault.ts'
import { familyOf } from '../lib/ip.ts'
import { gatewayMac } from '../lib/mac.ts'
import type { NamespacePlan, Neighbour, NodePlan, PortLink, PortPlan, Route } from '../plan/node-plan.ts'
import {
  beside,
  blue,
  direct,
  flat,
  green,
  home,
  type NodeName,
  nicAddress,
  plan,
  podAddresses,
  podMac,
  port,
  red,
  type TestNetwork,
  tunnelPort,
  withoutTunnels,
} from './conformance-plan.ts'
import { ruleCases, withRules } from './conformance-rules.ts'
import { routeLine } from './lines.ts'
import type { Datapath } from './port.ts'

/**
 * Two nodes, `n1` and `n2`, whose kernels have nothing of Polynet's. Each has
 * the NICs `eth1` and `eth2`, up, of MTU 1500; both `eth1` are on the switch
 * `phy-net0`, both `eth2` on `phy-net1`; `nicAddress` says which addresses they
 * have, with /24. There is no other way between the nodes.
 *
 * Namespaces are written as `node:n1` (the host's), `node:n1/pn-blue` (one that
 * a plan made) or a pod namespace's path. On Linux a node is a network
 * namespace with a run directory of its own, a switch is a bridge in one more,
 * and a NIC is a veth between them. `send` opens UDP sockets there by setns;
 * sees what crosses by AF_PACKET sockets on the node's ends of the NICs, which
 * look for the datagram's random payload anywhere in a frame. The file that
 * calls `datapathConformance('linux', …)` lies in `datapath/linux/`.
 */
export interface Bench {
  /** The same until `restart`. */
  datapath(node: NodeName): Datapath
  /** Closes the node's datapath and opens another, as when an agent dies and comes back; the kernel stays. */
  restart(node: NodeName): Promise<void>
  /** Makes an empty pod namespace with `lo` up, and resolves to its path. */
  addPod(node: NodeName, name: string): Promise<string>
  removePod(path: string): Promise<void>
  /**
   * Sends one UDP datagram to a port from 20000 up while every pod and both
   * hosts listen to it, in both families, and waits long enough for it to arrive. That the sender
   * cannot send it (no route, too big) counts as received by nobody.
   */
  send(from: string, datagram: Datagram): Promise<Seen>
  /** The same with a frame that a process with NET_RAW puts on a link. An ARP frame is received by nobody. */
  sendFrame(from: string, link: string, frame: RawFrame): Promise<Seen>
  /** Deletes a link behind Polynet's back. */
  loseLink(where: string, link: string): Promise<void>
  /** Takes an address (with prefix length) off a link behind Polynet's back. */
  loseAddress(where: string, link: string, address: string): Promise<void>
  /** Sets a NIC of the host up or down. */
  setNic(node: NodeName, nic: 'eth1' | 'eth2', state: 'up' | 'down'): Promise<void>
  /**
   * Makes, in the host's namespace, what belongs to somebody else: a link
   * `foreign0`, up, with 198.51.100.1/24; a route to 203.0.113.0/24 by it; a table
   * `inet foreign` whose one chain accepts everything at the hook `input`.
   */
  addForeign(node: NodeName): Promise<void>
  /** A program in the host's namespace takes a UDP port for IPv4; resolves to how it ends. */
  listen(node: NodeName, port: number): Promise<() => void>
  /** Those objects as the kernel has them now, a line each. */
  foreign(node: NodeName): Promise<string[]>
  /** Names of the networks' namespaces that the node has, sorted. */
  namespaces(node: NodeName): Promise<string[]>
  close(): Promise<void>
}

export interface Datagram {
  to: string
  /** Absent: the kernel's choice. Otherwise this, also when it is not the sender's (a raw socket). */
  source?: string
  /** Size of the IP packet, 100 when absent; sent with "don't fragment". */
  size?: number
}

export type RawFrame = { etherSource: string; etherDestination: string } & (
  | { source: string; to: string }
  | { arp: { operation: 'request' | 'reply'; senderMac: string; senderIp: string; targetIp: string } }
)

export interface Seen {
  /** Namespaces where a socket received it, sorted. */
  received: string[]
  /** NICs and switches that carried it, in a tunnel or not, sorted: `n1/eth1`, `n2/eth1`, `phy-net0`. */
  crossed: string[]
}

/**
 * What every datapath does, whatever is behind it. `start` gives a fresh bench
 * for each claim. A datapath that cannot do something lists the claims' titles
 * in `cannot`, with the reason; they are then reported as skipped, as are those
 * for which the kernel lacks the kind of link.
 */
export function datapathConformance(
  name: string,
  start: () => Promise<Bench>,
  cannot: Record<string, string> = {},
): void {
  describe(`${name} datapath`, () => {
    for (const [title, claim] of Object.entries(claims))
      test(title, { skip: cannot[title] ?? false }, async (t) => {
        const bench = await start()
        try {
          await claim(bench)
        } catch (error) {
          if (!(error instanceof Unsupported)) throw error
          t.skip(error.message)
        } finally {
          await bench.close()
        }
      })
  })
}

const eth1 = ['n1/eth1', 'n2/eth1', 'phy-net0']
const eth2 = ['n1/eth2', 'n2/eth2', 'phy-net1']

/** Two pods of each network on n1 and one on n2, attached; by name (`blue1`, `blue2` on n1, `blue3` on n2), their paths. */
async function cluster(bench: Bench, networks: TestNetwork[]): Promise<Pods> {
  const pods: Pods = {}
  for (const node of ['n1', 'n2'] as const) {
    await bench.datapath(node).replace(plan(node, networks))
    const ports: PortPlan[] = []
    for (const network of networks)
      for (const n of node === 'n1' ? [1, 2] : [3]) {
        const path = await bench.addPod(node, `${network.name}${n}`)
        pods[`${network.name}${n}`] = path
        ports.push(port(network, node, n, path))
      }
    await bench.datapath(node).attach(ports)
  }
  return pods
}

type Pods = Record<string, string>

/** The plan and ports of what `cluster` made on n1. */
function planOfN1(networks: TestNetwork[], pods: Pods): NodePlan {
  const ports = networks.flatMap((network) =>
    [1, 2].map((n) => port(network, 'n1', n, pods[`${network.name}${n}`] as string)),
  )
  return plan('n1', networks, ports)
}

/** Sends both ways in both families, and says what is not as it should be. */
async function reach(bench: Bench, network: TestNetwork, a: End, b: End, crossed: string[]): Promise<void> {
  for (const family of [0, 1] as const)
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const [fromNode, fromN, fromPath] = from
      const source = podAddresses(network, fromNode, fromN)[family]
      const target = podAddresses(network, to[0], to[1])[family]
      const seen = await bench.send(fromPath, { to: target })
      assert.deepEqual(seen, { received: [to[2]], crossed }, `${source} to ${target}`)
    }
}

type End = [NodeName, number, string]

/** A pod on `eth2` of each node, made as `near` on n1 and `far` on n2: whether they hear each other, and that detach leaves nothing. */
async function onWire(bench: Bench, near: PortLink, far: PortLink, heard: boolean): Promise<void> {
  const [a, b] = [await bench.addPod('n1', 'a'), await bench.addPod('n2', 'b')]
  const made = (node: NodeName, n: number, path: string, link: PortLink): PortPlan => {
    const { inside, ...rest } = direct(node, n, path, 'eth2')
    const { mac, ...without } = inside
    return { ...rest, link, inside: link.kind === 'macvlan' ? { ...without, mac } : without }
  }
  const [one, other] = [made('n1', 1, a, near), made('n2', 3, b, far)]
  const before = await bench.datapath('n1').describe()
  await attachOrSkip(bench.datapath('n1'), one)
  await attachOrSkip(bench.datapath('n2'), other)
  assert.deepEqual((await bench.send(a, { to: '192.168.20.123' })).received, heard ? [b] : [])
  assert.deepEqual((await bench.send(b, { to: '192.168.20.111' })).received, heard ? [a] : [])
  assert.deepEqual(await bench.datapath('n1').check([one]), [])
  await bench.datapath('n1').detach([one])
  assert.deepEqual(await bench.datapath('n1').describe(), before)
}

/** What this kernel was not built with is no failure of the datapath. */
class Unsupported extends Error {}

async function attachOrSkip(datapath: Datapath, wanted: PortPlan): Promise<void> {
  try {
    await datapath.attach([wanted])
  } catch (error) {
    if (isFault(error, 'unsupported') || (isFault(error, 'kernel') && error.problem.startsWith('EOPNOTSUPP')))
      throw new Unsupported(`this kernel has no ${wanted.link.kind}`)
    throw error
  }
}

const rejection = async (promise: Promise<unknown>): Promise<Error> => {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new assert.AssertionError({ message: 'it should have failed' })
}

const claims: Record<string, (bench: Bench) => Promise<void>> = {
  'pods of a routed network reach each other on one node, in both families, by no NIC': async (bench) => {
    const pods = await cluster(bench, [blue])
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n1', 2, pods.blue2!], [])
  },

  'pods of a routed network reach each other across nodes, in both families, by its NIC and switch and no other':
    async (bench) => {
      const pods = await cluster(bench, [blue, red])
      await reach(bench, blue, ['n1', 1, pods.blue1!], ['n2', 3, pods.blue3!], eth1)
      await reach(bench, red, ['n1', 1, pods.red1!], ['n2', 3, pods.red3!], eth2)
    },

  'pods of a switched network reach each other on one node and across nodes': async (bench) => {
    const pods = await cluster(bench, [flat])
    await reach(bench, flat, ['n1', 1, pods.flat1!], ['n1', 2, pods.flat2!], [])
    await reach(bench, flat, ['n1', 1, pods.flat1!], ['n2', 3, pods.flat3!], eth1)
  },

  'pods of the default network reach each other, and the host reaches them': async (bench) => {
    const pods = await cluster(bench, [home])
    await reach(bench, home, ['n1', 1, pods.home1!], ['n1', 2, pods.home2!], [])
    await reach(bench, home, ['n1', 1, pods.home1!], ['n2', 3, pods.home3!], eth1)
    const probe = await bench.send('node:n1', { to: podAddresses(home, 'n1', 1)[0] })
    assert.deepEqual(probe, { received: [pods.home1], crossed: [] })
  },

  'networks with the same subnet each reach only their own': async (bench) => {
    const pods = await cluster(bench, [blue, green])
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n2', 3, pods.blue3!], eth1)
    await reach(bench, green, ['n1', 1, pods.green1!], ['n2', 3, pods.green3!], eth2)
    await reach(bench, green, ['n1', 1, pods.green1!], ['n1', 2, pods.green2!], [])
  },

  'a pod on two networks with the same subnet reaches each by the address that it sends from': async (
    bench,
  ) => {
    const pods = await cluster(bench, [blue, green])
    for (const first of [blue, green]) {
      const [second, n] = first === blue ? ([green, 11] as const) : ([blue, 21] as const)
      const both = await bench.addPod('n1', `both${n}`)
      const ports = [port(first, 'n1', n, both), beside(port(second, 'n1', n + 1, both, 'eth1'), 8001)]
      await bench.datapath('n1').attach(ports)
      assert.deepEqual(await bench.datapath('n1').check(ports), [])
      for (const [network, own] of [
        [first, n],
        [second, n + 1],
      ] as const) {
        const [here, there] = [pods[`${network.name}1`]!, pods[`${network.name}3`]!]
        for (const family of [0, 1] as const) {
          const source = podAddresses(network, 'n1', own)[family]
          const send = (to: string) => bench.send(both, { to, source })
          const back = (from: string) => bench.send(from, { to: source })
          const crossed = network === blue ? eth1 : eth2
          assert.deepEqual(await send(podAddresses(network, 'n1', 1)[family]), {
            received: [here],
            crossed: [],
          })
          assert.deepEqual(await send(podAddresses(network, 'n2', 3)[family]), { received: [there], crossed })
          assert.deepEqual(await back(there), { received: [both], crossed })
        }
      }
      await bench.datapath('n1').detach(ports)
    }
  },

  'what has an interface’s address leaves by it where the pod’s own routes know nothing better': async (
    bench,
  ) => {
    const pods = await cluster(bench, [home, blue])
    const path = await bench.addPod('n1', 'both')
    const far = '203.0.113.9'
    const plans = [
      port(home, 'n1', 5, path),
      beside(direct('n1', 5, path, 'eth2'), 8001, [nicAddress('n2', 'eth2')]),
    ]
    plans[1] = { ...plans[1]!, inside: { ...plans[1]!.inside, name: 'eth1' } }
    plans[1].inside.routes = plans[1].inside.routes.map((route) => ({ ...route, link: 'eth1' }))
    await attachOrSkip(bench.datapath('n1'), plans[1])
    await bench.datapath('n1').attach([plans[0]!])
    const [ip] = podAddresses(home, 'n1', 5)
    const onWire = '192.168.20.115'
    assert.deepEqual((await bench.send(path, { to: far, source: ip })).crossed, [])
    assert.deepEqual((await bench.send(path, { to: far, source: onWire })).crossed, eth2)
    // Its own routes come before the network's default route, but not before the network's subnets.
    const known = { ...plans[0]!, inside: { ...plans[0]!.inside } }
    known.inside.routes = [
      ...known.inside.routes,
      { to: '203.0.113.0/24', link: 'eth0', via: '169.254.1.1' },
      { to: '192.168.20.0/24', link: 'eth0', via: '169.254.1.1', metric: 0 },
    ]
    await bench.datapath('n1').attach([known])
    assert.deepEqual((await bench.send(path, { to: far, source: onWire })).crossed, [])
    assert.deepEqual((await bench.send(path, { to: nicAddress('n2', 'eth2'), source: onWire })).crossed, eth2)
    assert.deepEqual(await bench.send(pods.home1!, { to: ip }), { received: [path], crossed: [] })
  },

  'what goes into a blackhole ends there, and what is routed more closely does not': async (bench) => {
    const pods = await cluster(bench, [blue])
    const { namespaces, ports } = planOfN1([blue], pods)
    const [, own] = namespaces
    const nobodys = ['10.1.77.1', 'fd00:10:1::77:1']
    const crosses = async (): Promise<string[][]> => {
      const seen: string[][] = []
      for (const to of nobodys) seen.push((await bench.send(pods.blue1!, { to })).crossed)
      return seen
    }
    const withRoutes = (more: Route[]): NodePlan => ({
      namespaces: [namespaces[0]!, { ...own!, routes: [...own!.routes, ...more] }],
      ports,
    })
    const away: Route[] = ['0.0.0.0/0', '::/0'].map((to) => ({ to, link: 'pnvx', via: 'fe80::2' }))
    // As large as a block that is routed, too: the lower metric wins.
    const holes: Route[] = ['10.1.0.0/16', 'fd00:10:1::/64', '10.1.2.0/24', 'fd00:10:1::2:0/112'].map(
      (to) => ({ to, link: 'lo', metric: 10_000, blackhole: true }),
    )
    const datapath = bench.datapath('n1')
    await datapath.replace(withRoutes(away))
    assert.deepEqual(await crosses(), [eth1, eth1])
    const changes = holes.map((hole) => `+ ${routeLine(blue.netns, hole)}`)
    const added = await datapath.replace(withRoutes([...away, ...holes]))
    assert.deepEqual(added.changes.toSorted(), changes.toSorted())
    assert.deepEqual(await datapath.replace(withRoutes([...away, ...holes])), { changes: [], orphans: [] })
    assert.deepEqual(await crosses(), [[], []])
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n2', 3, pods.blue3!], eth1)
    await datapath.replace(withRoutes(away))
    assert.deepEqual(await crosses(), [eth1, eth1])
  },

  'source rules that differ are named and made right': async (bench) => {
    const datapath = bench.datapath('n1')
    await datapath.replace(plan('n1', [blue]))
    const path = await bench.addPod('n1', 'a')
    const bare = port(blue, 'n1', 1, path)
    const ruled = beside(bare, 8001)
    const [ip] = podAddresses(blue, 'n1', 1)
    await datapath.attach([bare])
    const said = (await datapath.check([ruled])).join('\n')
    assert.match(said, new RegExp(`blue1c1/eth0: .*source-rule .* from ${ip} `))
    await datapath.attach([ruled])
    assert.deepEqual(await datapath.check([ruled]), [])
    const other = beside(port(blue, 'n1', 2, path), 8001)
    const moved = { ...other, key: ruled.key, link: ruled.link, elements: ruled.elements }
    assert.match(
      (await datapath.check([moved])).join('\n'),
      new RegExp(`blue1c1/eth0: .*source-rule .* from ${ip} `),
    )
    const changed = plan(
      'n1',
      [blue],
      [{ ...ruled, inside: { ...ruled.inside, rules: ruled.inside.rules!.slice(0, 3) } }],
    )
    assert.equal((await datapath.replace(changed)).changes.length, 3)
    assert.deepEqual(await datapath.replace(changed), { changes: [], orphans: [] })
    await bench.restart('n1')
    await bench.datapath('n1').detach(changed.ports)
    await bench.datapath('n1').attach([ruled])
    assert.deepEqual(await bench.datapath('n1').check([ruled]), [])
  },

  'pods of two networks do not reach each other, and no pod reaches the host': async (bench) => {
    const pods = await cluster(bench, [blue, red])
    for (const [from, own, foreign] of [
      [pods.blue1!, blue, red],
      [pods.red1!, red, blue],
    ] as const)
      for (const to of [
        ...podAddresses(foreign, 'n1', 2),
        ...podAddresses(foreign, 'n2', 3),
        nicAddress('n1', 'eth1'),
        nicAddress('n2', 'eth2'),
      ]) {
        const family = to.includes(':') ? 1 : 0
        const forged = podAddresses(foreign, 'n1', 1)[family]
        for (const source of [podAddresses(own, 'n1', 1)[family], forged])
          assert.deepEqual(
            await bench.send(from, { to, source }),
            { received: [], crossed: [] },
            `${source} to ${to}`,
          )
      }
  },

  'a pod on the wire itself reaches others there, and crosses only its NIC': async (bench) => {
    const a = await bench.addPod('n1', 'a')
    const b = await bench.addPod('n1', 'b')
    const c = await bench.addPod('n2', 'c')
    await bench.datapath('n1').attach([direct('n1', 1, a, 'eth2'), direct('n1', 2, b, 'eth2')])
    await bench.datapath('n2').attach([direct('n2', 3, c, 'eth2')])
    assert.deepEqual(await bench.send(a, { to: '192.168.20.112' }), { received: [b], crossed: [] })
    assert.deepEqual(await bench.send(a, { to: '192.168.20.123' }), { received: [c], crossed: eth2 })
    assert.deepEqual(await bench.send(c, { to: '192.168.20.111' }), { received: [a], crossed: eth2 })
    assert.deepEqual(await bench.send(a, { to: nicAddress('n2', 'eth2') }), {
      received: ['node:n2'],
      crossed: eth2,
    })
  },

  'a forged source address is dropped': async (bench) => {
    const pods = await cluster(bench, [blue, flat])
    for (const network of [blue, flat])
      for (const family of [0, 1] as const) {
        const source = podAddresses(network, 'n1', 2)[family]
        for (const [node, n] of [
          ['n1', 2],
          ['n2', 3],
        ] as const) {
          const to = podAddresses(network, node, n)[family]
          const seen = await bench.send(pods[`${network.name}1`]!, { to, source })
          assert.deepEqual(seen, { received: [], crossed: [] }, `${network.name} from ${source} to ${to}`)
        }
      }
  },

  'a frame with a forged MAC is dropped, the same frame with its own is not': async (bench) => {
    const pods = await cluster(bench, [blue, flat])
    // The bridge learns where everyone is, so that nothing is flooded below.
    await reach(bench, flat, ['n1', 1, pods.flat1!], ['n1', 2, pods.flat2!], [])
    for (const network of [blue, flat]) {
      const [source] = podAddresses(network, 'n1', 1)
      const [to] = podAddresses(network, 'n1', 2)
      const etherDestination = network === blue ? gatewayMac : podMac(network, 'n1', 2)
      for (const [etherSource, received] of [
        [podMac(network, 'n1', 1), [pods[`${network.name}2`]]],
        [podMac(network, 'n1', 2), []],
        ['0a:00:00:00:00:77', []],
      ] as const) {
        const seen = await bench.sendFrame(pods[`${network.name}1`]!, 'eth0', {
          etherSource,
          etherDestination,
          source,
          to,
        })
        assert.deepEqual(seen, { received, crossed: [] }, `${network.name} from ${etherSource}`)
      }
    }
  },

  'a forged ARP answer does not take over another pod’s address': async (bench) => {
    const pods = await cluster(bench, [flat])
    await reach(bench, flat, ['n1', 2, pods.flat2!], ['n2', 3, pods.flat3!], eth1)
    await bench.sendFrame(pods.flat1!, 'eth0', {
      etherSource: podMac(flat, 'n1', 1),
      etherDestination: 'ff:ff:ff:ff:ff:ff',
      arp: {
        operation: 'reply',
        senderMac: podMac(flat, 'n1', 1),
        senderIp: podAddresses(flat, 'n2', 3)[0],
        targetIp: podAddresses(flat, 'n1', 2)[0],
      },
    })
    await reach(bench, flat, ['n1', 2, pods.flat2!], ['n2', 3, pods.flat3!], eth1)
  },

  'a packet as large as the MTU arrives, a larger one does not': async (bench) => {
    const pods = await cluster(bench, [blue])
    const [to] = podAddresses(blue, 'n2', 3)
    assert.deepEqual((await bench.send(pods.blue1!, { to, size: 1450 })).received, [pods.blue3])
    assert.deepEqual((await bench.send(pods.blue1!, { to, size: 1451 })).received, [])
  },

  'an ipvlan on the wire reaches others there': async (bench) => {
    await onWire(
      bench,
      { kind: 'ipvlan', parent: 'eth2', mode: 'l2' },
      { kind: 'ipvlan', parent: 'eth2', mode: 'l2' },
      true,
    )
  },

  'a VLAN on the wire reaches its own VLAN': async (bench) => {
    await onWire(
      bench,
      { kind: 'vlan', parent: 'eth2', id: 7 },
      { kind: 'vlan', parent: 'eth2', id: 7 },
      true,
    )
  },

  'a VLAN on the wire does not reach another': async (bench) => {
    await onWire(
      bench,
      { kind: 'vlan', parent: 'eth2', id: 7 },
      { kind: 'vlan', parent: 'eth2', id: 8 },
      false,
    )
  },

  'a NIC of the host is a pod’s until it is detached': async (bench) => {
    await onWire(
      bench,
      { kind: 'host-device', device: 'eth2' },
      { kind: 'macvlan', parent: 'eth2', mode: 'bridge' },
      true,
    )
    assert.deepEqual(
      (await bench.datapath('n1').nics()).map((nic) => nic.name),
      ['eth1', 'eth2'],
    )
  },

  'a tunnel carries again when its NIC is up again': async (bench) => {
    const pods = await cluster(bench, [blue])
    await bench.setNic('n1', 'eth1', 'down')
    const [to] = podAddresses(blue, 'n2', 3)
    assert.deepEqual((await bench.send(pods.blue1!, { to })).received, [])
    await bench.setNic('n1', 'eth1', 'up')
    await bench.datapath('n1').replace(planOfN1([blue], pods))
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n2', 3, pods.blue3!], eth1)
  },

  'rules decide about packets as nft(8) says, and are found as they were made': async (bench) => {
    const pods = await cluster(bench, [blue])
    for (const ruleCase of ruleCases) {
      const wanted = withRules(planOfN1([blue], pods), ruleCase)
      await bench.datapath('n1').replace(wanted)
      assert.deepEqual((await bench.datapath('n1').replace(wanted)).changes, [], ruleCase.title)
      let arrives = ''
      for (const family of [0, 0, 1] as const) {
        const { received } = await bench.send(pods.blue1!, { to: podAddresses(blue, 'n1', 2)[family] })
        arrives += received.length === 0 ? '-' : family === 0 ? '4' : '6'
      }
      assert.equal(arrives, ruleCase.arrives, ruleCase.title)
    }
  },

  'attach tells each port’s MAC in the pod': async (bench) => {
    await bench.datapath('n1').replace(plan('n1', [blue]))
    const ports = [
      port(blue, 'n1', 1, await bench.addPod('n1', 'a')),
      port(blue, 'n1', 2, await bench.addPod('n1', 'b')),
    ]
    assert.deepEqual(await bench.datapath('n1').attach(ports), [
      { key: 'blue1c1/eth0', mac: podMac(blue, 'n1', 1) },
      { key: 'blue1c2/eth0', mac: podMac(blue, 'n1', 2) },
    ])
  },

  'one pod has several networks': async (bench) => {
    await bench.datapath('n1').replace(plan('n1', [blue, red]))
    const [a, b, c] = [
      await bench.addPod('n1', 'a'),
      await bench.addPod('n1', 'b'),
      await bench.addPod('n1', 'c'),
    ]
    await bench.datapath('n1').attach([port(blue, 'n1', 1, a), port(red, 'n1', 1, a, 'eth1')])
    await bench.datapath('n1').attach([port(blue, 'n1', 2, b), port(red, 'n1', 2, c)])
    assert.deepEqual((await bench.send(a, { to: podAddresses(blue, 'n1', 2)[0] })).received, [b])
    assert.deepEqual((await bench.send(a, { to: podAddresses(red, 'n1', 2)[0] })).received, [c])
    // A pod with two networks is no way between them.
    assert.deepEqual((await bench.send(b, { to: podAddresses(red, 'n1', 2)[0] })).received, [])
  },

  'replace makes everything at once, and a second time changes nothing': async (bench) => {
    const pods: Pods = {}
    for (const name of ['blue1', 'blue2', 'flat1', 'flat2']) pods[name] = await bench.addPod('n1', name)
    const wanted = planOfN1([blue, flat], pods)
    const first = await bench.datapath('n1').replace(wanted)
    assert.notDeepEqual(first.changes, [])
    assert.deepEqual(first.orphans, [])
    const before = await bench.datapath('n1').describe()
    assert.deepEqual(await bench.datapath('n1').replace(structuredClone(wanted)), {
      changes: [],
      orphans: [],
    })
    assert.deepEqual(await bench.datapath('n1').describe(), before)
    assert.deepEqual(await bench.datapath('n1').check(wanted.ports), [])
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n1', 2, pods.blue2!], [])
    await reach(bench, flat, ['n1', 1, pods.flat1!], ['n1', 2, pods.flat2!], [])
  },

  'a datapath that starts on a kernel in use finds everything right': async (bench) => {
    const pods = await cluster(bench, [blue, flat, home])
    const wanted = planOfN1([blue, flat, home], pods)
    const before = await bench.datapath('n1').describe()
    await bench.restart('n1')
    assert.deepEqual(await bench.datapath('n1').describe(), before)
    assert.deepEqual(await bench.datapath('n1').replace(wanted), { changes: [], orphans: [] })
  },

  'replace repairs a lost tunnel and touches nothing else': async (bench) => {
    const pods = await cluster(bench, [blue, red])
    const before = await bench.datapath('n1').describe()
    await bench.loseLink('node:n1/pn-blue', 'pnvx')
    assert.notDeepEqual(await bench.datapath('n1').describe(), before)
    assert.deepEqual((await bench.send(pods.blue1!, { to: podAddresses(blue, 'n2', 3)[0] })).received, [])
    const { changes } = await bench.datapath('n1').replace(planOfN1([blue, red], pods))
    assert.notDeepEqual(changes, [])
    assert.deepEqual(
      changes.filter((line) => !line.startsWith('+ ') || !line.includes('pnvx') || line.includes('pn-red')),
      [],
    )
    assert.deepEqual(await bench.datapath('n1').describe(), before)
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n2', 3, pods.blue3!], eth1)
  },

  'replace repairs a port whose link was deleted in the pod': async (bench) => {
    const pods = await cluster(bench, [blue])
    const before = await bench.datapath('n1').describe()
    await bench.loseLink(pods.blue1!, 'eth0')
    assert.notDeepEqual(await bench.datapath('n1').describe(), before)
    const { changes, orphans } = await bench.datapath('n1').replace(planOfN1([blue], pods))
    assert.deepEqual(orphans, [])
    assert.deepEqual(
      changes.filter((line) => line.includes('blue2')),
      [],
    )
    assert.deepEqual(await bench.datapath('n1').describe(), before)
    await reach(bench, blue, ['n1', 1, pods.blue1!], ['n1', 2, pods.blue2!], [])
  },

  'replace removes what the plan does not have, namespaces too': async (bench) => {
    const pods = await cluster(bench, [blue, red])
    assert.deepEqual(await bench.namespaces('n1'), ['pn-blue', 'pn-red'])
    await bench.datapath('n1').replace(planOfN1([red], pods))
    assert.deepEqual(await bench.namespaces('n1'), ['pn-red'])
    assert.deepEqual(
      (await bench.datapath('n1').describe()).filter((line) => line.includes('blue')),
      [],
    )
    assert.deepEqual((await bench.send(pods.blue1!, { to: podAddresses(blue, 'n1', 2)[0] })).received, [])
    await reach(bench, red, ['n1', 1, pods.red1!], ['n2', 3, pods.red3!], eth2)
    await bench.datapath('n1').replace(plan('n1', []))
    assert.deepEqual(await bench.namespaces('n1'), [])
    assert.deepEqual(await bench.datapath('n1').describe(), [])
  },

  'what it was before does not show': async (bench) => {
    const pods: Pods = {}
    for (const name of ['blue1', 'blue2', 'red1', 'red2', 'flat1', 'flat2', 'home1', 'home2'])
      pods[name] = await bench.addPod('n1', name)
    const datapath = bench.datapath('n1')
    const ways: TestNetwork[][] = [[blue], [home, flat], [blue, red], [flat], [home, blue, flat, red]]
    const alone: string[][] = []
    for (const networks of ways) {
      await datapath.replace(plan('n1', []))
      await datapath.replace(planOfN1(networks, { ...pods }))
      alone.push(await datapath.describe())
    }
    for (const [i, networks] of ways.entries()) {
      await datapath.replace(planOfN1(networks, pods))
      assert.deepEqual(await datapath.describe(), alone[i])
    }
  },

  'a link that is too small for IPv6 takes IPv4 alone': async (bench) => {
    const small = plan('n1', [blue])
    for (const link of small.namespaces.flatMap(({ links }) => links)) if ('mtu' in link) link.mtu = 1000
    const isIPv4 = (text: string) => familyOf(text) === 4
    const [, own] = small.namespaces as [NamespacePlan, NamespacePlan]
    const [neighbour] = own.neighbours as [Neighbour]
    own.routes = own.routes.filter(({ to }) => isIPv4(to))
    const { refused: namespaces = [] } = await bench.datapath('n1').replace(structuredClone(small))
    assert.deepEqual(
      namespaces.map(({ netns, why }) => `${netns}: ${/: (E[A-Z]+)/.exec(why)?.[1]}`),
      ['pn-blue: EINVAL'],
    )
    const via = nicAddress('n2', blue.nic)
    own.neighbours = [{ ...neighbour, address: via }]
    own.routes = own.routes.map((route) => ({ ...route, via }))
    await bench.datapath('n1').replace(structuredClone(small))
    assert.deepEqual(await bench.datapath('n1').replace(small), { changes: [], orphans: [] })
    const wanted = port(blue, 'n1', 1, await bench.addPod('n1', 'a'))
    const { inside } = wanted
    inside.mtu = 1000
    const refused = await rejection(bench.datapath('n1').attach([structuredClone(wanted)]))
    assert.ok(isFault(refused, 'kernel'), String(refused))
    for (const side of [wanted, inside]) {
      side.routes = side.routes.filter(({ to }) => isIPv4(to))
      side.neighbours = side.neighbours.filter(({ address }) => isIPv4(address))
    }
    inside.addresses = inside.addresses.filter(isIPv4)
    inside.sysctls = {}
    await bench.datapath('n1').attach([wanted])
    assert.deepEqual(await bench.datapath('n1').check([wanted]), [])
  },

  'what the kernel refuses in one network keeps no other from being made right': async (bench) => {
    const n1 = bench.datapath('n1')
    const spoilt = (whole: NodePlan, spoil: (own: NamespacePlan, host: NamespacePlan) => void): NodePlan => {
      const copy = structuredClone(whole)
      const [host, own] = ['host', blue.netns].map((name) => copy.namespaces.find((n) => n.netns === name)!)
      spoil(own!, host!)
      return copy
    }
    const uplink = (own: NamespacePlan, host: NamespacePlan, mtu: number) => {
      host.links.push({ kind: 'veth', name: 'pnublue', mtu, peer: { netns: own.netns, name: 'pnup' } })
      host.addresses.push({ link: 'pnublue', address: 'fd70::/127' })
      host.routes.push({ to: '10.1.1.0/24', link: 'pnublue', via: '169.254.192.1' })
      own.links.push({ kind: 'existing', name: 'pnup' })
      own.addresses.push({ link: 'pnup', address: '169.254.192.1/31' })
    }
    const bad = (whole: NodePlan) => [
      spoilt(whole, (own) => own.addresses.push({ link: 'eth9', address: '10.1.0.1/32' })),
      spoilt(whole, (own) => own.links.push({ kind: 'existing', name: 'eth9' })),
      spoilt(whole, (own) => {
        for (const end of 'xy') own.links.push({ kind: 'bridge', name: `a-name-of-16-by${end}`, mtu: 1450 })
      }),
      spoilt(whole, (own, host) => {
        uplink(own, host, 1450)
        own.links.push({ kind: 'existing', name: 'eth9' })
      }),
      spoilt(whole, (own, host) => uplink(own, host, 1000)),
    ]
    const refusedIn = async (wanted: NodePlan) => {
      const { refused = [], spoilt, orphans } = await n1.replace(wanted)
      assert.deepEqual({ spoilt, orphans }, { spoilt: undefined, orphans: [] })
      return refused.map(({ netns }) => netns)
    }
    const pods = await cluster(bench, [blue, red])
    for (const n of [1, 2]) pods[`green${n}`] = await bench.addPod('n1', `green${n}`)
    const pairOf = (network: TestNetwork) =>
      [1, 2].map((n): End => ['n1', n, pods[`${network.name}${n}`]!]) as [End, End]
    const [before, after] = [planOfN1([blue, red], pods), planOfN1([blue, red, green], pods)]
    for (const [index, wanted] of bad(after).entries()) {
      assert.deepEqual(await refusedIn(wanted), [blue.netns], `${index}`)
      for (const network of [blue, red, green]) await reach(bench, network, ...pairOf(network), [])
      assert.deepEqual(await refusedIn(wanted), [blue.netns], `${index} again`)
      assert.deepEqual(await refusedIn(before), [])
    }
    const good = spoilt(after, (own, host) => uplink(own, host, 1450))
    for (const wanted of bad(after)) {
      await n1.replace(plan('n1', []))
      assert.deepEqual(await refusedIn(wanted), [blue.netns])
      await reach(bench, red, ...pairOf(red), [])
      assert.deepEqual(await refusedIn(good), [])
      await reach(bench, blue, ...pairOf(blue), [])
      assert.deepEqual(await n1.replace(good), { changes: [], orphans: [] })
    }
  },

  'attach makes all ports or none': async (bench) => {
    await bench.datapath('n1').replace(plan('n1', [blue]))
    const before = await bench.datapath('n1').describe()
    const good = port(blue, 'n1', 1, await bench.addPod('n1', 'a'))
    const gone = await bench.addPod('n1', 'b')
    await bench.removePod(gone)
    const bad = port(blue, 'n1', 2, gone)
    for (const batch of [
      [good, bad],
      [bad, good],
    ]) {
      const error = await rejection(bench.datapath('n1').attach(batch))
      assert.ok(isFault(error), String(error))
      assert.match(error.message, /blue1c2/)
      assert.deepEqual(await bench.datapath('n1').describe(), before)
    }
    assert.equal((await bench.datapath('n1').check([good])).length > 0, true)
    await bench.datapath('n1').attach([good])
    assert.deepEqual(await bench.datapath('n1').check([good]), [])
  },

  'a port of a network that is not there is refused': async (bench) => {
    const error = await rejection(
      bench.datapath('n1').attach([port(blue, 'n1', 1, await bench.addPod('n1', 'a'))]),
    )
    assert.ok(isFault(error), String(error))
    assert.deepEqual(await bench.datapath('n1').describe(), [])
  },

  'attach and detach may be repeated': async (bench) => {
    const datapath = bench.datapath('n1')
    await datapath.replace(plan('n1', [blue, flat, home]))
    const before = await datapath.describe()
    const ports = await Promise.all(
      [blue, flat, home].map(async (network) =>
        port(network, 'n1', 1, await bench.addPod('n1', network.name)),
      ),
    )
    const answer = await datapath.attach(ports)
    const attached = await datapath.describe()
    assert.deepEqual(await datapath.attach(structuredClone(ports)), answer)
    assert.deepEqual(await datapath.describe(), attached)
    await datapath.detach(ports)
    assert.deepEqual(await datapath.describe(), before)
    await datapath.detach(ports)
    assert.deepEqual(await datapath.describe(), before)
  },

  'a port that is planned otherwise is made so, by attach and by replace': async (bench) => {
    const datapath = bench.datapath('n1')
    const pods = await cluster(bench, [blue])
    const [first, second] = planOfN1([blue], pods).ports as [PortPlan, PortPlan]
    // What the first pod was, the third now is, and has a smaller MTU.
    const third = port(blue, 'n1', 3, pods.blue1!)
    const changed: PortPlan = {
      ...third,
      key: first.key,
      link: first.link,
      inside: { ...third.inside, mtu: 1400 },
    }
    const named = structuredClone(changed)
    for (const entry of [...named.routes, ...named.neighbours]) entry.link = 'pnblue1'
    for (const element of named.elements) element.key[0] = 'pnblue1'
    const [old] = podAddresses(blue, 'n1', 1)
    const [now] = podAddresses(blue, 'n1', 3)
    const heard = async (to: string, size = 100) => (await bench.send(pods.blue2!, { to, size })).received
    for (const change of [
      (p: PortPlan) => datapath.attach([p]),
      (p: PortPlan) => datapath.replace(plan('n1', [blue], [p, second])),
    ]) {
      await change(named)
      assert.deepEqual(await datapath.check([named, second]), [])
      assert.deepEqual([await heard(old), await heard(now), await heard(now, 1401)], [[], [pods.blue1], []])
      await change(first)
      assert.deepEqual(await datapath.check([first, second]), [])
      assert.deepEqual([await heard(old), await heard(now)], [[pods.blue1], []])
    }
  },

  'many ports at once': async (bench) => {
    const datapath = bench.datapath('n1')
    await datapath.replace(plan('n1', [blue, flat]))
    const before = await datapath.describe()
    const ports: PortPlan[] = []
    for (let n = 1; n <= 20; n++)
      for (const network of [blue, flat])
        ports.push(port(network, 'n1', n, await bench.addPod('n1', `${network.name}${n}`)))
    const answers = await Promise.all(ports.map((p) => datapath.attach([p])))
    assert.deepEqual(
      answers.flat().map((a) => a.key),
      ports.map((p) => p.key),
    )
    assert.deepEqual(await datapath.check(ports), [])
    await Promise.all(ports.map((p) => datapath.detach([p])))
    assert.deepEqual(await datapath.describe(), before)
  },

  'calls that overlap take effect in their order': async (bench) => {
    const datapath = bench.datapath('n1')
    const a = port(blue, 'n1', 1, await bench.addPod('n1', 'a'))
    const b = port(blue, 'n1', 2, await bench.addPod('n1', 'b'))
    await Promise.all([
      datapath.replace(plan('n1', [blue])),
      datapath.attach([a]),
      datapath.attach([b]),
      datapath.detach([a]),
    ])
    assert.deepEqual(await datapath.check([b]), [])
    assert.equal((await datapath.check([a])).length > 0, true)
  },

  'a pod namespace that goes away leaves an orphan, which is named and cleaned up': async (bench) => {
    const pods = await cluster(bench, [blue])
    const wanted = planOfN1([blue], pods)
    await bench.removePod(pods.blue1!)
    assert.deepEqual((await bench.datapath('n1').replace(wanted)).orphans, ['blue1c1/eth0'])
    assert.deepEqual(await bench.datapath('n1').replace(wanted), { changes: [], orphans: ['blue1c1/eth0'] })
    assert.deepEqual(
      (await bench.datapath('n1').describe()).filter((line) => line.includes('pnblue1')),
      [],
    )
    assert.deepEqual(await bench.datapath('n1').check([wanted.ports[1]!]), [])
  },

  'detach works when the pod’s namespace is gone': async (bench) => {
    await bench.datapath('n1').replace(plan('n1', [blue]))
    const before = await bench.datapath('n1').describe()
    const path = await bench.addPod('n1', 'a')
    await bench.datapath('n1').attach([port(blue, 'n1', 1, path)])
    await bench.removePod(path)
    await bench.datapath('n1').detach([port(blue, 'n1', 1, path)])
    assert.deepEqual(await bench.datapath('n1').describe(), before)
  },

  'check names what differs': async (bench) => {
    const pods = await cluster(bench, [blue])
    const ports = planOfN1([blue], pods).ports
    assert.deepEqual(await bench.datapath('n1').check(ports), [])
    const [ipv4] = podAddresses(blue, 'n1', 1)
    await bench.loseAddress(pods.blue1!, 'eth0', `${ipv4}/32`)
    const said = (await bench.datapath('n1').check(ports)).join('\n')
    assert.ok(said.includes(ipv4) && said.includes('blue1c1'), said)
    assert.ok(!said.includes('blue1c2'), said)
    await bench.datapath('n1').attach(ports)
    assert.deepEqual(await bench.datapath('n1').check(ports), [])
    await bench.loseLink(pods.blue2!, 'eth0')
    assert.match((await bench.datapath('n1').check(ports)).join('\n'), /blue1c2.*eth0/)
  },

  'what others made in the host’s namespace stays as it is': async (bench) => {
    await bench.addForeign('n1')
    const foreign = await bench.foreign('n1')
    assert.notDeepEqual(foreign, [])
    assert.deepEqual(await bench.datapath('n1').describe(), [])
    const pods = await cluster(bench, [home, blue])
    assert.deepEqual(await bench.foreign('n1'), foreign)
    assert.deepEqual(
      (await bench.datapath('n1').describe()).filter((line) => line.includes('foreign')),
      [],
    )
    await bench.datapath('n1').replace(planOfN1([blue], pods))
    await bench.datapath('n1').replace(plan('n1', []))
    assert.deepEqual(await bench.foreign('n1'), foreign)
  },

  'a program that has the port of tunnels is named, and nothing that a plan has beside them suffers': async (
    bench,
  ) => {
    const n1 = bench.datapath('n1')
    const named = async () =>
      (await n1.programsOn([tunnelPort, tunnelPort + 1])).map(
        ({ port, families, name }) => `${port} ${families.join()} ${name}`,
      )
    const stop = await bench.listen('n1', tunnelPort)
    try {
      const [said = '', ...others] = await named()
      assert.match(said, new RegExp(`^${tunnelPort} 4 \\S+ \\(process \\d+\\)$`))
      assert.deepEqual(others, [])
      assert.deepEqual(await n1.programsOn([tunnelPort + 1]), [])
      const { refused = [] } = await n1.replace(plan('n1', [blue]))
      assert.deepEqual(
        refused.map(({ netns }) => netns),
        ['pn-blue'],
      )
      assert.match(refused[0]?.why ?? '', /EADDRINUSE/)
      await n1.replace(withoutTunnels(plan('n1', [blue])))
      await n1.attach([port(blue, 'n1', 1, await bench.addPod('n1', 'blue1'))])
    } finally {
      stop()
    }
    assert.deepEqual(await named(), [])
    await n1.replace(plan('n1', [blue]))
    // What has it now is ours.
    assert.deepEqual(await named(), [])
  },

  'nics are the host’s own, with what they have': async (bench) => {
    const nics = async () =>
      (await bench.datapath('n1').nics())
        .filter((nic) => nic.name !== 'foreign0')
        .map(({ name, mtu, up, addresses }) => ({
          name,
          mtu,
          up,
          addresses: (addresses ?? []).filter((a) => !a.startsWith('fe80:')),
        }))
    await cluster(bench, [home, blue, flat])
    await bench.datapath('n1').attach([direct('n1', 1, await bench.addPod('n1', 'd'), 'eth2')])
    const expected = [
      { name: 'eth1', mtu: 1500, up: true, addresses: ['192.168.10.11/24'] },
      { name: 'eth2', mtu: 1500, up: true, addresses: ['192.168.20.11/24'] },
    ]
    assert.deepEqual(await nics(), expected)
    let calls = 0
    const changed = new Promise<void>((resolve) => {
      const stop = bench.datapath('n1').onNics(() => {
        calls++
        stop()
        resolve()
      })
    })
    await bench.setNic('n1', 'eth2', 'down')
    await changed
    assert.equal(calls, 1)
    assert.deepEqual(await nics(), [expected[0], { ...expected[1], up: false }])
  },
}
