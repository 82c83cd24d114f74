import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../src/lib/fault.ts'
import type { Connected } from './boot.ts'

/** A network on which two pods stream: their interfaces and addresses on it. */
export interface Stream {
  network: string
  ends: [End, End]
}

export interface End {
  interface: string
  address: string
}

export interface Streaming {
  /** Ends it, and says which packets never came: a line for each network and direction that lost some, none where all came. */
  stop(): Promise<Lost>
}

export interface Lost {
  /** Of all streams together. */
  sent: number
  lost: string[]
}

/**
 * Has two pods, by their UIDs, send each other a UDP packet a millisecond on
 * each network, and resolves when all of it flows. `dir` is for what that takes.
 */
export async function startStreams(
  cluster: Pick<Connected, 'execInPod'>,
  dir: string,
  uids: [string, string],
  streams: Stream[],
): Promise<Streaming> {
  const program = join(dir, 'stream')
  if (!existsSync(program)) execFileSync('cc', ['-O2', '-o', program, join(import.meta.dirname, 'stream.c')])
  const run = `${process.pid}-${performance.now()}`
  const stop = join(dir, `stop-${run}`)
  const sides = ([0, 1] as const).map((side) => {
    const log = join(dir, `stream-${run}-${side}`)
    const args = streams.flatMap(({ network, ends }, i) => {
      const [own, other] = [ends[side], ends[1 - side]!]
      return [network, own.interface, String(5000 + i), other.address]
    })
    const argv = ['sh', '-c', 'log=$1; shift; exec "$@" >"$log" 2>&1', 'sh', log, program, stop, ...args]
    return { log, over: cluster.execInPod(uids[side], argv) }
  })
  const said = (log: string) => (existsSync(log) ? readFileSync(log, 'utf8') : '')
  const flows = (log: string) => streams.every(({ network }) => said(log).includes(`${network} began\n`))
  let ended = false
  for (const { over } of sides) void over.then(() => (ended = true))
  while (!ended && !sides.every(({ log }) => flows(log))) await sleep(50)
  if (ended) {
    writeFileSync(stop, '')
    const problem = sides.map(({ log }) => said(log).trim()).join('; ')
    throw new Fault('unavailable', 'start streams between pods', problem)
  }
  return {
    async stop() {
      writeFileSync(stop, '')
      await Promise.all(sides.map(({ over }) => over))
      const [one, other] = sides.map(({ log }) => talliesIn(said(log))) as [Tallies, Tallies]
      const both = streams.flatMap(({ network, ends: [a, b] }) => [
        { way: `${network} ${a.address} > ${b.address}`, by: one.get(network), at: other.get(network) },
        { way: `${network} ${b.address} > ${a.address}`, by: other.get(network), at: one.get(network) },
      ])
      return {
        sent: both.reduce((sum, { by }) => sum + (by?.sent ?? 0), 0),
        lost: both.flatMap(({ way, by, at }) => lostOn(way, by, at)),
      }
    },
  }
}

interface Tally {
  sent: number
  refused: number
  received: number
  /** Ranges of numbers below the highest that came. */
  missing: string
}
type Tallies = Map<string, Tally>

function talliesIn(text: string): Tallies {
  const lines = text.matchAll(/^(.+) sent (\d+) refused (\d+) received (\d+) missing(.*)$/gm)
  return new Map(
    [...lines].map(([, network = '', sent, refused, received, missing = '']) => [
      network,
      { sent: Number(sent), refused: Number(refused), received: Number(received), missing },
    ]),
  )
}

function lostOn(way: string, by: Tally | undefined, at: Tally | undefined): string[] {
  if (!by || !at) return [`${way}: it ended early`]
  const lost = by.sent - at.received
  return lost === 0
    ? []
    : [`${way}: ${lost} of ${by.sent} (${by.refused} refused by its own kernel), missing${at.missing} …`]
}
