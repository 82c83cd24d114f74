import { get } from 'node:http'
import { realClock } from '../src/lib/clock.ts'
import { memoryOf } from './cpu.ts'
import type { Figures } from './figures.ts'
import { BenchNode } from './node.ts'

/**
 * The resident memory of a node's agent, as it is, with pods on it, and when
 * it has started again with them. Must run in namespaces of its own.
 */
export async function memory(dir: string, { small }: { small: boolean }): Promise<Figures[]> {
  const count = small ? 4 : 100
  const restMs = small ? 200 : 15_000
  const node = await BenchNode.start(dir)
  const rows: Figures['rows'] = []
  const row = async (state: string) => {
    await realClock.sleep(restMs)
    const { resident, shared, anonymous } = memoryOf(node.agent.pid!)
    rows.push([state, resident, resident - shared, anonymous])
  }
  await row('just started, no pod')
  for (const pod of await node.pods('pod', count, 2)) await node.cni('ADD', pod)
  await row(`${count} pods on 2 networks each, at rest`)
  await scraped(node.probes)
  await row('and asked for its metrics')
  await node.restart()
  await row(`started again with ${count} pods`)
  await node.close()
  return [
    {
      title: `Resident memory of an agent (MiB), ${restMs / 1000} s after the last thing it did`,
      columns: ['agent', 'resident', 'without the program file', 'anonymous'],
      rows,
      notes: ['Without the program file: what other processes of the same Node do not share with it.'],
    },
  ]
}

const scraped = (socketPath: string): Promise<void> =>
  new Promise((resolve, reject) => {
    get({ socketPath, path: '/metrics' }, (answer) => answer.on('end', () => resolve()).resume()).on(
      'error',
      reject,
    )
  })
