import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { jsonLog } from '../src/lib/log.ts'
import { serveControl, sockets } from './control.ts'
import { Lab } from './lab.ts'
import type { Wiring } from './wires.ts'

/** The lab's main process, inside its namespaces: `main.ts <dir> <wiring> [stay]`, the API's listener as descriptor 3. */
const [dir = '', wiringText = '{}', stay] = process.argv.slice(2)
const wiring = JSON.parse(wiringText) as Wiring
const log = jsonLog('lab')
mkdirSync(dir, { recursive: true, mode: 0o700 })
const lab = new Lab({ dir, wiring, listener: 3, log })

// Whoever started it is gone, however that came about.
if (stay === undefined) {
  process.stdin.resume()
  process.stdin.on('end', () => lab.close())
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => lab.close())

try {
  await lab.begin()
  serveControl(sockets(dir).control, lab)
  await lab.ended
} catch (error) {
  log.error('the lab ends', { error: error instanceof Error ? error.stack : String(error) })
  process.exitCode = 1
}
// Lazily: whatever is mounted below goes with it.
try {
  execFileSync('umount', ['--lazy', dir])
} catch {}
// What went wrong stands in its log, for whoever started it; the next command removes it.
if (!process.exitCode) rmSync(dir, { recursive: true, force: true })
process.exit()
