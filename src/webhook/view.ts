import type { Namespace, NetworkAttachmentDefinition } from '../api/core.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'

/** What reviews look things up in. */
export interface View {
  network(namespace: string, name: string): Network | undefined
  networks(): Network[]
  definition(namespace: string, name: string): NetworkAttachmentDefinition | undefined
  namespace(name: string): Namespace | undefined
  /** The plugins that every namespace's configurations may execute, as the agents are told. */
  allowedPlugins?: readonly string[]
}

export interface WatchedView extends View {
  /** Resolves when everything was read once. */
  synced: Promise<void>
  /** Resolves at the next change, or after `ms`. */
  changeWithin(ms: number): Promise<void>
  close(): void
}

/** A view of the cluster, kept fresh by watches: asking it waits for nobody. */
export function watchView(deps: {
  kube: Kube
  clock: Clock
  log: Log
  allowedPlugins?: readonly string[]
}): WatchedView {
  const { kube, clock, log, allowedPlugins = [] } = deps
  const waiting = new Set<AbortController>()
  const watch = <T extends KubeObject>(resource: Resource<T>): Mirror<T> => {
    const m = mirror(kube, resource, {}, { clock, log })
    m.onChange(() => {
      for (const waiter of waiting) waiter.abort()
    })
    return m
  }
  const networks = watch(resources.networks)
  const definitions = watch(resources.networkAttachmentDefinitions)
  const namespaces = watch(resources.namespaces)
  const all: Mirror<KubeObject>[] = [networks, definitions, namespaces]
  return {
    network: (namespace, name) => networks.get({ namespace, name }),
    networks: networks.list,
    definition: (namespace, name) => definitions.get({ namespace, name }),
    namespace: (name) => namespaces.get({ name }),
    allowedPlugins,
    synced: Promise.all(all.map((m) => m.synced)).then(() => {}),
    async changeWithin(ms) {
      const change = new AbortController()
      waiting.add(change)
      await clock.sleep(ms, change.signal)
      waiting.delete(change)
    },
    close() {
      for (const m of all) m.close()
    },
  }
}
