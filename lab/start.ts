import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kubectl } from '../scenarios/kubectl.ts'
import { answers, asFault, Fault, isFault } from '../src/lib/fault.ts'
import { type Booted, bootLab } from './boot.ts'
import { type Way, wayIn } from './enter.ts'
import type { Place } from './place.ts'
import { screenOf, settled } from './show.ts'

const wiring = { nodes: ['n1', 'n2', 'n3'], nics: ['eth1', 'eth2'] }
const example = join(import.meta.dirname, '../examples/talk')

/**
 * `npm start`: a cluster with the talk's example on it, on the kernel where
 * that is possible. `--exit` ends it when it has shown it; `--sim` asks for a
 * simulation.
 */
async function start(): Promise<void> {
  const way: Way = process.argv.includes('--sim') ? { how: 'none', why: '--sim asks for one' } : wayIn()
  let place: Place
  let kubeconfig: string
  let lab: string | undefined
  const began = performance.now()
  if (way.how === 'none') {
    console.log(`This is a simulation, not a lab on the kernel: ${way.why}.\n`)
    const { startSim } = await import('../sim/sim.ts')
    const sim = await startSim(wiring)
    const dir = mkdtempSync(join(tmpdir(), 'polynet-sim-'))
    process.once('exit', () => rmSync(dir, { recursive: true }))
    kubeconfig = join(dir, 'kubeconfig')
    writeFileSync(kubeconfig, sim.kubeconfig)
    place = sim
  } else {
    const booted = await bootFree(way)
    place = booted.place
    kubeconfig = booted.kubeconfig
    lab = booted.name
    const how = way.how === 'root' ? 'as root' : 'without root, by user namespaces'
    console.log(`A lab on this machine's kernel (${how}), by the name of ${booted.name}.\n`)
  }
  try {
    await kubectlOrFail(place, ['apply', '-f', example])
    await kubectlOrFail(place, ['wait', 'pods', '--all', '-A', '--for=condition=Ready', '--timeout=60s'])
    await settled(place)
    console.log(await screenOf(place))
    console.log(`\nUp in ${((performance.now() - began) / 1000).toFixed(1)} s.`)
    if (process.argv.includes('--exit')) return
    console.log(`kubectl works on it:\n\n  export KUBECONFIG=${kubeconfig}\n`)
    if (lab !== undefined) console.log(insideOf(lab))
    console.log('It ends with Ctrl-C.')
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
    })
  } finally {
    await place.close()
  }
}

/** What `npm run lab` can do with it meanwhile. */
function insideOf(lab: string): string {
  const name = lab === 'lab' ? '' : ` --name ${lab}`
  return [
    'From another terminal:\n',
    `  npm run lab -- status${name}`,
    `  npm run lab -- exec${name} web-1 -- ip addr`,
    `  npm run lab -- reboot${name} n2\n`,
  ].join('\n')
}

async function kubectlOrFail(place: Place, argv: string[]): Promise<void> {
  const { exit, output } = await kubectl(place, argv)
  if (exit === 0) return
  const events = await kubectl(place, ['get', 'events', '-A'])
  throw new Fault(
    'unavailable',
    `kubectl ${argv.join(' ')}`,
    `${output}\n${events.output}\n${await screenOf(place)}`,
  )
}

/** Several can run at once, of several users; two that start in the same moment take another turn. */
async function bootFree(way: Exclude<Way, { how: 'none' }>): Promise<Booted & { name: string }> {
  for (let i = 1; ; i++) {
    const name = i === 1 ? 'lab' : `lab-${i}`
    try {
      return { ...(await bootLab(way, { name, wiring })), name }
    } catch (error) {
      if (!isFault(error, 'exists')) throw error
    }
  }
}

try {
  await start()
  process.exit(0)
} catch (error) {
  const fault = asFault(error, 'start')
  console.error(fault.message)
  process.exit(answers[fault.kind].exit)
}
