import type { Figures } from '../figures.ts'
import { profiling } from '../profile.ts'
import { type Place, startPlace } from './place.ts'
import { rows, type Size } from './rows.ts'
import { bare, hostLocal, polynet } from './ways.ts'

/**
 * Polynet beside Multus, Whereabouts and the reference plugins, doing the
 * same work on the same real cluster. A row that fails says so in its place,
 * and the others go on.
 */
export async function peers(options: {
  small: boolean
  rows?: string[]
  /** Where CPU profiles of Polynet's agent go, one for each row. */
  profile?: string
}): Promise<Figures[]> {
  const asked = options.rows ?? Object.keys(rows)
  const unknown = asked.find((name) => !rows[name])
  if (unknown !== undefined)
    throw new Error(
      `measure ${unknown} beside the peers: there is no such row; ${Object.keys(rows).join(', ')}`,
    )
  // Those that want a second node of Polynet come last: it stays.
  const wanted = Object.keys(rows).filter((name) => asked.includes(name))
  const say = (line: string) => console.error(line)
  const size: Size = (sizes) => (options.small ? sizes.small : sizes.full)
  const times: [string, number][] = []
  const minutes = (began: number) => (performance.now() - began) / 60_000
  const start = performance.now()
  const place = await startPlace(say, options.small)
  times.push(['starting the cluster', minutes(start)])
  const stop = () => void place.close().finally(() => process.exit(130))
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const signal of signals) process.once(signal, stop)
  try {
    const found: Figures[] = [
      {
        title: 'How both sides are configured',
        columns: [''],
        rows: place.configuration.map((line) => [line]),
      },
    ]
    for (const [i, name] of wanted.entries()) {
      const { about, minutes: expected, measure } = rows[name]!
      const left = wanted.slice(i).reduce((sum, each) => sum + rows[each]!.minutes, 0)
      const takes = options.small ? '' : `, about ${expected} min of ${Math.round(left)} that are left`
      say(`measuring ${name} (${i + 1} of ${wanted.length}): ${about}${takes}`)
      const began = performance.now()
      const profiled =
        options.profile === undefined ? undefined : await profileOf(place, options.profile, name)
      try {
        found.push(...(await within(expected * limit, measure(place, size))))
      } catch (error) {
        say(`${name} failed: ${String(error)}`)
        found.push({ title: `${name}: ${about}`, columns: ['failed'], rows: [[String(error)]], failed: true })
        // An answer that may still come would be in the way of the next row.
        if (error instanceof Late) return found
        await sweep(place)
      } finally {
        await profiled?.stop()
        times.push([name, minutes(began)])
        say(`${name} took ${minutes(began).toFixed(1)} min`)
      }
    }
    return [
      ...found,
      {
        title: 'What the rows took',
        columns: ['row', 'minutes'],
        rows: [...times, ['all', minutes(start)]],
        notes: ['How it all grows with the cluster: npm run bench -- scale.'],
      },
    ]
  } finally {
    for (const signal of signals) process.off(signal, stop)
    await place.close()
  }
}

/** Of the agent on Polynet's node, which runs there in a container. */
async function profileOf({ cluster, init }: Place, dir: string, name: string) {
  const there = await cluster.prefixOf(polynet.node)
  const into = ['nsenter', `--target=${init}`, '--mount', '--net', '--pid', '--', ...there]
  return await profiling({ word: '/usr/bin/polynet-agent', into }, dir, name)
}

/** A row may take that many times of what it takes on an idle machine. */
const limit = 10

class Late extends Error {}

/** A row's figures, unless it takes so long that it will never end. */
async function within<T>(limitMinutes: number, row: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => late.reject(new Late(`it is not done after ${limitMinutes} min, and what follows is left out`)),
    limitMinutes * 60_000,
  )
  try {
    return await Promise.race([row, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Takes away what a row left that failed. */
async function sweep({ kubectl }: Place): Promise<void> {
  for (const { namespace } of [bare, polynet, hostLocal])
    await kubectl([
      ...['-n', namespace, 'delete', 'pods', '--all'],
      ...['--grace-period=0', '--force', '--timeout=60s'],
    ]).catch((error) => console.error(`take away what is left in ${namespace}: ${error.message}`))
}
