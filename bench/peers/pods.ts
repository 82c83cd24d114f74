import type { Pod } from '../../src/api/core.ts'
import { isReady } from '../../src/api/meta.ts'
import { resources } from '../../src/api/resources.ts'
import { type Figures, mean, median } from '../figures.ts'
import { giveBackLeaked } from './leaks.ts'
import type { Place } from './place.ts'
import { cpuByProgram, cpuOfMachine } from './processes.ts'
import { ratioText } from './ratio.ts'
import type { Size } from './rows.ts'
import { bare, hostLocal, podOf, polynet, type Way, whereabouts } from './ways.ts'

/** Each with the number of networks of its pods, the default one counted. The first is what the others are compared with. */
export const cases: [Way, number][] = [
  [bare, 1],
  [polynet, 1],
  [hostLocal, 1],
  [polynet, 4],
  [hostLocal, 4],
  [whereabouts, 4],
]

export const titleOf = (way: Way, networks: number): string =>
  networks === 1 ? (way === hostLocal ? 'Multus' : way.title) : way.title

/** Pods from their creation to Ready, as whoever applies them sees it: one, and thirty at once. A hundred at once are in `requests`. */
export async function pods(place: Place, size: Size): Promise<Figures[]> {
  const found: Figures[] = []
  const all: [count: number, rounds: number][] = [
    [1, size({ small: 1, full: 3 })],
    [size({ small: 3, full: 30 }), size({ small: 1, full: 3 })],
  ]
  // Whoever comes first does not pay for what all need.
  if (!place.hurried) for (const [way, networks] of cases) await batch(place, way, networks, 1, 'warm')
  for (const [count, rounds] of all) found.push(...(await together(place, count, rounds)))
  return found
}

async function together(place: Place, count: number, rounds: number): Promise<Figures[]> {
  const results: Results = new Map()
  for (let round = 0; round < rounds; round++)
    for (const [way, networks] of round % 2 === 0 ? cases : cases.toReversed()) {
      const key = keyOf(way, networks)
      const result = await batch(place, way, networks, count, `r${count}-${round}`)
      results.set(key, [...(results.get(key) ?? []), result])
    }
  return figuresOf(count, rounds, results)
}

/** Batches of each case, by `keyOf`. */
export type Results = Map<string, Batch[]>

export const keyOf = (way: Way, networks: number): string => `${way.title} ${networks}`

/** How long it took until so many pods were Ready, and what processor time that took, by program. */
export function figuresOf(count: number, rounds: number, results: Results): Figures[] {
  const cells = (all: Batch[]) => {
    const times = all.map((each) => each.readyMs / 1000)
    return [
      median(times),
      Math.min(...times),
      Math.max(...times),
      mean(all.map((each) => total(each.cpuMs) / 1000)),
      mean(all.map((each) => each.machineMs / 1000)),
      median(all.map((each) => each.goneMs / 1000)),
    ]
  }
  const base = cells(results.get(keyOf(bare, 1))!)
  const ready: Figures = {
    title: `${count === 1 ? 'One pod' : `${count} pods at once`}: from creation until ${count === 1 ? 'it is' : 'all are'} Ready, ${rounds === 1 ? 'one round' : `${rounds} rounds in which the sides take turns`} (seconds)`,
    columns: [
      'by',
      'networks',
      'median',
      'min',
      'max',
      'of bridge alone',
      'CPU',
      'of bridge alone',
      'machine’s CPU',
      'gone',
    ],
    rows: cases.map(([way, networks]) => {
      const [mid = 0, low = 0, high = 0, cpu = 0, machine = 0, gone = 0] = cells(
        results.get(keyOf(way, networks))!,
      )
      return [
        titleOf(way, networks),
        networks,
        mid,
        low,
        high,
        ratioText(mid, base[0]!),
        cpu,
        ratioText(cpu, base[3]!),
        machine,
        gone,
      ]
    }),
    notes: [
      'CPU: of every process of the cluster, from the first creation until the last is Ready: API server, etcd, kubelets and runtimes of all',
      'three nodes. machine’s CPU: of everything on this machine, with other work and kernel threads. gone: from deletion until none is left.',
    ],
  }
  const means = cases.map(([way, networks]) => byProgram(results.get(keyOf(way, networks))!, count))
  const most = (program: string) => Math.max(...means.map((each) => each.get(program) ?? 0))
  const programs = [...new Set(means.flatMap((each) => [...each.keys()]))]
    .filter((program) => most(program) >= 0.5)
    .sort((a, b) => most(b) - most(a))
  const where: Figures = {
    title: `The same CPU by program, ms a pod`,
    columns: ['program', ...cases.map(([way, networks]) => `${titleOf(way, networks)} ${networks}`)],
    rows: programs.map((program) => [program, ...means.map((each) => each.get(program) ?? 0)]),
    notes: [
      'What a program executes and waits for counts as its own: plugins are containerd’s or their daemon’s.',
    ],
  }
  return [ready, where]
}

const total = (cpuMs: Map<string, number>): number => [...cpuMs.values()].reduce((sum, ms) => sum + ms, 0)

/** Milliseconds a pod, means of these. */
function byProgram(all: Batch[], count: number): Map<string, number> {
  const programs = new Set(all.flatMap(({ cpuMs }) => [...cpuMs.keys()]))
  return new Map(
    [...programs].map((program) => [
      program,
      mean(all.map(({ cpuMs }) => (cpuMs.get(program) ?? 0) / count)),
    ]),
  )
}

export interface Batch {
  readyMs: number
  /** By program. */
  cpuMs: Map<string, number>
  machineMs: number
  goneMs: number
}

/** Creates so many pods at once, waits until all are Ready, deletes them, waits until none is there. */
export async function batch(
  place: Place,
  way: Way,
  networks: number,
  count: number,
  prefix: string,
): Promise<Batch> {
  const { kube, init } = place
  const { namespace } = way
  const over = new AbortController()
  const [allReady, allGone] = [Promise.withResolvers<number>(), Promise.withResolvers<number>()]
  const names = new Set(
    Array.from({ length: count }, (_, i) => `${prefix}-${way.prefix || way.side}-${networks}-${i}`),
  )
  const ready = new Set<string>()
  const gone = new Set<string>()
  const failed = (error: unknown) => {
    allReady.reject(error)
    allGone.reject(error)
  }
  const following = follow().catch(failed)
  const late = setTimeout(() => {
    const left =
      ready.size < count ? `${count - ready.size} are not Ready` : `${count - gone.size} are not gone`
    failed(new Error(`of ${count} pods of ${way.title} ${left} after 5 minutes`))
  }, 300_000)
  allGone.promise.catch(() => {})
  try {
    const [cpu, machine, began] = [cpuByProgram(init), cpuOfMachine(), performance.now()]
    await Promise.all(Array.from(names, (name) => kube.create(resources.pods, podOf(way, name, networks))))
    const readyMs = (await allReady.promise) - began
    const [after, machineMs] = [cpuByProgram(init), cpuOfMachine() - machine]
    const cpuMs = new Map([...after].map(([program, ms]) => [program, ms - (cpu.get(program) ?? 0)]))
    const deleted = performance.now()
    await Promise.all(Array.from(names, (name) => kube.delete(resources.pods, { namespace, name })))
    return { readyMs, cpuMs, machineMs, goneMs: (await allGone.promise) - deleted }
  } finally {
    clearTimeout(late)
    over.abort()
    await following
    if (way.side === 'multus') await giveBackLeaked(place)
  }

  /** An API server ends a watch when it likes: then all is read again. */
  async function follow(): Promise<void> {
    while (!over.signal.aborted) {
      const { items, resourceVersion } = await kube.list(resources.pods, { namespace })
      const there = new Set(items.map((pod) => pod.metadata.name))
      for (const pod of items) if (isReady(pod)) see(ready, pod)
      for (const name of ready) if (!there.has(name)) gone.add(name)
      tell()
      for await (const change of kube.watch(resources.pods, resourceVersion, {
        namespace,
        signal: over.signal,
      })) {
        if (change.type === 'BOOKMARK') continue
        if (change.type === 'DELETED') see(gone, change.object)
        else if (isReady(change.object)) see(ready, change.object)
        tell()
      }
    }
  }

  function see(those: Set<string>, { metadata }: Pod): void {
    if (names.has(metadata.name)) those.add(metadata.name)
  }

  function tell(): void {
    if (ready.size === count) allReady.resolve(performance.now())
    if (gone.size === count) allGone.resolve(performance.now())
  }
}
