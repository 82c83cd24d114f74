import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { jsonLog } from '../src/lib/log.ts'
import { serveCalls } from './control.ts'
import { calls, Machines, type MachinesOptions } from './machines.ts'

/** A cluster's main process, inside its namespaces: `main.ts <dir> <options> [stay]`, people's API listener as descriptor 3. */
const [dir = '', optionsText = '{}', stay] = process.argv.slice(2)
const log = jsonLog('cluster')
mkdirSync(dir, { recursive: true, mode: 0o700 })
const machines = new Machines(JSON.parse(optionsText) as MachinesOptions)

// Whoever started it is gone, however that came about.
if (stay === undefined) {
  process.stdin.resume()
  process.stdin.on('end', () => machines.close())
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => machines.close())

try {
  const begun = machines.begin(3)
  serveCalls(join(dir, 'control.sock'), machines, calls)
  await begun
  await machines.ended
} catch (error) {
  log.error('the cluster ends', { error: error instanceof Error ? error.stack : String(error) })
  process.exitCode = 1
}
process.exit()
