import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { buildImage } from '../images/images.ts'
import { Fault } from '../src/lib/fault.ts'
import { toolDir } from './build.ts'
import type { Cluster } from './cluster.ts'

const chart = join(import.meta.dirname, '../deploy/chart')

/**
 * Puts Polynet on the cluster as its users do, by its chart, from this very
 * source, and waits until it is ready. `values` are helm's (`key=value`).
 */
export async function installPolynet(
  cluster: Cluster,
  values: string[] = [],
  say: (line: string) => void = () => {},
): Promise<void> {
  const { path } = await buildImage('polynet', say)
  await cluster.loadImage('all', path)
  const helm = join(await toolDir('helm', say), 'helm')
  const wanted = [...dualStack, ...values].flatMap((value) => ['--set', value])
  await run(helm, [
    ...['upgrade', '--install', 'polynet', chart, '--namespace', 'polynet-system', '--create-namespace'],
    ...['--kubeconfig', cluster.kubeconfig, '--wait', '--timeout', '120s', ...wanted],
  ])
}

const dualStack = ['defaultNetwork.subnets={10.244.0.0/16,fd00:10:244::/56}']

async function run(program: string, args: string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 128))
  })
  const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  if (code !== 0) throw new Fault('unavailable', 'install Polynet by helm', (err || out).trim())
}
