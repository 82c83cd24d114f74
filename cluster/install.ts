import { join } from 'node:path'
import { buildImage } from '../images/images.ts'
import { outputOf } from '../lab/output.ts'
import { Fault } from '../src/lib/fault.ts'
import { toolDir } from './build.ts'
import type { Cluster } from './cluster.ts'
import { eventually, type Kubectl, kubectlOf } from './kubectl.ts'

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

/** A command of helm's on the release, and on the cluster; it waits until what that makes is ready and asked, or what it takes away is gone. */
export async function helm(cluster: Cluster, args: string[]): Promise<void> {
  const on = ['--namespace', 'polynet-system', '--kubeconfig', cluster.kubeconfig]
  const program = join(await toolDir('helm'), 'helm')
  const { exit, output } = await outputOf([program, ...args, ...on, '--wait', '--timeout', '300s'])
  if (exit !== 0) throw new Fault('unavailable', `helm ${args[0]}`, output.trim())
  if (args[0] !== 'uninstall') await webhookAnswers(kubectlOf(cluster))
}

/** Has the release use another chart, or other values than it has (`key=value`). */
export const upgradePolynet = (cluster: Cluster, values: string[] = [], to = chart): Promise<void> =>
  helm(cluster, [
    ...['upgrade', 'polynet', to, '--reset-then-reuse-values'],
    ...values.flatMap((value) => ['--set', value]),
  ])

/** Resolves when the API server gets to the webhook by its Service: the node through which it does hears of ready pods a moment later. */
export async function webhookAnswers(kubectl: Kubectl): Promise<void> {
  const network = JSON.stringify({
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { name: 'asked', namespace: 'default' },
    spec: { subnets: [{ cidr: '10.1.0.0/16' }] },
  })
  const asked = 'network.polynet.dev/asked'
  const said = await eventually(asked, () =>
    kubectl(['create', '--dry-run=server', '-o', 'name', '-f', '-'], network),
  )
  if (said !== asked) throw new Fault('unavailable', 'wait for the webhook', said)
}

const dualStack = ['defaultNetwork.subnets={10.244.0.0/16,fd00:10:244::/56}']
