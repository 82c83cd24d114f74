import { isDefaultNetwork, isRendered, type Network } from '../api/network.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault, Fault, isFault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import type { PortPlan } from '../plan/node-plan.ts'
import { planNode } from '../plan/plan-node.ts'
import { netnsOf } from '../plan/tunnel.ts'
import type { HeldAttachment, NetworkView, Wire } from '../plan/view.ts'
import { type Loop, startLoop } from '../reconcile/loop.ts'
import type { Journal } from './journal/journal.ts'
import { recordsOf } from './journal/record.ts'
import { Lingering, lingerMs } from './lingering.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** Changes of the cluster that come within this time of each other are rendered together. */
const batchMs = 10
/** The longest that changes wait for others where there are so many that rendering takes all its time. */
const restMs = 200

/** Keeps this node's kernel as the cluster and the journal say. */
export class Rendering {
  readonly #watched: Watched
  readonly #views: Views
  readonly #datapath: Datapath
  readonly #journal: Journal
  readonly #clock: Clock
  readonly #log: Log
  readonly #lingering: Lingering
  readonly #loop: Loop
  readonly #tell: (views: NetworkView[]) => void
  readonly #warn: (network: Network, why: Fault) => void
  readonly #stop = new AbortController()
  #forget = () => {}
  /** UIDs of the networks that are in the kernel. */
  #rendered = new Set<string>()
  /** What the kernel was last made to follow, but for the pods' ports, which come and go by ADD and DEL. */
  #followed: unknown[] | undefined
  /** The ports as they were planned then, by key. */
  #ports = new Map<string, PortPlan>()
  /** Keys of the ports that could not be made right the last time. */
  #spoilt = new Set<string>()
  /** Why networks could not be made right the last time, by UID. */
  #refused = new Map<string, Fault>()
  /** The kernel may have changed by itself: all of it is compared, even when there is nothing else to follow. */
  #doubtful = false

  constructor(deps: {
    watched: Watched
    views: Views
    datapath: Datapath
    journal: Journal
    clock: Clock
    log: Log
    /** Looks at the node's NICs and ports again; whether that was anything new. */
    look: () => Promise<boolean>
    /** Called when the kernel is as these networks want it. */
    rendered: (views: NetworkView[]) => void
    /** Called once when the kernel refuses something of a network. */
    refused: (network: Network, why: Fault) => void
  }) {
    this.#watched = deps.watched
    this.#views = deps.views
    this.#datapath = deps.datapath
    this.#journal = deps.journal
    this.#clock = deps.clock
    this.#log = deps.log
    this.#lingering = new Lingering(deps.clock)
    this.#tell = deps.rendered
    this.#warn = deps.refused
    this.#loop = startLoop({
      doing: "bring the node's kernel in step",
      clock: deps.clock,
      log: deps.log,
      batchMs,
      restMs,
      round: async () => {
        const before = this.#refused
        let failed: unknown
        try {
          await this.#round()
          if ([...this.#refused.keys()].every((uid) => before.has(uid))) return
        } catch (error) {
          if (!isFault(error, 'kernel')) throw error
          failed = error
        }
        // It may know of a NIC that is gone, or a port that is taken, before anybody has told us.
        if (await deps.look()) await this.#round()
        else if (failed) throw failed
      },
    })
  }

  async #round(): Promise<void> {
    const networks = this.#wanted()
    this.#watched.render(networks)
    await this.#watched.synced()
    const views = networks.flatMap((network) => this.#viewOf(network) ?? [])
    const closed = this.#views.closed(views)
    const following = [...views, closed.join()]
    if (equal(following, this.#followed) && !this.#doubtful) return
    const trusts = this.#followed !== undefined && !this.#doubtful
    this.#followed = undefined
    this.#doubtful = false
    await this.#remember(views)
    // From here to the kernel nothing else happens: who came before is seen now, who comes later waits for what goes.
    const uids = new Set(networks.map(({ metadata }) => metadata.uid))
    if (this.#wanted().some(({ metadata }) => !uids.has(metadata.uid))) return this.#round()
    const plan = planNode({ networks: views, attachments: this.#attachments(), closed })
    const planned = new Set(views.map((v) => v.network.metadata.uid ?? ''))
    this.#rendered = this.#rendered.intersection(planned)
    const unchanged = trusts ? this.#unchanged(plan.ports) : []
    const { changes, orphans, spoilt = [], refused = [] } = await this.#datapath.replace(plan, unchanged)
    this.#followed = following
    const left = new Map(refused.map(({ netns, why }) => [netns, why]))
    this.#ports = new Map(plan.ports.filter(({ netns }) => !left.has(netns)).map((port) => [port.key, port]))
    this.#mindRefused(views, left)
    this.#rendered = planned.difference(this.#refused)
    this.#tell(views.filter(({ network }) => this.#rendered.has(network.metadata.uid ?? '')))
    if (changes.length > 0) this.#log.info('the kernel is in step', { changes: changes.length })
    if (changes.length > 0) this.#log.debug('what was changed', { changes })
    for (const key of orphans) this.#log.debug('the namespace of a pod is gone; its DEL will come', { key })
    this.#mind(spoilt)
  }

  /** Tells of networks that could not be made right, and has them tried again: at once when they are new, then with everything else. */
  #mindRefused(views: NetworkView[], left: Map<string, string>): void {
    const before = this.#refused
    this.#refused = new Map()
    for (const view of left.size === 0 ? [] : views) {
      const why = left.get(netnsOf(view))
      if (why === undefined) continue
      const { namespace, name, uid = '' } = view.network.metadata
      const fault = new Fault('kernel', `render network ${namespace}/${name}`, `the kernel refused to ${why}`)
      this.#refused.set(uid, fault)
      if (before.has(uid)) continue
      this.#warn(view.network, fault)
      this.wake()
    }
  }

  /** Tells of ports that could not be made right, and has them tried again: at once when they are new, then with everything else. */
  #mind(spoilt: string[]): void {
    const before = this.#spoilt
    const byKey = new Map(spoilt.map((why) => [why.split(': ', 1)[0] ?? '', why]))
    this.#spoilt = new Set(byKey.keys())
    for (const [key, why] of byKey) {
      if (before.has(key)) continue
      this.#log.warn('an interface of a pod cannot be made right', { key, why })
      this.wake()
    }
  }

  /** The first time; resolves when the kernel is in step, and then stays so. */
  async begin(): Promise<void> {
    this.#forget()
    this.#forget = this.#watched.onChange((kind) => {
      if (kind !== 'namespaces' && kind !== 'definitions') this.#loop.wake()
    })
    await this.#loop.settled()
    void this.#lookForLingering()
  }

  /** To be called when the kernel may have changed by itself. */
  wake(): void {
    this.#doubtful = true
    this.#loop.wake()
  }

  /** Resolves when these networks are in the kernel; asks for them when they are not. Rejects where that showed that they cannot be. */
  async has(networks: Network[]): Promise<void> {
    const missing = networks.filter(
      (n) => n.spec.topology !== 'Direct' && !this.#rendered.has(n.metadata.uid ?? ''),
    )
    if (missing.length === 0) return
    await this.#loop.settled()
    for (const network of missing) {
      this.#views.network(network)
      const refused = this.#refused.get(network.metadata.uid ?? '')
      if (refused) throw refused
    }
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#forget()
    await this.#loop.close()
  }

  async #lookForLingering(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#clock.sleep(lingerMs / 5, this.#stop.signal)
      if (!this.#stop.signal.aborted) this.wake()
    }
  }

  /** What is to be rendered: what pods use or used a moment ago, and the cluster's default network. */
  #wanted(): Network[] {
    const inUse = new Set<string>()
    for (const record of recordsOf(this.#journal))
      for (const a of record.attachments) if (a.kind === 'polynet') inUse.add(a.network.uid)
    const all = this.#watched.networks.list()
    const gone = [...this.#remembered()].filter(
      ([uid]) => inUse.has(uid) && !all.some((n) => n.metadata.uid === uid),
    )
    const own = all.find((n) => isDefaultNetwork(n) && isRendered(n))
    const kept = this.#lingering.keep(all, inUse)
    return [
      ...kept,
      ...(own && !kept.includes(own) ? [own] : []),
      // Deleted under its pods: they keep what they have.
      ...gone.map(([, { network }]) => network),
    ]
  }

  #attachments(): HeldAttachment[] {
    return recordsOf(this.#journal).flatMap((record) =>
      record.state === 'deleting'
        ? []
        : record.attachments.flatMap((a) => (a.kind === 'polynet' && a.held ? [a.held] : [])),
    )
  }

  /** Keys of the ports that are planned as they were when the kernel last followed, or as an ADD has made them since. */
  #unchanged(ports: PortPlan[]): string[] {
    const made = new Map(this.#ports)
    for (const { state, attachments } of recordsOf(this.#journal))
      for (const a of state === 'added' ? attachments : [])
        if (a.kind === 'polynet' && a.port && !made.has(a.port.key)) made.set(a.port.key, a.port)
    // Most are the same value as before, so little is compared.
    return ports.filter((port) => equal(made.get(port.key), port)).map(({ key }) => key)
  }

  /** A network that cannot be rendered now (its NIC is gone, or the network itself) goes on as it last was. */
  #viewOf(network: Network): NetworkView | undefined {
    const { namespace, name, uid = '' } = network.metadata
    const last = this.#journal.get(keyOf(uid)) as Remembered | undefined
    try {
      return this.#views.network(network)
    } catch (error) {
      const { message } = asFault(error, `render network ${namespace}/${name}`)
      this.#log.warn(message, { network: `${namespace}/${name}`, goesOn: last !== undefined })
      return last && this.#views.over(last.network, last.wire)
    }
  }

  /** Has the journal know how each network is rendered, and forget those that are not any more. */
  async #remember(views: NetworkView[]): Promise<void> {
    const changes = new Map<string, unknown>()
    const now = new Map(views.map((v) => [v.network.metadata.uid ?? '', v]))
    for (const [uid, { network, wire }] of now) {
      const { managedFields: _, ...metadata } = network.metadata
      const next: Remembered = { network: { ...network, metadata }, wire }
      if (!equal(this.#journal.get(keyOf(uid)), next)) changes.set(keyOf(uid), next)
    }
    for (const [uid] of this.#remembered()) if (!now.has(uid)) changes.set(keyOf(uid), undefined)
    if (changes.size > 0) await this.#journal.write(changes)
  }

  *#remembered(): Iterable<[uid: string, Remembered]> {
    for (const [key, value] of this.#journal.entries())
      if (key.startsWith(prefix)) yield [key.slice(prefix.length), value as Remembered]
  }
}

/** A network as it was rendered last, under `network/<uid>`: an agent that starts while it cannot be planned goes on with it. */
interface Remembered {
  network: Network
  wire: Wire
}

const prefix = 'network/'
const keyOf = (uid: string): string => `${prefix}${uid}`
