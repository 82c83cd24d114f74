import { setTimeout as sleep } from 'node:timers/promises'
import { type Figures, quantile } from '../figures.ts'
import { startFlannel } from './flannel.ts'
import { type Answer, type Held, NodeRuntime } from './node-runtime.ts'
import { onNode, packetsProgram } from './on-node.ts'
import { attachOthers, otherPlugins } from './other-plugins.ts'
import { overlays, topologies } from './overlays.ts'
import type { Place } from './place.ts'
import type { Size } from './rows.ts'
import { Talk } from './talk.ts'
import { bare, hostLocal, other, polynet, type Way } from './ways.ts'

/** What `packets reach` says. */
interface Reached {
  never?: true
  /** When the first ping was answered that was, in microseconds of the machine's clock, and its number. */
  answered: number
  number: number
}

/** How long it takes until a pod that has just been attached is reached from another node. */
export async function reachable(place: Place, size: Size): Promise<Figures[]> {
  const rounds = size({ small: 1, full: 6 })
  const further = size({ small: 1, full: 4 })
  await place.secondPolynet()
  const ending: (() => Promise<unknown>)[] = []
  const found = new Map<string, { ms: number; reached: Reached }[]>()
  try {
    const flannel = await startFlannel(place, [bare.node, other.bridge])
    ending.push(() => flannel.close())
    const runtimeOn = async (way: Way) => {
      const runtime = await NodeRuntime.start(place, way)
      ending.push(async () => runtime.close())
      return runtime
    }
    const ours = [await runtimeOn(polynet), await runtimeOn({ ...polynet, node: other.polynet })] as const
    const theirs = [await runtimeOn(bare), await runtimeOn(hostLocal)] as const
    for (let round = 0; round < rounds; round++) {
      await polynetRound(ours[0], ours[1], round)
      await bridgeRound(theirs[0], theirs[1], round)
    }
  } finally {
    for (const end of ending.reverse())
      await end().catch((error: Error) => console.error(`clean up after reachable: ${error.message}`))
  }
  return [
    {
      title: `From the result of its ADD until a pod answers a pod of another node, ${rounds} rounds (milliseconds)`,
      columns: ['by', 'pods', 'median', 'p95', 'max', 'pings before it, median', 'max', 'never'],
      rows: [...found].map(([by, all]) => {
        const answered = all.filter(({ reached }) => !reached.never)
        const times = answered.map(({ ms }) => ms)
        const before = answered.map(({ reached }) => reached.number - 1)
        return [
          ...[by, all.length, quantile(times, 0.5), quantile(times, 0.95), Math.max(0, ...times)],
          ...[quantile(before, 0.5), Math.max(0, ...before), all.length - answered.length],
        ]
      }),
      notes: [
        'A ping every quarter of a millisecond, the first about a millisecond after the result: so long the bench takes to hand the address over. Polynet’s',
        'networks are new in each round, so that a node’s first pod there brings its first block of addresses, of which the other node has to hear.',
        'The bridge plugin, flannel and macvlan give each node its addresses once: there is nothing to hear of.',
      ],
    },
  ]

  /** On networks that nobody was on: the node's first pod, then more of them. */
  async function polynetRound(near: NodeRuntime, far: NodeRuntime, round: number): Promise<void> {
    const { way, remove } = await overlays(place, `new${round}-`)
    const networks = topologies.length + 1
    try {
      await withPods(far, `far-${round}`, 1, networks, way.prefix, async ([pod]) => {
        await far.add(pod!)
        await withProbers(other.polynet, pod!, ['eth0', 'net1', 'net2'], (probe) =>
          withPods(near, `near-${round}`, 1 + further, networks, way.prefix, async (pods) => {
            for (const [i, each] of pods.entries()) {
              const which = i === 0 ? 'its node’s first pod' : 'further pods'
              const answer = await near.add(each)
              const names = [
                ...['Polynet, default network', `Polynet, Layer3, ${which}`],
                `Polynet, Layer2, ${which}`,
              ]
              await Promise.all(names.map((by, n) => probe(by, n === 0 ? 'eth0' : `net${n}`, each, answer)))
            }
          }),
        )
      })
    } finally {
      await remove()
    }
  }

  async function bridgeRound(near: NodeRuntime, far: NodeRuntime, round: number): Promise<void> {
    await withPods(far, `far-${round}`, 1, 1, undefined, async ([pod]) => {
      await far.add(pod!)
      await attachOthers(far, other.bridge, [pod!])
      await withProbers(other.bridge, pod!, ['eth0', 'net1', 'net2'], (probe) =>
        withPods(near, `near-${round}`, 1 + further, 1, undefined, async (pods) => {
          for (const each of pods) {
            await probe('bridge plugin, with routes', 'eth0', each, await near.add(each))
            for (const plugin of otherPlugins(bare.node)) {
              const by = plugin.conf.type === 'flannel' ? 'flannel VXLAN' : plugin.conf.type
              await probe(by, plugin.interface, each, await near.add(each, plugin))
            }
          }
        }),
      )
    })
  }

  async function withProbers(
    node: string,
    pod: Held,
    interfaces: string[],
    act: (probe: Probe) => Promise<void>,
  ): Promise<void> {
    const where = await onNode(place, node, pod.name)
    const probers = new Map(
      interfaces.map((name) => [name, new Talk([...where, packetsProgram(place), 'reach'])]),
    )
    try {
      for (const prober of probers.values()) await prober.line()
      await act(async (by, name, { name: target }, { addresses, atUs }) => {
        const address = addresses[target]?.[name]
        if (!address) throw new Error(`pod ${target} has no address at ${name}`)
        const reached: Reached = JSON.parse(await probers.get(name)!.ask(address))
        found.set(by, [...(found.get(by) ?? []), { ms: (reached.answered - atUs) / 1000, reached }])
      })
    } finally {
      for (const prober of probers.values()) await prober.close()
    }
  }
}

type Probe = (by: string, interfaceName: string, pod: Held, answer: Answer) => Promise<void>

/** Pods that are there while `act` is at work. */
async function withPods(
  runtime: NodeRuntime,
  prefix: string,
  count: number,
  networks: number,
  of: string | undefined,
  act: (pods: Held[]) => Promise<void>,
): Promise<void> {
  const pods = await runtime.pods(prefix, count, networks, of)
  try {
    // Daemons hear of them.
    await sleep(500)
    await act(pods)
  } finally {
    await runtime.cni('DEL', pods, 4)
    await runtime.remove(pods)
  }
}
