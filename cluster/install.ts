import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { buildImage } from '../images/images.ts'
import { Fault } from '../src/lib/fault.ts'
import { toolDir } from './build.ts'
import type { Cluster } from './cluster.ts'

export const chart = join(import.meta.dirname, '../deploy/chart')

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
  await toolDir('helm', say)
  const wanted = [...dualStack, ...values].flatMap((value) => ['--set', value])
  await helm(cluster, ['upgrade', '--install', 'polynet', chart, '--create-namespace', ...wanted])
}

/** A command of helm's on the release, and on the cluster; it waits until what that makes is ready, or what it takes away is gone. */
export async function helm(cluster: Cluster, args: string[]): Promise<void> {
  const on = ['--namespace', 'polynet-system', '--kubeconfig', cluster.kubeconfig]
  await run(join(await toolDir('helm'), 'helm'), [...args, ...on, '--wait', '--timeout', '120s'])
}

const dualStack = ['defaultNetwork.subnets={10.244.0.0/16,fd00:10:244::/56}']

async function run(program: string, args: string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 128))
  })
  const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  if (code !== 0) throw new Fault('unavailable', `helm ${args[0]}`, (err || out).trim())
}
