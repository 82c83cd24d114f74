import type { AddressBlock } from '../api/address-block.ts'
import type { Pod } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import { found } from '../kube/found.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { type StatefulSet, statefulSets } from './addresses.ts'

/** For how long an address is kept for a pod that its StatefulSet wants, and that is not there. */
export const keptForMs = 24 * 3_600_000

/** What is known of those that addresses are kept for. */
export interface StatefulHolders {
  pods: Pod[]
  statefulSets: StatefulSet[]
  /** `<namespace>/<name>` of pods that have not been seen for so long that nothing is kept for them any more. */
  longGone: Set<string>
}

/**
 * Looks for the StatefulSets and pods that addresses are kept for, asking one
 * by one: there are few, and watching every pod of the cluster for them would
 * cost more than all the rest. Since when a pod is gone it knows only from its
 * own looks, so a controller that begins anew keeps addresses for longer.
 */
export class StatefulHolderLooks {
  readonly #kube: Kube
  readonly #clock: Clock
  /** Since when pods are gone that addresses are kept for, by `<namespace>/<name>`. */
  #goneSince = new Map<string, number>()

  constructor({ kube, clock }: { kube: Kube; clock: Clock }) {
    this.#kube = kube
    this.#clock = clock
  }

  /** Undefined where the API server has no StatefulSets. */
  async look(blocks: AddressBlock[]): Promise<StatefulHolders | undefined> {
    const names = new Set(blocks.flatMap((b) => podOf(b.spec.holder) ?? []))
    const pods: Pod[] = []
    const sets = new Map<string, StatefulSet | undefined>()
    const goneSince = new Map<string, number>()
    try {
      for (const full of names) {
        const [namespace = '', name = ''] = full.split('/')
        const pod = await found(this.#kube, resources.pods, { namespace, name })
        if (pod) pods.push(pod)
        else goneSince.set(full, this.#goneSince.get(full) ?? this.#clock.now())
        const set = name.replace(/-[0-9]+$/, '')
        const key = `${namespace}/${set}`
        if (!sets.has(key)) sets.set(key, await found(this.#kube, statefulSets, { namespace, name: set }))
      }
    } catch (error) {
      if (isFault(error, 'unsupported')) return undefined
      throw error
    }
    this.#goneSince = goneSince
    const before = this.#clock.now() - keptForMs
    return {
      pods,
      statefulSets: [...sets.values()].flatMap((set) => set ?? []),
      longGone: new Set([...goneSince].flatMap(([name, since]) => (since <= before ? name : []))),
    }
  }
}

const podOf = (holder: string | undefined): string | undefined =>
  holder?.startsWith('statefulset-pod ') ? holder.slice('statefulset-pod '.length) : undefined
