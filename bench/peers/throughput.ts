import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ensureDebian } from '../../cluster/debian.ts'
import { type Figures, median } from '../figures.ts'
import { startFlannel } from './flannel.ts'
import { type Held, NodeRuntime } from './node-runtime.ts'
import { onNode, output, packetsProgram, startService } from './on-node.ts'
import { attachOthers } from './other-plugins.ts'
import { overlays } from './overlays.ts'
import { type Place, until } from './place.ts'
import type { Size } from './rows.ts'
import { Talk } from './talk.ts'
import { bare, hostLocal, other, polynet, type Way } from './ways.ts'

/** A program's place: a node, or a pod that is held there. */
interface Spot {
  node: string
  pod?: string
}

/** From where to where packets go, and by what. */
interface Path {
  by: string
  where: 'one node' | 'across nodes'
  from: Spot
  to: Spot
  address: string
}

const figures = ['first', 'trip', 'p99', 'packets', 'cpuPacket', 'gbits', 'cpuGB'] as const
type Found = Record<(typeof figures)[number], number>

/** What each side's pods have, by interface. */
const ours = { eth0: 'Polynet, default network', net1: 'Polynet, Layer3', net2: 'Polynet, Layer2' }
const theirs = { eth0: 'bridge plugin', net1: 'flannel VXLAN', net2: 'macvlan' }
const host = 'the hosts themselves'
/** What Polynet's networks are to be compared with. */
const beside = { 'one node': theirs.eth0, 'across nodes': theirs.net1 }

/** How fast packets are from pod to pod, on one node and across nodes. */
export async function throughput(place: Place, size: Size): Promise<Figures[]> {
  const rounds = size({ small: 1, full: 5 })
  const ms = size({ small: 100, full: 400 })
  const seconds = 1
  ensureDebian(() => {}, { iperf3: ['iperf3'] })
  await place.secondPolynet()
  const ending: (() => Promise<unknown>)[] = []
  try {
    const { way, remove } = await overlays(place, 'path')
    ending.push(remove)
    const flannel = await startFlannel(place, [bare.node, other.bridge])
    ending.push(() => flannel.close())
    const all = await pathsOf(place, way, rounds, ending)
    const found = new Map<string, Found[]>()
    for (let round = 0; round < rounds; round++) {
      const paths = all[round]!
      const targets = new Map(paths.map(({ to }) => [`${to.node} ${to.pod ?? ''}`, to]))
      const servers = []
      try {
        for (const to of targets.values()) servers.push(await startServers(place, to))
        for (const each of round % 2 === 0 ? paths : paths.toReversed()) {
          const key = `${each.where} ${each.by}`
          found.set(key, [...(found.get(key) ?? []), await measure(place, each, ms, seconds)])
        }
      } finally {
        for (const close of servers) await close()
      }
    }
    return tables(found, rounds, ms, seconds)
  } finally {
    for (const end of ending.reverse())
      await end().catch((error: Error) => console.error(`clean up after throughput: ${error.message}`))
  }
}

/** For each round the paths between pods that have never spoken with each other. */
async function pathsOf(
  place: Place,
  path: Way,
  rounds: number,
  ending: (() => Promise<unknown>)[],
): Promise<Path[][]> {
  /** Attached, so many for each round. */
  const podsOn = async (way: Way, networks: number, each: number): Promise<Held[]> => {
    const runtime = await NodeRuntime.start(place, way)
    ending.push(async () => runtime.close())
    const pods = await runtime.pods(`path-${way.node}`, rounds * each, networks)
    ending.push(() => runtime.remove(pods))
    await sleep(1000)
    const { failed } = await runtime.cni('ADD', pods, 4)
    ending.push(() => runtime.cni('DEL', pods, 4))
    if (failed[0]) throw new Error(failed[0])
    if (way.side !== 'polynet') await attachOthers(runtime, way.node, pods)
    for (const [name, found] of Object.entries(await runtime.look(pods))) addresses.set(name, found)
    return pods
  }
  const addresses = new Map<string, Record<string, string>>()
  const farPolynet = { ...path, node: other.polynet }
  const [nearOurs, farOurs] = [await podsOn(path, 3, 2), await podsOn(farPolynet, 3, 1)]
  const [nearTheirs, farTheirs] = [await podsOn(bare, 1, 2), await podsOn(hostLocal, 1, 1)]
  return Array.from({ length: rounds }, (_, round) => {
    const between = (near: Held[], far: Held[], names: Record<string, string>, nodes: [string, string]) => {
      const from = { node: nodes[0], pod: near[2 * round]!.name }
      const ends = [
        { where: 'one node', to: { node: nodes[0], pod: near[2 * round + 1]!.name } },
        { where: 'across nodes', to: { node: nodes[1], pod: far[round]!.name } },
      ] as const
      return ends.flatMap(({ where, to }) =>
        Object.entries(names).map(([name, by]): Path => {
          const address = addresses.get(to.pod)?.[name]
          if (!address) throw new Error(`pod ${to.pod} has no address of ${by}`)
          return { by, where, from, to, address }
        }),
      )
    }
    return [
      ...between(nearOurs, farOurs, ours, [polynet.node, other.polynet]),
      ...between(nearTheirs, farTheirs, theirs, [bare.node, other.bridge]),
      {
        by: host,
        where: 'across nodes' as const,
        from: { node: bare.node },
        to: { node: other.bridge },
        address: '192.168.1.13',
      },
    ]
  })
}

const port = 7000

/** What answers there; resolves with what ends it. */
async function startServers(place: Place, { node, pod }: Spot): Promise<() => Promise<void>> {
  const where = await onNode(place, node, pod)
  const log = join(place.dir, `iperf3-${node}-${pod ?? 'host'}.log`)
  const iperf = startService(where, log, ['iperf3', '--server', '--forceflush', '--port', String(port)])
  const packets = new Talk([...where, packetsProgram(place), 'serve', String(port)])
  const close = async () => {
    await Promise.all([packets.close(), iperf.close()])
  }
  try {
    await packets.line()
    const listens = () => readFileSync(log, { encoding: 'utf8', flag: 'a+' }).includes('listening')
    await until(`iperf3 on ${node}`, async () => listens(), 10_000)
    return close
  } catch (error) {
    await close()
    throw error
  }
}

async function measure(place: Place, path: Path, ms: number, seconds: number): Promise<Found> {
  const { from, address } = path
  const where = await onNode(place, from.node, from.pod)
  const run = async (argv: string[]) => {
    const [before, printed] = [interruptsMs(), await output([...where, ...argv])]
    return { said: JSON.parse(printed), interruptsMs: interruptsMs() - before }
  }
  const packets = packetsProgram(place)
  const latency = (await run([packets, 'latency', address, String(port), String(ms)])).said
  const flood = await run([packets, 'flood', address, String(port), String(ms)])
  const tcp = await run([
    ...['iperf3', '--client', address, '--port', String(port)],
    ...['--time', String(seconds), '--json'],
  ])
  const { sum_received, sum_sent, cpu_utilization_percent: cpu } = tcp.said.end
  const cpuS = ((cpu.host_total + cpu.remote_total) / 100) * sum_sent.seconds
  return {
    first: latency.first,
    trip: latency.median,
    p99: latency.p99,
    packets: flood.said.received / (flood.said.us / 1000),
    cpuPacket: (flood.said.cpu + 1000 * flood.interruptsMs) / flood.said.received,
    gbits: sum_received.bits_per_second / 1e9,
    cpuGB: (cpuS + tcp.interruptsMs / 1000) / (sum_received.bytes / 1e9),
  }
}

/** What the kernel's threads took that do what interrupts left for later: packets, mostly. */
function interruptsMs(): number {
  let nanoseconds = 0
  for (const pid of interruptThreads) {
    const [running = '0'] = readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')
    nanoseconds += Number(running)
  }
  return nanoseconds / 1e6
}

const interruptThreads = readdirSync('/proc').filter((entry) => {
  try {
    return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/comm`, 'latin1').startsWith('ksoftirqd/')
  } catch {
    return false
  }
})

function tables(found: Map<string, Found[]>, rounds: number, ms: number, seconds: number): Figures[] {
  const of = (where: string, by: string) => found.get(`${where} ${by}`)!
  const split = (key: string) => {
    const where = key.startsWith('one') ? 'one node' : 'across nodes'
    return { where, by: key.slice(where.length + 1) } as const
  }
  const pairs = [...found.keys()].map(split).filter(({ by }) => Object.values(ours).includes(by))
  return [
    {
      title: `Packets from pod to pod, ${rounds} rounds in which all take turns, medians`,
      columns: [
        ...['where', 'by', 'first, µs', 'round trip, µs', 'p99', '1,000 packets a second', 'CPU µs a packet'],
        ...['TCP Gbit/s', 'min', 'max', 'CPU s a GB', 'min', 'max'],
      ],
      rows: [...found].map(([key, all]) => {
        const { where, by } = split(key)
        const each = (name: keyof Found) => all.map((one) => one[name])
        const spread = (name: keyof Found) => [Math.min(...each(name)), Math.max(...each(name))]
        const mid = (name: keyof Found) => median(each(name))
        return [
          ...[where, by, mid('first'), mid('trip'), mid('p99'), mid('packets'), mid('cpuPacket')],
          ...[mid('gbits'), ...spread('gbits'), mid('cpuGB'), ...spread('cpuGB')],
        ]
      }),
      notes: [
        `first: the round trip of the first packet ever between these two pods. Round trips of 64 bytes, one at a time, for ${ms} ms; packets of 64 bytes that`,
        `arrive, as many as one process sends in ${ms} ms; TCP by iperf3, one stream for ${seconds} s. CPU: of sender and receiver with the kernel’s work for them,`,
        'and its threads for interrupts. Pods of both sides stand on two nodes each, all on one kernel with two CPUs; wires are veth pairs. MTU 1450 on',
        'VXLAN, else 1500. Bridge across nodes: by routes, without a tunnel. flannel: without rules of its own in the firewall; its bridge is beside the other’s.',
      ],
    },
    {
      title: 'Polynet is (medians of the rounds’ ratios; in brackets min and max)',
      columns: [
        ...['where', 'by', 'beside', 'first', 'round trip', 'packets a second', 'CPU a packet'],
        ...['TCP', 'CPU a GB'],
      ],
      rows: pairs.map(({ where, by }) => {
        const [own, others] = [of(where, by), of(where, beside[where])]
        const ratio = (name: keyof Found) => {
          const all = own.map((one, i) => one[name] / others[i]![name])
          const spread = [Math.min(...all), Math.max(...all)].map((each) => each.toFixed(2)).join(' to ')
          return `${median(all).toFixed(2)}× (${spread})`
        }
        return [
          ...[where, by, beside[where], ratio('first'), ratio('trip'), ratio('packets'), ratio('cpuPacket')],
          ...[ratio('gbits'), ratio('cpuGB')],
        ]
      }),
      notes: [
        'More is better in packets a second and TCP, less elsewhere. Aims: no worse than flannel across nodes; on one node no worse than the bridge by more than 3 %.',
      ],
    },
  ]
}
