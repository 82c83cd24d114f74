import { setTimeout as sleep } from 'node:timers/promises'
import type { Connected } from './boot.ts'
import { ensureDebian } from './debian.ts'
import type { Stream } from './stream.ts'

/** What iperf3 says with `--json`, as far as it matters here. */
interface Report {
  error?: string
  intervals: { sum: { seconds: number; bytes: number } }[]
}

/** Slow enough that packets are not lost because the machine is busy with these. */
const rate = '20M'
/** Of one connection. */
const seconds = 10

/**
 * TCP by iperf3 from the second pod to the first, a connection for each of
 * the streams' networks, one after another until `stop`, which says what went
 * wrong: a line for each connection that did not end well and for each second
 * in which nothing came. The last ones are followed to their end.
 */
export function startTcp(
  cluster: Pick<Connected, 'execInPod'>,
  [to, from]: [string, string],
  streams: Stream[],
): { stop(): Promise<{ seconds: number; problems: string[] }> } {
  ensureDebian(() => {}, { iperf3: ['iperf3'] })
  let stopped = false
  const one = async ({ network, ends }: Stream, port: number) => {
    const where = ['--port', String(port)]
    const limited = ['timeout', String(6 * seconds), 'iperf3', ...where]
    let over = false
    const server = cluster.execInPod(from, [...limited, '--server', '--one-off'])
    server.then(
      () => (over = true),
      () => (over = true),
    )
    const client = [...limited, '--client', ends[1].address, '--reverse', '--json']
    const pace = ['--bitrate', rate, '--time', String(seconds), '--interval', '1']
    for (;;) {
      const { exit, output } = await cluster.execInPod(to, [...client, ...pace])
      const report = reportIn(output)
      // The server has not got to its port yet.
      if (!over && /refused/.test(report.error ?? '')) {
        await sleep(50)
        continue
      }
      const served = await server
      const silent = report.intervals.filter(({ sum }) => sum.seconds > 0.5 && sum.bytes === 0).length
      return {
        seconds: report.intervals.reduce((total, { sum }) => total + sum.seconds, 0),
        problems: [
          ...(exit === 0 ? [] : [`TCP on ${network}: ${report.error ?? `ended with ${exit}`}`]),
          ...(served.exit === 0 ? [] : [`TCP on ${network}: its server: ${served.output.trim()}`]),
          ...(silent === 0 ? [] : [`TCP on ${network}: nothing came for ${silent} s of ${seconds}`]),
        ],
      }
    }
  }
  const flowing = streams.map(async (stream, i) => {
    const all = []
    do all.push(await one(stream, 5200 + i))
    while (!stopped)
    return all
  })
  // They are waited for in `stop` alone.
  for (const each of flowing) each.catch(() => {})
  return {
    async stop() {
      stopped = true
      const all = (await Promise.all(flowing)).flat()
      return {
        seconds: all.reduce((total, each) => total + each.seconds, 0),
        problems: all.flatMap(({ problems }) => problems),
      }
    },
  }
}

function reportIn(output: string): Report {
  try {
    return { intervals: [], ...JSON.parse(output) }
  } catch {
    return { error: output.trim(), intervals: [] }
  }
}
