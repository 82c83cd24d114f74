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
 * Where another build runs it is replaced: an image of one name would be the
 * one that is there already.
 */
export async function installPolynet(
  cluster: Cluster,
  values: string[] = [],
  say: (line: string) => void = () => {},
): Promise<void> {
  const { name, path, digest } = await buildImage('polynet', say)
  await cluster.loadImage('all', path)
  const tag = digest.replace('sha256:', '').slice(0, 12)
  await tagImage(cluster, name, name.replace(/:[^:/]*$/, `:build-${tag}`))
  await toolDir('helm', say)
  // A second controller or webhook would wait for another node.
  const alone = (await cluster.nodes()).length === 1 ? ['controller.replicas=1', 'webhook.replicas=1'] : []
  const wanted = [`image.tag=build-${tag}`, ...alone, ...dualStack, ...values].flatMap((value) => [
    '--set',
    value,
  ])
  await helm(cluster, ['upgrade', '--install', 'polynet', chart, '--create-namespace', ...wanted])
}

/** Gives an image that all nodes have another name beside its own. */
export async function tagImage(cluster: Cluster, name: string, other: string): Promise<void> {
  const ctr = [join(await toolDir('containerd'), 'ctr'), '-n', 'k8s.io', 'images', 'tag', '--force']
  for (const node of await cluster.nodes()) {
    const { exit, output } = await cluster.exec(node, [...ctr, name, other])
    if (exit !== 0) throw new Fault('unavailable', `tag image ${name} on ${node}`, output.trim())
  }
}

/** A command of helm's on the release, and on the cluster; it waits until what that makes is ready, or what it takes away is gone. */
export async function helm(cluster: Cluster, args: string[]): Promise<void> {
  const on = ['--namespace', 'polynet-system', '--kubeconfig', cluster.kubeconfig]
  const program = join(await toolDir('helm'), 'helm')
  const { exit, output } = await outputOf([program, ...args, ...on, '--wait', '--timeout', '300s'])
  if (exit !== 0) throw new Fault('unavailable', `helm ${args[0]}`, output.trim())
}

const dualStack = ['defaultNetwork.subnets={10.244.0.0/16,fd00:10:244::/56}']
