import type { AddressBlock } from '../api/address-block.ts'
import type { Pod } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import { found } from '../kube/found.ts'
import type { Kube } from '../kube/port.ts'
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
      const there = await found(kube, resources.pods, { namespace, name: pod })
      if (there) pods.push(there)
      const owner = await found(kube, statefulSets, { namespace, name: set })
      if (owner) sets.set(`${namespace}/${set}`, owner)
    } catch (error) {
      if (isFault(error, 'unsupported')) return undefined
      throw error
    }
  }
  return { pods, statefulSets: [...sets.values()] }
}

const podOf = (holder: string | undefined): string | undefined =>
  holder?.startsWith('statefulset-pod ') ? holder.slice('statefulset-pod '.length) : undefined
