import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { toolDir } from '../../cluster/build.ts'
import type { KubeObject, Resource } from '../../src/api/meta.ts'
import { spawn } from '../../src/lib/spawn.ts'
import { kubeconfigFor } from './accounts.ts'
import type { Place } from './place.ts'
import { nodeName } from './scale-nodes.ts'

export interface Asked {
  command: 'ADD' | 'DEL'
  node: number
  pod: string
  sandbox: string
}

/** Whereabouts for addresses of `range`, executed once for each question as its caller would; it is killed when `timeoutMs` are over. */
export async function whereaboutsOf(
  place: Place,
  dir: string,
  range: string,
): Promise<(asked: Asked, timeoutMs?: number) => Promise<string>> {
  const program = join(await toolDir('whereabouts'), 'whereabouts')
  const kubeconfig = await kubeconfigFor(place, dir, ['kube-system', 'whereabouts'])
  const flat = join(dir, 'whereabouts.conf')
  writeFileSync(flat, JSON.stringify({ datastore: 'kubernetes', kubernetes: { kubeconfig } }))
  const conf = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'scale',
    type: 'bridge',
    ipam: {
      type: 'whereabouts',
      range,
      configuration_path: flat,
      log_file: join(dir, 'whereabouts.log'),
      log_level: 'error',
    },
  })
  return async ({ command, node, pod, sandbox }, timeoutMs = 150_000) => {
    const env = {
      PATH: process.env.PATH ?? '',
      NODENAME: nodeName(node),
      CNI_COMMAND: command,
      CNI_PATH: '/',
      CNI_CONTAINERID: sandbox,
      // It refuses the one that it runs in itself.
      CNI_NETNS: `/proc/${place.init}/ns/net`,
      CNI_IFNAME: 'net1',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${sandbox}`,
    }
    const ended = await spawn(program, [program], env, Buffer.from(conf), { timeoutMs })
    if (ended.code !== 0)
      throw new Error(`${ended.code ?? ended.signal} ${ended.stdout.toString().slice(0, 300)}`)
    return ended.stdout.toString()
  }
}

/** What it holds of the range: the address and the sandbox that has it. */
export async function allocationsOf({ kube }: Place, range: string): Promise<[string, string][]> {
  const { items } = await kube.list(ipPools)
  const base = range.split('/')[0]!.split('.').map(Number) as [number, number, number, number]
  const first = base.reduce((sum, byte) => sum * 256 + byte, 0)
  return items
    .filter(({ spec }) => spec?.range === range)
    .flatMap(({ spec }) =>
      Object.entries(spec?.allocations ?? {}).map(([offset, { id }]): [string, string] => {
        const value = first + Number(offset)
        return [[24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.'), id]
      }),
    )
}

/** Takes away all that is held of the range, as if nobody ever had it. */
export async function forgetRange({ kube }: Place, range: string): Promise<void> {
  const { items } = await kube.list(ipPools)
  for (const { metadata, spec } of items)
    if (spec?.range === range)
      await kube.delete(ipPools, { namespace: metadata.namespace ?? '', name: metadata.name })
}

/** The second list of all addresses, over all ranges: which address of `range` is reserved. */
export async function reservedOf({ kube }: Place, range: string): Promise<string[]> {
  const prefix = range.split('.').slice(0, 2).join('.')
  const { items } = await kube.list(reservations)
  return items.map(({ metadata }) => metadata.name).filter((name) => name.startsWith(`${prefix}.`))
}

interface IPPool extends KubeObject {
  spec?: { range: string; allocations?: Record<string, { id: string }> }
}

const crd = { group: 'whereabouts.cni.cncf.io', version: 'v1alpha1', namespaced: true } as const
const ipPools: Resource<IPPool> = { ...crd, kind: 'IPPool', plural: 'ippools' }
const reservations: Resource<KubeObject> = {
  ...crd,
  kind: 'OverlappingRangeIPReservation',
  plural: 'overlappingrangeipreservations',
}
