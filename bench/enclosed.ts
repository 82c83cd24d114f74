import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { enter, wayIn } from '../lab/enter.ts'
import type { Figures } from './figures.ts'

/** What a bench found that works on a kernel: in namespaces of its own, of which nothing is left. */
export async function enclosed(
  name: string,
  options: { small: boolean; profile?: string },
): Promise<Figures[]> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
  const [log, found] = [join(dir, 'log'), join(dir, 'found.json')]
  const output = openSync(log, 'a')
  try {
    await run('../bench/inside.ts', [name, join(dir, 'node'), JSON.stringify(options), found], output)
    return JSON.parse(readFileSync(found, 'utf8'))
  } catch {
    throw new Error(`bench ${name}: it failed\n${readFileSync(log, 'utf8')}`)
  } finally {
    closeSync(output)
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Runs a script (as seen from `lab/`) in namespaces of its own. */
export async function run(script: string, args: string[], output: number): Promise<void> {
  const way = wayIn()
  if (way.how === 'none') throw new Error(`this machine cannot run it: ${way.why}`)
  const child = enter(way, script, args, { input: 'pipe', output, listener: output })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`it ended with ${code}`)
}
