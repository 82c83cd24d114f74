import { setTimeout as sleep } from 'node:timers/promises'
import { memoryOf } from '../cpu.ts'
import type { Figures } from '../figures.ts'
import { NodeRuntime } from './node-runtime.ts'
import type { Place } from './place.ts'
import { named, tree } from './processes.ts'
import type { Size } from './rows.ts'
import { hostLocal, polynet, type Way, whereabouts } from './ways.ts'

/** Everything of either side that stays. */
const resident: [title: string, where: string, word: string][] = [
  ['Polynet agent', 'each node', '/usr/bin/polynet-agent'],
  ['Polynet controller', 'once', '/usr/bin/polynet-controller'],
  ['Polynet webhook', 'once', '/usr/bin/polynet-webhook'],
  ['multus-daemon', 'each node', '/usr/src/multus-cni/bin/multus-daemon'],
  ['Whereabouts’ control loop', 'each node', '/ip-control-loop'],
]

/** What every one of them has, in MiB, once nothing was done for so long. */
async function residents({ init }: Place, restMs: number): Promise<number[]> {
  await sleep(restMs)
  const pids = tree(init)
  return resident.map(([, , word]) => named(pids, word).reduce((sum, pid) => sum + memoryOf(pid).resident, 0))
}

const rest = { small: 500, full: 10_000 }

/** What is in memory of either side before its first pod. */
export async function idle(place: Place, size: Size): Promise<Figures[]> {
  const first = await residents(place, size(rest))
  return [
    {
      title: 'Resident memory (MiB) before the first pod',
      columns: ['process', 'where', 'just started'],
      rows: resident.map(([title, where], i) => [title, where, first[i]!]),
    },
  ]
}

/** What stays in memory of either side: at rest, with pods on three networks more, and when they have gone. */
export async function memory(place: Place, size: Size): Promise<Figures[]> {
  const count = size({ small: 3, full: 100 })
  const restMs = size(rest)
  const states: number[][] = []
  const look = async () => states.push(await residents(place, restMs))
  await look()
  const ways: [Way, number][] = [
    [polynet, count],
    [hostLocal, Math.ceil(count / 2)],
    [whereabouts, Math.floor(count / 2)],
  ]
  const held: (() => Promise<void>)[] = []
  for (const [way, share] of ways) {
    const runtime = await NodeRuntime.start(place, way)
    const pods = await runtime.pods(`memory-${way.prefix}`, share, 4)
    await sleep(1000)
    const { failed } = await runtime.cni('ADD', pods, 4)
    if (failed[0]) throw new Error(failed[0])
    held.push(async () => {
      await runtime.cni('DEL', pods, 4)
      await runtime.remove(pods)
      runtime.close()
    })
  }
  await look()
  for (const letGo of held) await letGo()
  await look()
  return [
    {
      title: `Resident memory (MiB), ${restMs / 1000} s after the last thing done`,
      columns: ['process', 'where', 'at rest', `${count} pods on 4 networks`, 'these gone'],
      rows: resident.map(([title, where], i) => [title, where, ...states.map((state) => state[i]!)]),
      notes: [
        'Half of Multus’ pods have host-local, half Whereabouts. At rest: after the rows measured before this one, more than a thousand',
        'attachments of either side where all are. Node’s program file, which all of Polynet’s processes on a node share, is in each. Plugins',
        'that are executed are not resident.',
      ],
    },
  ]
}
