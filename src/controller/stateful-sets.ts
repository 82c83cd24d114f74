import type { AddressBlock } from '../api/address-block.ts'
import type { Pod } from '../api/core.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { found } from '../kube/found.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { limit } from '../lib/limit.ts'
import { type StatefulSet, statefulSets } from './addresses.ts'

/** For how long an address is kept for a pod that its StatefulSet wants, and that is not there. */
export const keptForMs = 24 * 3_600_000

/** How many requests are under way at most: as many as connections are kept for (`kube/cluster/connections.ts`). */
const askingAtOnce = 16

/** What is known of those that addresses are kept for. */
export interface StatefulHolders {
  pods: Pod[]
  statefulSets: StatefulSet[]
  /** `<namespace>/<name>` of pods that have not been seen for so long that nothing is kept for them any more. */
  longGone: Set<string>
}

/**
 * Looks for the StatefulSets and pods that addresses are kept for, asking for
 * each, some at once: watching every pod of the cluster for them would cost
 * more than all the rest, and a list has all other pods of a namespace in it.
 * Since when a pod is gone it knows only from its
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
    const setNames = new Set(Array.from(names, (name) => name.replace(/-[0-9]+$/, '')))
    let sets: (StatefulSet | undefined)[]
    let pods: (Pod | undefined)[]
    try {
      sets = await this.#ask(statefulSets, setNames)
      pods = await this.#ask(resources.pods, names)
    } catch (error) {
      if (isFault(error, 'unsupported')) return undefined
      throw error
    }
    const goneSince = new Map<string, number>()
    for (const [i, name] of [...names].entries())
      if (!pods[i]) goneSince.set(name, this.#goneSince.get(name) ?? this.#clock.now())
    this.#goneSince = goneSince
    const before = this.#clock.now() - keptForMs
    return {
      pods: pods.flatMap((pod) => pod ?? []),
      statefulSets: sets.flatMap((set) => set ?? []),
      longGone: new Set([...goneSince].flatMap(([name, since]) => (since <= before ? name : []))),
    }
  }

  /** The objects of these names, undefined where there is none. Once one is refused, no more are asked for. */
  #ask<T extends KubeObject>(resource: Resource<T>, names: Iterable<string>): Promise<(T | undefined)[]> {
    const limited = limit(askingAtOnce)
    let refused = false
    const ask = async (full: string) => {
      if (refused) return undefined
      const [namespace = '', name = ''] = full.split('/')
      try {
        return await found(this.#kube, resource, { namespace, name })
      } catch (error) {
        refused = true
        throw error
      }
    }
    return Promise.all(Array.from(names, (full) => limited(() => ask(full))))
  }
}

const podOf = (holder: string | undefined): string | undefined =>
  holder?.startsWith('statefulset-pod ') ? holder.slice('statefulset-pod '.length) : undefined
