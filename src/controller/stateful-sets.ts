import type { AddressBlock } from '../api/address-block.ts'
import type { Pod } from '../api/core.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube, Ref } from '../kube/port.ts'
import { isFault } from '../lib/fault.ts'
import { type StatefulSet, statefulSets } from './addresses.ts'

/**
 * The StatefulSets and pods that addresses are kept for, asked one by one:
 * there are few, and watching every pod of the cluster for them would cost
 * more than all the rest. Undefined where the API server has no StatefulSets.
 */
export async function statefulHolders(
  kube: Kube,
  blocks: AddressBlock[],
): Promise<{ pods: Pod[]; statefulSets: StatefulSet[] } | undefined> {
  const names = new Set(blocks.flatMap((b) => podOf(b.spec.holder) ?? []))
  const pods: Pod[] = []
  const sets = new Map<string, StatefulSet>()
  for (const name of names) {
    const [namespace = '', pod = ''] = name.split('/')
    const set = pod.replace(/-[0-9]+$/, '')
    try {
      pods.push(...(await found(kube, resources.pods, { namespace, name: pod })))
      for (const object of await found(kube, statefulSets, { namespace, name: set }))
        sets.set(`${namespace}/${set}`, object)
    } catch (error) {
      if (isFault(error, 'unsupported')) return undefined
      throw error
    }
  }
  return { pods, statefulSets: [...sets.values()] }
}

const podOf = (holder: string | undefined): string | undefined =>
  holder?.startsWith('statefulset-pod ') ? holder.slice('statefulset-pod '.length) : undefined

async function found<T extends KubeObject>(kube: Kube, resource: Resource<T>, ref: Ref): Promise<T[]> {
  try {
    return [await kube.get(resource, ref)]
  } catch (error) {
    if (isFault(error, 'missing')) return []
    throw error
  }
}
