import type { AddressBlock } from '../../api/address-block.ts'
import { resources } from '../../api/resources.ts'
import { blockObject, labels } from '../../ipam/block.ts'
import type { Owner } from '../../ipam/port.ts'
import type { Kube } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, Fault, isFault } from '../../lib/fault.ts'
import { withoutLength } from '../../lib/ip.ts'
import type { Log } from '../../lib/log.ts'
import { type Loop, startLoop } from '../../reconcile/loop.ts'
import type { Journal } from '../journal/journal.ts'
import { Turns } from '../turns.ts'
import type { Blocks } from './blocks.ts'
import { type BlockRecord, isKeptBlock, keys, type LeaseRecord, recordOf } from './records.ts'
import type { Stocks } from './stocks.ts'

/** When a second look at the node's blocks finds what a request of the agent before may have made late. */
const lateMs = 120_000
/** How often they are looked at from then on: some are in no watch's view. */
const readMs = 10 * 60_000
/** How long after a block was seen to change it is compared: by then the agent's own changes are in its records. */
const settleMs = 2000
/** The same where that block was made again a moment ago: somebody may delete it each time. */
const contestedMs = 30_000

export interface OwnBlocksDeps {
  kube: Kube
  journal: Journal
  stocks: Stocks
  blocks: Blocks
  node: { name: string; uid: string }
  clock: Clock
  log: Log
  /** Whether the node may have this block at all: it is still the same Node, and in service, and the network is there. */
  mayHave: (block: BlockRecord) => Promise<boolean>
  /** Tells who holds addresses in a block that another node has. */
  warn: (owner: Owner, message: string) => void
  /** Called when the API server may have shown blocks that nobody here asked for, or other endpoints than were told. */
  found: () => void
  signal: AbortSignal
}

/**
 * Keeps the node's records in step with what the API server has under the
 * node's UID, where that is not the node's own doing: the agent before asked
 * for it, somebody deleted it, or etcd was restored from an older snapshot. A
 * block that is gone is made again while pods hold addresses in it, and
 * forgotten otherwise. One that another node has by then stays that node's:
 * nothing is leased from it here, its pods are told, and it is taken back
 * only when the other has given it up, until the last of them is gone.
 */
export class OwnBlocks {
  readonly #deps: OwnBlocksDeps
  /** One comparison at a time. */
  readonly #turns = new Turns()
  /** As it was seen last, of blocks that may not be as the records say. */
  readonly #doubted = new Map<string, { block: AddressBlock; gone: boolean }>()
  readonly #loop: Loop
  #dueAt: number | undefined
  #forced = false
  /** When blocks were made again, by name. */
  readonly #madeAt = new Map<string, number>()
  /** The first look at what the API server has, well or ill ended. */
  readonly looked: Promise<void>

  constructor(deps: OwnBlocksDeps) {
    this.#deps = deps
    const { node, clock, log, signal } = deps
    this.#loop = startLoop({
      doing: `compare the address blocks of node ${node.name}`,
      round: () => this.#settle(),
      clock,
      log,
    })
    signal.addEventListener('abort', () => void this.#loop.close(), { once: true })
    this.looked = this.#look()
  }

  /** To be called when a block was seen to come, change or go. Compares soon, unless it is as the records say. */
  seen(block: AddressBlock, gone: boolean): void {
    if (!this.#isNews(block, gone)) {
      this.#doubted.delete(block.metadata.name)
      return
    }
    this.#doubted.set(block.metadata.name, { block, gone })
    const madeAt = this.#madeAt.get(block.metadata.name) ?? Number.NEGATIVE_INFINITY
    const isContested = gone && this.#deps.clock.now() - madeAt < 2 * contestedMs
    this.#compareIn(isContested ? contestedMs : settleMs)
  }

  /** To be called when the node may have blocks again that it could not have for a while. */
  doubt(): void {
    this.#forced = true
    this.#loop.wake()
  }

  #isNews({ metadata, spec }: AddressBlock, gone: boolean): boolean {
    const { stocks, blocks, node } = this.#deps
    const { name } = metadata
    const record = stocks.blocks.get(name)
    const ours = spec.nodeUID === node.uid
    if (!record) return !gone && ours && !blocks.isAskedFor(name)
    if (record.nodeUID !== node.uid || record.namespace !== metadata.namespace) return false
    if (record.taken !== undefined) return gone || ours
    if (gone) return !record.returning || this.#heldIn(name).length > 0
    return !ours || (!record.returning && spec.endpoint !== record.endpoint)
  }

  #compareIn(ms: number): void {
    const { clock, signal } = this.#deps
    const at = clock.now() + ms
    if (this.#dueAt !== undefined && this.#dueAt <= at) return
    this.#dueAt = at
    void clock.sleep(ms, signal).then(() => {
      if (this.#dueAt !== at || signal.aborted) return
      this.#dueAt = undefined
      this.#loop.wake()
    })
  }

  async #settle(): Promise<void> {
    const doubted = [...this.#doubted]
    const isNews = doubted.some(([, { block, gone }]) => this.#isNews(block, gone))
    if (isNews || this.#forced) await this.#compare(false)
    this.#forced = false
    for (const [name, seen] of doubted) if (this.#doubted.get(name) === seen) this.#doubted.delete(name)
  }

  async #look(): Promise<void> {
    const well = await this.#compared(true)
    void this.#lookAgain(well ? lateMs : 1000)
  }

  /** Until it has succeeded after `lateMs`: by then no request of the agent before can be on its way any more. Then now and again. */
  async #lookAgain(pauseMs: number, late = true): Promise<void> {
    const { clock, signal } = this.#deps
    await clock.sleep(pauseMs, signal)
    if (signal.aborted) return
    const well = await this.#compared(late)
    if (!well) void this.#lookAgain(Math.min(lateMs / 2, pauseMs * 2), late)
    else if (late && pauseMs < lateMs) void this.#lookAgain(lateMs)
    // Not all nodes at once.
    else void this.#lookAgain(readMs * (0.75 + Math.random() / 2), false)
  }

  async #compared(late: boolean): Promise<boolean> {
    try {
      await this.#compare(late)
      return true
    } catch (error) {
      this.#deps.log.debug('the API server does not say which address blocks this node has; asking again', {
        fault: asFault(error, 'list address blocks').message,
      })
      return false
    }
  }

  /** `late`: a block that nobody here knows was asked for by the agent before; else it is out of an older etcd, and given back. */
  #compare(late: boolean): Promise<void> {
    return this.#turns.take('', () => this.#compareNow(late))
  }

  async #compareNow(late: boolean): Promise<void> {
    const { kube, stocks, blocks, node, found } = this.#deps
    const before = new Map(stocks.blocks)
    blocks.forgotten.clear()
    const { items } = await kube.list(resources.addressBlocks, { labels: `${labels.node}=${node.uid}` })
    const there = new Map<string, AddressBlock>()
    for (const block of items) {
      if (block.spec.nodeUID !== node.uid) continue
      const { name, namespace } = block.metadata
      const record = stocks.blocks.get(name)
      if (record && record.namespace !== namespace) continue
      there.set(name, block)
      // What was given back meanwhile is still in the answer, and may be another node's by now.
      if (!record && !blocks.forgotten.has(name) && !blocks.isAskedFor(name))
        await blocks.adopt(block, undefined, !late && !isKeptBlock(block.spec))
    }
    for (const name of this.#madeAt.keys()) if (!before.has(name)) this.#madeAt.delete(name)
    const failed: unknown[] = []
    for (const [name, record] of before)
      try {
        await this.#keep(name, record, there.get(name))
      } catch (error) {
        failed.push(error)
      }
    found()
    if (failed.length > 0) throw failed[0]
  }

  async #keep(name: string, record: BlockRecord, block: AddressBlock | undefined): Promise<void> {
    if (!this.#isStill(name, record)) return
    const { blocks } = this.#deps
    const isOurs = block !== undefined && record.taken === undefined
    if (isOurs && (record.returning || block.spec.endpoint === record.endpoint)) return
    // Not while it is given back, or becomes a holder's.
    await blocks.turns.take(name, async () => {
      if (!this.#isStill(name, record)) return
      if (isOurs) await this.#put(name, recordOf(block, record.pool))
      else await this.#missing(name, record)
    })
  }

  /** Whether nothing happened to a block of this node since its record was looked at. */
  #isStill(name: string, record: BlockRecord): boolean {
    return record.nodeUID === this.#deps.node.uid && this.#deps.stocks.blocks.get(name) === record
  }

  /** A block that the API server does not have as this node's: forgotten, unless pods live in it. */
  async #missing(name: string, record: BlockRecord): Promise<void> {
    const { stocks, blocks, log, mayHave } = this.#deps
    const block = stocks.stockOf(name)?.blocks.get(name)
    if (!block || block.held.size === 0) {
      if (block) block.apart = true
      return blocks.forget(name)
    }
    if (!(await mayHave(record))) return
    const fields = { cidr: record.cidr, addresses: block.held.size }
    const ref = `${record.namespace}/${name}`
    const there = await this.#madeAgain(name, record)
    if (there.spec.nodeUID !== this.#deps.node.uid) return this.#taken(name, record, there)
    const returning = record.returning || record.taken !== undefined
    await this.#put(name, { ...recordOf(there, record.pool), ...(returning ? { returning } : {}) })
    this.#madeAt.set(name, this.#deps.clock.now())
    log.warn(`address block ${ref} was deleted while pods use it; made it again`, fields)
  }

  /** The block as the API server has it now, this node's where nobody else has it. */
  async #madeAgain(name: string, record: BlockRecord): Promise<AddressBlock> {
    const { kube, blocks, node } = this.#deps
    const { namespace, uid, returning, taken, pool, ...spec } = record
    try {
      return await kube.create(resources.addressBlocks, blockObject(namespace, { ...spec, node: node.name }))
    } catch (error) {
      if (!isFault(error, 'exists')) throw error
      const there = await blocks.read(namespace, name)
      if (there) return there
      throw new Fault('unavailable', `make address block ${namespace}/${name} again`, 'it comes and goes')
    }
  }

  /** Another node has it: nothing is leased from it here any more, and whoever lives in it is told. */
  async #taken(name: string, record: BlockRecord, { spec: { node: other } }: AddressBlock): Promise<void> {
    const { stocks, log, warn } = this.#deps
    const block = stocks.stockOf(name)?.blocks.get(name)
    if (block) block.apart = true
    if (record.taken !== other) {
      await this.#put(name, { ...record, taken: other })
      log.error(
        `address block ${record.namespace}/${name} is not this node's any more while pods use it; delete those pods, their addresses may be given to others`,
        { cidr: record.cidr, addresses: block?.held.size ?? 0, node: other },
      )
    }
    for (const { owner, network, addresses } of this.#heldIn(name)) {
      const texts = addresses.filter((a) => a.block === name).map((a) => withoutLength(a.address))
      warn(
        owner,
        `${texts.join(' and ')} of network ${network} may be given to another pod: its block ${record.cidr} is node ${other}'s by now; delete this pod, which gets another address when it is made again`,
      )
    }
  }

  #heldIn(name: string): LeaseRecord[] {
    const held = this.#deps.stocks.stockOf(name)?.blocks.get(name)?.held.values() ?? []
    return [...held].flatMap((key) => this.#deps.stocks.leases.get(key) ?? [])
  }

  async #put(name: string, record: BlockRecord): Promise<void> {
    await this.#deps.journal.put(keys.block(name), record)
    this.#deps.stocks.blocks.set(name, record)
  }
}
