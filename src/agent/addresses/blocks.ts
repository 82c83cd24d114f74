import type { AddressBlock } from '../../api/address-block.ts'
import type { Network } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import {
  blockCount,
  blockName,
  blockObject,
  candidates,
  inBlocks,
  labels,
  lastSingleCount,
  lastSingles,
} from '../../ipam/block.ts'
import { canTake, countStock } from '../../ipam/stock.ts'
import { found } from '../../kube/found.ts'
import type { Kube } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, Fault, isFault } from '../../lib/fault.ts'
import { type Family, formatPrefix, type Prefix } from '../../lib/ip.ts'
import type { Log } from '../../lib/log.ts'
import type { Journal } from '../journal/journal.ts'
import { Turns } from '../turns.ts'
import { OwnBlocks, type OwnBlocksDeps } from './own-blocks.ts'
import { type BlockRecord, keys, recordOf } from './records.ts'
import type { Need, NetworkStock, Stocks } from './stocks.ts'

/** Blocks tried without knowing which are taken; then all of the network's are listed once. */
const blindTries = 4
/** For how long a network without a free block, or without anything free, is not asked for it again. */
const fullMs = 1000

/**
 * The node's blocks at the API server: leases them by creating AddressBlocks,
 * and gives back what nobody needs.
 */
export class Blocks {
  readonly #kube: Kube
  readonly #journal: Journal
  readonly #stocks: Stocks
  readonly #node: { name: string; uid: string }
  readonly #clock: Clock
  readonly #log: Log
  readonly #endpointOf: (network: Network) => string | undefined
  readonly #closed = new AbortController()
  /** One thing after another for each block: what is on its way back may be asked for again. */
  readonly turns = new Turns()
  /** Given back since the last look at what the API server has began. */
  readonly forgotten = new Set<string>()
  /** Asked for, as long as the answer is not in the records. */
  readonly #asked = new Map<string, number>()
  /** Asked for without an answer: they may be this node's. */
  readonly #unanswered = new Set<string>()
  readonly #own: OwnBlocks

  constructor(
    deps: {
      kube: Kube
      journal: Journal
      stocks: Stocks
      node: { name: string; uid: string }
      clock: Clock
      log: Log
      endpointOf: (network: Network) => string | undefined
    } & Pick<OwnBlocksDeps, 'mayHave' | 'warn' | 'found'>,
  ) {
    this.#kube = deps.kube
    this.#journal = deps.journal
    this.#stocks = deps.stocks
    this.#node = deps.node
    this.#clock = deps.clock
    this.#log = deps.log
    this.#endpointOf = deps.endpointOf
    this.#own = new OwnBlocks({ ...deps, blocks: this, signal: this.signal })
  }

  close(): void {
    this.#closed.abort()
  }

  get signal(): AbortSignal {
    return this.#closed.signal
  }

  /** To be called when a block was seen to come, change or go. */
  seen(block: AddressBlock, gone: boolean): void {
    this.#own.seen(block, gone)
  }

  /** To be called when the node may have blocks again that it could not have for a while. */
  doubt(): void {
    this.#own.doubt()
  }

  /**
   * Gets a block of the family, unless there is a free address meanwhile; for
   * a lease that is under way a single address where no block is left.
   * `spare`: one more block in any case. One request at a time per network
   * and family: who comes meanwhile waits for the same.
   */
  async obtain(network: NetworkStock, family: Family, why: Need): Promise<void> {
    for (;;) {
      const under = network.asking.get(family)
      if (!under) break
      if (why !== 'lease' || under.why === 'lease') return await under.done
      // Where no block is left, there may be an address.
      await under.done.catch((error) => {
        if (!isFault(error, 'exhausted')) throw error
      })
    }
    const done = this.#obtain(network, family, why).finally(() => network.asking.delete(family))
    network.asking.set(family, { why, done })
    return await done
  }

  async #obtain(network: NetworkStock, family: Family, why: Need): Promise<void> {
    await this.#own.looked
    const now = this.#clock.now()
    // The first look may have brought what is needed.
    if (why !== 'spare' && canTake(network.stock, family, now)) return
    const { name } = this.#node
    const full = network.full.get(family)
    if (full && full.until > now) throw this.#exhausted(network, full.problem)
    if ((network.scarce.get(family) ?? 0) <= now) {
      const pool = why === 'spare' ? inBlocks(network.pool) : network.pool
      if (await this.first(network, () => candidates(pool, family, name))) return
      if (why !== 'spare') network.scarce.set(family, this.#clock.now() + fullMs)
    }
    if (
      why === 'lease' &&
      lastSingleCount(network.pool, family) > 0n &&
      (await this.first(network, () => lastSingles(network.pool, family, name)))
    )
      return
    const problem = this.#fullProblem(network, family)
    if (why === 'lease') network.full.set(family, { until: this.#clock.now() + fullMs, problem })
    throw this.#exhausted(network, problem)
  }

  /** The first of some blocks that nobody has, now this node's. First without knowing which are taken, then knowing. */
  async first(
    network: NetworkStock,
    candidates: () => Iterable<Prefix>,
    holder?: string,
  ): Promise<Prefix | undefined> {
    for (const listed of [false, true]) {
      if (listed) await this.#listTaken(network)
      let tries = 0
      for (const prefix of candidates()) {
        const name = blockName(network.pool.group, prefix)
        if (this.#stocks.blocks.has(name) || network.taken.has(name)) continue
        if (!listed && tries++ === blindTries) break
        if (await this.create(network, prefix, holder)) return prefix
      }
    }
    return undefined
  }

  endpointOf({ network }: NetworkStock): string | undefined {
    return (network && this.#endpointOf(network)) || undefined
  }

  /** Whether the block is now this node's; false when another has it. */
  async create(network: NetworkStock, prefix: Prefix, holder?: string): Promise<boolean> {
    const [namespace = '', name = ''] = network.pool.network.split('/')
    const endpoint = this.endpointOf(network)
    const wanted = blockObject(namespace, {
      network: name,
      networkUID: network.pool.group,
      cidr: formatPrefix(prefix),
      node: this.#node.name,
      nodeUID: this.#node.uid,
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(holder === undefined ? {} : { holder }),
    })
    const asked = wanted.metadata.name
    this.#asked.set(asked, (this.#asked.get(asked) ?? 0) + 1)
    try {
      return await this.#create(network, wanted)
    } finally {
      const left = (this.#asked.get(asked) ?? 0) - 1
      if (left > 0) this.#asked.set(asked, left)
      else this.#asked.delete(asked)
    }
  }

  async #create(network: NetworkStock, wanted: AddressBlock): Promise<boolean> {
    const { namespace = '', name } = wanted.metadata
    let block: AddressBlock
    try {
      block = await this.#kube.create(resources.addressBlocks, wanted)
    } catch (error) {
      if (!isFault(error, 'exists')) {
        this.#unanswered.add(name)
        throw error
      }
      const there = await this.read(namespace, name)
      if (!there || !this.#isOurs(there, wanted.spec.holder)) {
        if (there) network.taken.add(name)
        return false
      }
      block = there
    }
    this.#unanswered.delete(name)
    await this.adopt(block, network)
    return true
  }

  /**
   * Whether the node may take a block that is there already: one that an earlier request made, though its answer was lost.
   * Another of this node's name was perhaps given back long ago, and is there again out of an older etcd: some other node
   * may have leased it meanwhile. What is kept for a holder is the holder's wherever it is.
   */
  #isOurs({ metadata, spec }: AddressBlock, holder: string | undefined): boolean {
    if (spec.nodeUID !== this.#node.uid || spec.holder !== holder) return false
    return holder !== undefined || this.#unanswered.has(metadata.name)
  }

  read(namespace: string, name: string): Promise<AddressBlock | undefined> {
    return found(this.#kube, resources.addressBlocks, { namespace, name })
  }

  /** Whether a request for the block is under way, so that it may be this node's without standing in its records yet. */
  isAskedFor(name: string): boolean {
    return this.#asked.has(name)
  }

  /** Makes a block that is the node's at the API server its own here: in the journal, then in memory. `returning`: to give it back. */
  async adopt(block: AddressBlock, network?: NetworkStock, returning = false): Promise<void> {
    const name = block.metadata.name
    const record = { ...recordOf(block, network?.uid), ...(returning ? { returning } : {}) }
    await this.#journal.put(keys.block(name), record)
    this.#stocks.addBlock(name, record, this.#clock.now())
  }

  async #listTaken(network: NetworkStock): Promise<void> {
    const [namespace] = network.pool.network.split('/')
    const { items } = await this.#kube.list(resources.addressBlocks, {
      namespace,
      labels: `${labels.network}=${network.pool.group}`,
    })
    network.taken = new Set()
    for (const block of items)
      if (block.spec.nodeUID !== this.#node.uid) network.taken.add(block.metadata.name)
  }

  #fullProblem(network: NetworkStock, family: Family): string {
    const now = this.#clock.now()
    const { size, held, resting, nextAt } = countStock(network.stock, family, now)
    const blocks = blockCount(network.pool, family)
    const singles = lastSingleCount(network.pool, family)
    const beside = singles > 0n ? `, and all ${singles} addresses that go out one by one` : ''
    const next = nextAt === undefined ? '' : `, the next is free at ${timeOfDay(nextAt)} UTC`
    return (
      `network ${network.pool.network} has no free IPv${family} address here: all ${blocks} of its blocks are leased to nodes${beside}, ` +
      `and of the ${size} addresses of this node's blocks ${held} are held and ${resting} rest${next}; ` +
      'append a subnet to spec.subnets, or delete pods that are not needed'
    )
  }

  #exhausted(network: NetworkStock, problem: string): Fault {
    return new Fault('exhausted', `lease an address of ${network.pool.network}`, problem)
  }

  /** The block and everything about it leaves the journal, then the memory. */
  async forget(name: string): Promise<void> {
    const changes = new Map<string, unknown>([[keys.block(name), undefined]])
    const rests = keys.rest(name, '')
    for (const key of this.#journal.entries().keys()) if (key.startsWith(rests)) changes.set(key, undefined)
    // Where the disk had no room for what came over from the boot before, that speaks of it still.
    const before = this.#journal.previousBoot.has(keys.block(name))
    await Promise.all([
      this.#journal.write(changes),
      before ? this.#journal.forgetPreviousBoot(keys.block(name)) : undefined,
    ])
    this.#stocks.removeBlock(name)
    this.forgotten.add(name)
    this.#unanswered.delete(name)
  }

  /**
   * Gives a block back: first nothing is leased from it any more, also after
   * a crash, then the API server forgets it, then the journal. False: the API
   * server is away, to be tried again.
   */
  giveBack(name: string): Promise<boolean> {
    return this.turns.take(name, () => this.#giveBack(name))
  }

  async #giveBack(name: string): Promise<boolean> {
    const record = this.#stocks.blocks.get(name)
    if (!record) return true
    const block = this.#stocks.stockOf(name)?.blocks.get(name)
    if (block && block.held.size > 0) return true
    if (block) block.apart = true
    try {
      if (record.nodeUID !== this.#node.uid || record.taken !== undefined) {
        await this.forget(name)
        return true
      }
      if (!record.returning) {
        const returning = { ...record, returning: true }
        await this.#journal.put(keys.block(name), returning)
        this.#stocks.blocks.set(name, returning)
      }
      await this.#delete(name, record)
      await this.forget(name)
      return true
    } catch (error) {
      this.#log.debug('give an address block back; trying again later', {
        block: name,
        fault: asFault(error, 'give it back').message,
      })
      return false
    }
  }

  async #delete(name: string, record: BlockRecord): Promise<void> {
    const ref = { namespace: record.namespace, name }
    try {
      if (record.holder === undefined) {
        try {
          return await this.#kube.delete(resources.addressBlocks, ref, { uid: record.uid })
        } catch (error) {
          // Made anew meanwhile, by a request of the agent before.
          if (!isFault(error, 'conflict')) throw error
        }
      }
      // One that is kept for somebody may have moved to another node meanwhile.
      const there = await this.#kube.get(resources.addressBlocks, ref)
      if (there.spec.nodeUID !== this.#node.uid) return
      const { uid, resourceVersion } = there.metadata
      await this.#kube.delete(resources.addressBlocks, ref, { uid, resourceVersion })
    } catch (error) {
      if (!isFault(error, 'missing')) throw error
    }
  }

  /**
   * Tells the API server where packets to the network's blocks go now, if
   * that has changed. Rejects when it does not answer, or when a block is
   * changed meanwhile, to be tried again.
   */
  async freshenEndpoint(network: NetworkStock, endpoint: string | undefined): Promise<void> {
    for (const name of [...network.stock.blocks.keys()])
      if (this.#isStale(name, endpoint)) await this.turns.take(name, () => this.#freshen(name, endpoint))
  }

  #isStale(name: string, endpoint: string | undefined): boolean {
    const record = this.#stocks.blocks.get(name)
    if (record?.nodeUID !== this.#node.uid || record.taken !== undefined) return false
    return !record.returning && record.endpoint !== endpoint
  }

  async #freshen(name: string, endpoint: string | undefined): Promise<void> {
    const record = this.#stocks.blocks.get(name)
    if (!record || !this.#isStale(name, endpoint)) return
    const ref = { namespace: record.namespace, name }
    const there = await this.read(record.namespace, name)
    // One that is kept for somebody may have moved to another node meanwhile.
    if (there?.spec.nodeUID === this.#node.uid) {
      const { uid, resourceVersion } = there.metadata
      await this.#kube.patch(resources.addressBlocks, ref, {
        type: 'merge',
        body: { metadata: { uid, resourceVersion }, spec: { endpoint: endpoint ?? null } },
      })
    }
    const changed: BlockRecord = { ...record, endpoint }
    await this.#journal.put(keys.block(name), changed)
    this.#stocks.blocks.set(name, changed)
  }
}

const timeOfDay = (ms: number): string => new Date(ms).toISOString().slice(11, 19)
