import { join } from 'node:path'
import { buildImage } from '../images/images.ts'
import { outputOf } from '../lab/output.ts'
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
  const program = join(await toolDir('helm'), 'helm')
  const { exit, output } = await outputOf([program, ...args, ...on, '--wait', '--timeout', '120s'])
  if (exit !== 0) throw new Fault('unavailable', `helm ${args[0]}`, output.trim())
}

const dualStack = ['defaultNetwork.subnets={10.244.0.0/16,fd00:10:244::/56}']
