import { realClock } from '../src/lib/clock.ts'
import { cpuOf, cpuOfChildren } from './cpu.ts'
import { type Figures, mean, median, quantile } from './figures.ts'
import { BenchNode, type BenchPod } from './node.ts'
import { profiling } from './profile.ts'
import { missingReference, reference } from './reference.ts'

/** How long the agent may go on with what follows from an answer: slices are written a second later. */
const settleMs = 1500

interface Sample {
  ms: number
  /** Of all processes, until the answer. */
  cpu: number
  /** And with what the agent does after it, less what it does at rest. */
  whole: number
}

type Side = 'polynet' | 'reference'
type Act = (pod: BenchPod) => Promise<void>

/**
 * What attaching and detaching cost, from the execution of the shim to its
 * result, beside the reference plugins doing the same in the same run. Must
 * run in namespaces of its own.
 */
export async function attach(
  dir: string,
  { small, profile }: { small: boolean; profile?: string },
): Promise<Figures[]> {
  const missing = missingReference()
  if (missing) throw new Error(missing)
  const node = await BenchNode.start(dir)
  try {
    await warmUp(node, small ? 2 : 200)
    const measured = meterOf(node, await atRest(node, small ? 200 : 5000))
    const measure = async (name: string, row: () => Promise<Figures>): Promise<Figures> => {
      const running =
        profile === undefined ? undefined : await profiling({ word: String(node.agent.pid) }, profile, name)
      try {
        return await row()
      } finally {
        await running?.stop()
      }
    }
    return [
      await measure('attach', () => oneByOne(node, measured, small ? 1 : 30)),
      await measure('attach-many', () => manyAtOnce(node, measured, small ? 1 : 3, small ? 4 : 200)),
    ]
  } finally {
    await node.close()
  }
}

/**
 * What an agent has done that has run for a while, so that its code is compiled: pods that came at once, and others that
 * came alone, on one network or four, which is not the same code. A plugin that is executed has nothing to warm.
 */
async function warmUp(node: BenchNode, count: number): Promise<void> {
  const pods = await node.pods('warm', count, 4)
  const onOne = await node.pods('warm-on-one', count, 1)
  await inFlight(pods, (pod) => node.cni('ADD', pod))
  await inFlight(pods, (pod) => node.cni('DEL', pod))
  for (const [index, pod] of pods.entries())
    for (const alone of [onOne[index]!, pod]) {
      await node.cni('ADD', alone)
      await node.cni('DEL', alone)
    }
  await node.remove([...pods, ...onOne])
}

/** One pod at a time, the sides and sizes taking turns. */
async function oneByOne(node: BenchNode, measured: Meter, rounds: number): Promise<Figures> {
  const sides = actsOf(node)
  const samples = new Map<string, Sample[]>()
  // One pod of each size stays, so that bridges and networks are there for those that are measured.
  const [one, four] = [(await node.pods('stays', 1, 1))[0]!, (await node.pods('stays-too', 1, 4))[0]!]
  for (const pod of [one, four]) await node.cni('ADD', pod)
  for (const pod of await node.pods('stays-there', 2, 4)) await reference('ADD', pod, node.dir)
  for (let round = 0; round < rounds; round++) {
    for (const networks of [1, 4]) {
      for (const side of ['polynet', 'reference'] as const) {
        const pods = await node.pods(`${side}-${networks}-${round}`, 1, networks)
        for (const command of ['ADD', 'DEL'] as const) {
          const key = keyOf(command, networks, side)
          const sample = await measured(side, () => sides[side][command](pods[0]!))
          samples.set(key, [...(samples.get(key) ?? []), sample])
        }
        await node.remove(pods)
      }
    }
  }
  const rows: Figures['rows'] = []
  for (const command of ['ADD', 'DEL'] as const)
    for (const networks of [1, 4]) {
      const of = (side: Side) => samples.get(keyOf(command, networks, side)) ?? []
      for (const side of ['polynet', 'reference'] as const)
        rows.push(rowOf(command, networks, side, of(side)))
      rows.push(ratioOf(of('polynet'), of('reference')))
    }
  return {
    title: `From the shim's start to its result, one pod at a time, ${rounds} rounds (milliseconds)`,
    columns: ['command', 'networks', 'by', 'median', 'p95', 'min', 'CPU', 'mean', 'with what follows'],
    rows,
    notes: [
      'The agent had attached 600 pods before; the plugins are new processes each time anyway.',
      "CPU: of all processes, children included, median and mean; the kernel's own threads are in neither.",
      'What follows: what the agent still does after the answer (slices, its watches), less what it does at rest; mean.',
    ],
  }
}

const keyOf = (command: string, networks: number, side: Side) => `${command} ${networks} ${side}`

const rowOf = (command: string, networks: number, side: Side, samples: Sample[]): Figures['rows'][number] => [
  command,
  networks,
  side === 'polynet' ? 'polynet' : 'bridge + host-local',
  ...summaryOf(samples),
]

const ratioOf = (ours: Sample[], theirs: Sample[]): Figures['rows'][number] => {
  const [a, b] = [summaryOf(ours), summaryOf(theirs)]
  return ['', '', 'ratio', ...a.map((figure, column) => `1/${(b[column]! / figure).toFixed(1)}`)]
}

/** The figures of a row, in the order of its columns. */
function summaryOf(samples: Sample[]): number[] {
  const [times, cpu] = [samples.map((s) => s.ms), samples.map((s) => s.cpu)]
  return [
    median(times),
    quantile(times, 0.95),
    Math.min(...times),
    median(cpu),
    mean(cpu),
    mean(samples.map((s) => s.whole)),
  ]
}

/** A node full of pods that come and go at once, on one network each. */
async function manyAtOnce(node: BenchNode, measured: Meter, rounds: number, count: number): Promise<Figures> {
  const sides = actsOf(node)
  const rows: Figures['rows'] = []
  const all = new Map<string, { rate: number; cpu: number }[]>()
  for (let round = 0; round < rounds; round++)
    for (const side of ['polynet', 'reference'] as const) {
      const pods = await node.pods(`many-${side}-${round}`, count, 1)
      for (const command of ['ADD', 'DEL'] as const) {
        const { ms, whole } = await measured(side, () => inFlight(pods, sides[side][command]))
        const key = keyOf(command, 1, side)
        all.set(key, [...(all.get(key) ?? []), { rate: (count / ms) * 1000, cpu: whole / count }])
      }
      await node.remove(pods)
    }
  for (const command of ['ADD', 'DEL'] as const) {
    const of = (side: Side) => all.get(keyOf(command, 1, side)) ?? []
    const [ours, theirs] = (['polynet', 'reference'] as const).map((side) => ({
      rates: of(side).map((s) => s.rate),
      cpu: mean(of(side).map((s) => s.cpu)),
    }))
    for (const [by, { rates, cpu }] of [
      ['polynet', ours!],
      ['bridge + host-local', theirs!],
    ] as const)
      rows.push([command, by, median(rates), Math.min(...rates), Math.max(...rates), cpu])
    rows.push([
      '',
      'ratio',
      `${(median(ours!.rates) / median(theirs!.rates)).toFixed(1)}×`,
      '',
      '',
      `1/${(theirs!.cpu / ours!.cpu).toFixed(1)}`,
    ])
  }
  return {
    title: `${count} pods of one network, ${atOnce} in flight, ${rounds} rounds`,
    columns: ['command', 'by', 'a second', 'min', 'max', 'CPU ms each'],
    rows,
  }
}

const atOnce = 16

async function inFlight(pods: BenchPod[], act: Act): Promise<void> {
  const left = [...pods]
  const work = async () => {
    for (let pod = left.pop(); pod; pod = left.pop()) await act(pod)
  }
  await Promise.all(Array.from({ length: atOnce }, work))
}

const actsOf = (node: BenchNode): Record<Side, Record<'ADD' | 'DEL', Act>> => ({
  polynet: { ADD: (pod) => node.cni('ADD', pod), DEL: (pod) => node.cni('DEL', pod) },
  reference: {
    ADD: (pod) => reference('ADD', pod, node.dir),
    DEL: (pod) => reference('DEL', pod, node.dir),
  },
})

type Meter = (side: Side, act: () => Promise<void>) => Promise<Sample>

/** The agent hears of what the reference plugins do to the host's links; that is not their cost. */
const meterOf =
  (node: BenchNode, atRest: number): Meter =>
  async (side, act) => {
    const ours = side === 'polynet'
    const cpu = () => cpuOfChildren() + (ours ? cpuOf(node.agent.pid!) : 0)
    const before = cpu()
    const begun = performance.now()
    await act()
    const ms = performance.now() - begun
    const then = cpu()
    await realClock.sleep(ours ? settleMs : 0)
    const rest = ours ? atRest * (performance.now() - begun) : 0
    return { ms, cpu: then - before, whole: Math.max(then - before, cpu() - before - rest) }
  }

/** The agent's CPU when nothing happens, milliseconds a millisecond. */
async function atRest(node: BenchNode, ms: number): Promise<number> {
  await realClock.sleep(settleMs)
  const [before, begun] = [cpuOf(node.agent.pid!), performance.now()]
  await realClock.sleep(ms)
  return (cpuOf(node.agent.pid!) - before) / (performance.now() - begun)
}
