import { setTimeout as sleep } from 'node:timers/promises'
import { type Figures, mean, median, quantile } from '../figures.ts'
import { type Answer, type Held, NodeRuntime } from './node-runtime.ts'
import type { Place } from './place.ts'
import { ratioText } from './ratio.ts'
import type { Size } from './rows.ts'
import { bare, hostLocal, moreNetworks, polynet, type Way, whereabouts } from './ways.ts'

/** Every size of a pod that is measured, the default network counted. */
const sizes = [1, 2, 4, moreNetworks + 1]
const commands = ['ADD', 'DEL'] as const
const atOnce = 16

/** ADD and DEL as a node's runtime sees them. */
export async function attach(place: Place, size: Size): Promise<Figures[]> {
  const runtimes = new Map<string, NodeRuntime>()
  for (const way of [bare, polynet, hostLocal]) runtimes.set(way.node, await NodeRuntime.start(place, way))
  runtimes.set(whereabouts.title, await NodeRuntime.start(place, whereabouts))
  const stay: [Way, Held[]][] = []
  const on = (way: Way) => runtimes.get(way === whereabouts ? way.title : way.node)!
  try {
    for (const way of [bare, polynet, hostLocal, whereabouts]) {
      // What is there once it has been used: bridges, networks' namespaces, compiled code. One pod stays.
      const most = way === bare ? 1 : moreNetworks + 1
      // What is executed is as cold as ever.
      const enough = way === polynet ? 40 : 6
      const warm = await on(way).pods(`warm-${slug(way)}`, size({ small: 2, full: enough }), most)
      await settled()
      succeeded(await on(way).cni('ADD', warm, 4))
      succeeded(await on(way).cni('DEL', warm.slice(1), 4))
      await on(way).remove(warm.slice(1))
      stay.push([way, warm.slice(0, 1)])
    }
    await settled()
    await Promise.all([...runtimes.values()].map((runtime) => runtime.rest()))
    const found = [
      await oneByOne(on, size({ small: 1, full: 4 }), size({ small: 1, full: 3 })),
      await manyAtOnce(on, size({ small: 1, full: 2 }), size({ small: 4, full: 32 })),
    ]
    for (const [way, pods] of stay) {
      await on(way).cni('DEL', pods)
      await on(way).remove(pods)
    }
    return found
  } finally {
    for (const runtime of runtimes.values()) runtime.close()
  }
}

const slug = (way: Way): string => way.prefix || way.side
const settled = () => sleep(500)

function succeeded({ failed }: Answer): void {
  if (failed[0]) throw new Error(failed[0])
}

type On = (way: Way) => NodeRuntime

/** Which ways are compared at a size: without networks beside the default one, both ways of Multus are the same. */
const waysOf = (networks: number): Way[] =>
  networks === 1 ? [bare, polynet, hostLocal] : [polynet, hostLocal, whereabouts]

async function oneByOne(on: On, rounds: number, count: number): Promise<Figures> {
  const answers = new Collected()
  for (let round = 0; round < rounds; round++) {
    const pods = new Map<string, Held[]>()
    for (const networks of sizes)
      for (const way of waysOf(networks))
        pods.set(
          `${networks} ${slug(way)}`,
          await on(way).pods(`one-${networks}-${slug(way)}-${round}`, count, networks),
        )
    await settled()
    for (const networks of sizes)
      for (const way of round % 2 === 0 ? waysOf(networks) : waysOf(networks).toReversed())
        for (const command of commands)
          answers.add(
            command,
            networks,
            way,
            await on(way).cni(command, pods.get(`${networks} ${slug(way)}`)!),
          )
    for (const networks of sizes)
      for (const way of waysOf(networks)) await on(way).remove(pods.get(`${networks} ${slug(way)}`)!)
  }
  return {
    title: `CNI as the runtime sees it, one pod at a time, ${count} after each other in ${rounds} rounds in which the sides take turns (milliseconds)`,
    columns: ['command', 'networks', 'by', 'median', 'p95', 'min', 'CPU', 'failed'],
    rows: answers.rows((all) => {
      const times = all.flatMap((each) => each.times)
      return [
        median(times),
        quantile(times, 0.95),
        times.length ? Math.min(...times) : 0,
        median(all.map((a) => a.cpu / count)),
      ]
    }),
    notes: [
      'networks: the default one counted. CPU: median of everything executed and of the daemons on the node, until 1.5 s after the last answer, less what those take',
      'at rest; the API server and kernel threads are in neither.',
    ],
  }
}

async function manyAtOnce(on: On, rounds: number, count: number): Promise<Figures> {
  const answers = new Collected()
  for (let round = 0; round < rounds; round++)
    for (const networks of [1, 4])
      for (const way of round % 2 === 0 ? waysOf(networks) : waysOf(networks).toReversed()) {
        const pods = await on(way).pods(`many-${networks}-${slug(way)}-${round}`, count, networks)
        await settled()
        for (const command of commands)
          answers.add(command, networks, way, await on(way).cni(command, pods, atOnce))
        await on(way).remove(pods)
      }
  return {
    title: `CNI as the runtime sees it, ${count} pods, ${atOnce} in flight, ${rounds} rounds in which the sides take turns (milliseconds)`,
    columns: ['command', 'networks', 'by', 'a pod', 'min', 'max', 'p95 of one', 'CPU a pod', 'failed'],
    rows: answers.rows((all) => {
      const each = all.map((answer) => answer.ms / count)
      const times = all.flatMap((answer) => answer.times)
      return [
        median(each),
        Math.min(...each),
        Math.max(...each),
        quantile(times, 0.95),
        mean(all.map((a) => a.cpu / count)),
      ]
    }),
    notes: [
      'a pod: the time until all were done, divided by their number. CPU: mean, with what comes now and then: a block of addresses, a look at the whole node.',
    ],
  }
}

/** What was found, and its rows: after each other way its ratio to Polynet. */
class Collected {
  readonly #answers = new Map<string, Answer[]>()

  add(command: string, networks: number, way: Way, answer: Answer): void {
    const key = `${command} ${networks} ${way.title}`
    this.#answers.set(key, [...(this.#answers.get(key) ?? []), answer])
  }

  rows(figuresOf: (all: Answer[]) => number[]): Figures['rows'] {
    const rows: Figures['rows'] = []
    for (const command of commands)
      for (const networks of sizes) {
        const of = (way: Way) => this.#answers.get(`${command} ${networks} ${way.title}`)
        const ours = of(polynet)
        if (!ours) continue
        const own = figuresOf(ours)
        for (const way of waysOf(networks)) {
          const answers = of(way)!
          const figures = way === polynet ? own : figuresOf(answers)
          const title = way === hostLocal && networks === 1 ? 'Multus' : way.title
          rows.push([
            command,
            networks,
            title,
            ...figures,
            answers.reduce((sum, a) => sum + a.failed.length, 0),
          ])
          if (way !== polynet)
            rows.push(['', '', '… Polynet is', ...figures.map((f, i) => ratioText(own[i]!, f)), ''])
        }
      }
    return rows
  }
}
