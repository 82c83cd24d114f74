import type { Network } from '../api/network.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { namespaceName } from '../plan/names.ts'
import type { NodePlan } from '../plan/node-plan.ts'
import { planNode } from '../plan/plan-node.ts'
import type { NetworkView } from '../plan/view.ts'
import { type Loop, startLoop } from '../reconcile/loop.ts'
import { Lingering, lingerMs } from './lingering.ts'
import { isDefaultNetwork } from './overlap.ts'
import type { SandboxRecord } from './record.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** Changes of the cluster that come within this time of each other are rendered together. */
const batchMs = 10

/** Keeps this node's kernel as the cluster and the journal say. */
export class Rendering {
  readonly #watched: Watched
  readonly #views: Views
  readonly #records: () => SandboxRecord[]
  readonly #clock: Clock
  readonly #log: Log
  readonly #lingering: Lingering
  readonly #loop: Loop
  readonly #stop = new AbortController()
  #forget = () => {}
  /** UIDs of the networks that are in the kernel. */
  #rendered = new Set<string>()
  /** What each network looked like when it last could be rendered: it goes on like that while it cannot. */
  readonly #last = new Map<string, NetworkView>()

  constructor(deps: {
    watched: Watched
    views: Views
    datapath: Datapath
    records: () => SandboxRecord[]
    clock: Clock
    log: Log
  }) {
    this.#watched = deps.watched
    this.#views = deps.views
    this.#records = deps.records
    this.#clock = deps.clock
    this.#log = deps.log
    this.#lingering = new Lingering(deps.clock)
    this.#loop = startLoop({
      doing: "bring the node's kernel in step",
      clock: deps.clock,
      log: deps.log,
      batchMs,
      round: async () => {
        const networks = this.#wanted()
        this.#watched.render(new Set(networks.map((n) => n.metadata.namespace ?? '')))
        await this.#watched.synced()
        const { plan, views } = this.#plan(networks)
        const { changes, orphans } = await deps.datapath.replace(plan)
        this.#rendered = new Set(views.map((v) => v.network.metadata.uid ?? ''))
        if (changes.length > 0) this.#log.info('the kernel is in step', { changes: changes.length })
        if (changes.length > 0) this.#log.debug('what was changed', { changes })
        for (const key of orphans)
          this.#log.debug('the namespace of a pod is gone; its DEL will come', { key })
      },
    })
  }

  /** The first time; resolves when the kernel is in step, and then stays so. */
  async begin(): Promise<void> {
    this.#forget = this.#watched.onChange(() => this.#loop.wake())
    await this.#loop.settled()
    void this.#lookForLingering()
  }

  wake(): void {
    this.#loop.wake()
  }

  /** Resolves when these networks are in the kernel; asks for them when they are not. */
  async has(networks: Network[]): Promise<void> {
    const missing = networks.filter(
      (n) => n.spec.topology !== 'Direct' && !this.#rendered.has(n.metadata.uid ?? ''),
    )
    if (missing.length > 0) await this.#loop.settled()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#forget()
    await this.#loop.close()
  }

  async #lookForLingering(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#clock.sleep(lingerMs / 5, this.#stop.signal)
      if (!this.#stop.signal.aborted) this.#loop.wake()
    }
  }

  #wanted(): Network[] {
    const inUse = new Set<string>()
    for (const record of this.#records())
      for (const a of record.attachments) if (a.kind === 'polynet') inUse.add(a.network.uid)
    const all = this.#watched.networks.list()
    const own = all.find((n) => isDefaultNetwork(n) && (n.spec.plugin ?? 'polynet') === 'polynet')
    const kept = this.#lingering.keep(all, inUse)
    return own && !kept.includes(own) ? [...kept, own] : kept
  }

  #plan(networks: Network[]): { plan: NodePlan; views: NetworkView[] } {
    const views: NetworkView[] = []
    const known = new Set<string>()
    for (const network of networks) {
      const uid = network.metadata.uid ?? ''
      known.add(uid)
      const view = this.#viewOf(network)
      if (view) views.push(view)
    }
    for (const uid of this.#last.keys()) if (!known.has(uid)) this.#last.delete(uid)
    const planned = new Set(views.map((v) => v.network.metadata.uid))
    const untouched = new Set<string>()
    const attachments = this.#records().flatMap((record) =>
      record.state === 'deleting'
        ? []
        : record.attachments.flatMap((a) => {
            if (a.kind !== 'polynet' || !a.held) return []
            if (!planned.has(a.network.uid)) untouched.add(namespaceName(a.network.uid))
            return [a.held]
          }),
    )
    return {
      plan: {
        ...planNode({ networks: views, attachments, closed: this.#views.closed(views) }),
        untouched: [...untouched].sort(),
      },
      views,
    }
  }

  #viewOf(network: Network): NetworkView | undefined {
    const uid = network.metadata.uid ?? ''
    try {
      const view = this.#views.network(network)
      this.#last.set(uid, view)
      return view
    } catch (error) {
      const last = this.#last.get(uid)
      const { message } = asFault(
        error,
        `render network ${network.metadata.namespace}/${network.metadata.name}`,
      )
      this.#log.warn(message, {
        network: `${network.metadata.namespace}/${network.metadata.name}`,
        goesOn: !!last,
      })
      return last
    }
  }
}
