import type { Network } from '../../api/network.ts'
import { emptyPool, type Pool, poolOf, subnetOf } from '../../ipam/pool.ts'
import type { Owner } from '../../ipam/port.ts'
import { addBlock, type Block, emptyStock, rest, type Stock, setUsable, takeThis } from '../../ipam/stock.ts'
import { type Family, type Prefix, parseAddress, parsePrefix, withoutLength } from '../../lib/ip.ts'
import { type BlockRecord, type LeaseRecord, ownerKey, type Records } from './records.ts'

/** What a block is for: a lease that waits for it, one that is expected, or later ones. */
export type Need = 'lease' | 'prepare' | 'spare'

/** One network, as this node knows it. */
export interface NetworkStock {
  uid: string
  stock: Stock
  /** Empty until the network is named by somebody: until then its blocks only stand in the records. */
  pool: Pool
  network?: Network
  /** Block requests under way: who comes meanwhile waits for the same. */
  asking: Map<Family, { why: Need; done: Promise<void> }>
  /** Names of blocks that other nodes were seen to have. */
  taken: Set<string>
  /** No use in asking for a block before then: all were leased. */
  scarce: Map<Family, number>
  /** No use in asking for anything before then, and what to say meanwhile. */
  full: Map<Family, { until: number; problem: string }>
}

/** Everything the node holds, in memory: what the records say, arranged for quick answers. */
export class Stocks {
  readonly blocks = new Map<string, BlockRecord>()
  /** By key. */
  readonly leases = new Map<string, LeaseRecord>()
  readonly #byOwner = new Map<string, Set<string>>()
  readonly #networks = new Map<string, NetworkStock>()
  readonly #nodeUID: string

  constructor(records: Records, nodeUID: string, now: number) {
    this.#nodeUID = nodeUID
    for (const [name, record] of records.blocks) this.addBlock(name, record, now)
    for (const { block, address, until } of records.rests) {
      const stock = this.stockOf(block)
      const parsed = parseAddress(address)
      if (stock && parsed) rest(stock, parsed, until)
    }
    for (const [key, lease] of records.leases) {
      this.addLease(key, lease)
      for (const { address } of lease.addresses) {
        const parsed = parseAddress(withoutLength(address))
        if (parsed) takeThis(this.of(lease.networkUID).stock, parsed, key)
      }
    }
  }

  of(uid: string): NetworkStock {
    let known = this.#networks.get(uid)
    if (!known) {
      known = {
        uid,
        stock: emptyStock(),
        pool: emptyPool,
        asking: new Map(),
        taken: new Set(),
        scarce: new Map(),
        full: new Map(),
      }
      this.#networks.set(uid, known)
    }
    return known
  }

  all(): Iterable<NetworkStock> {
    return this.#networks.values()
  }

  /** The network's stock, in step with what its subnets say now. */
  see(network: Network): NetworkStock {
    const known = this.of(network.metadata.uid ?? '')
    if (known.network === network) return known
    const before = known.network
    known.network = network
    if (before && subnetsText(before) === subnetsText(network)) return known
    known.pool = poolOf(network)
    known.scarce.clear()
    known.full.clear()
    for (const block of known.stock.blocks.values()) setUsable(block, usableIn(known.pool, block.prefix))
    return known
  }

  addBlock(name: string, record: BlockRecord, now: number): Block | undefined {
    const prefix = parsePrefix(record.cidr)
    if (!prefix) return undefined
    this.blocks.set(name, record)
    const { stock, pool } = this.of(record.pool ?? record.networkUID)
    const apart =
      record.holder !== undefined ||
      record.returning === true ||
      record.taken !== undefined ||
      record.nodeUID !== this.#nodeUID
    const block = addBlock(stock, name, prefix, usableIn(pool, prefix), { now, apart })
    block.apart = apart
    return block
  }

  removeBlock(name: string): void {
    this.stockOf(name)?.blocks.delete(name)
    this.blocks.delete(name)
  }

  /** The stock that a block belongs to. */
  stockOf(name: string): Stock | undefined {
    const record = this.blocks.get(name)
    return record && this.of(record.pool ?? record.networkUID).stock
  }

  addLease(key: string, lease: LeaseRecord): void {
    this.leases.set(key, lease)
    const owner = ownerKey(lease.owner)
    const theirs = this.#byOwner.get(owner) ?? new Set()
    this.#byOwner.set(owner, theirs.add(key))
  }

  removeLease(key: string): void {
    const lease = this.leases.get(key)
    if (!lease) return
    this.leases.delete(key)
    const owner = ownerKey(lease.owner)
    const theirs = this.#byOwner.get(owner)
    theirs?.delete(key)
    if (theirs?.size === 0) this.#byOwner.delete(owner)
  }

  /** By key. */
  leasesOf(owner: Pick<Owner, 'containerID' | 'interface'>): [string, LeaseRecord][] {
    return [...(this.#byOwner.get(ownerKey(owner)) ?? [])].flatMap((key) => {
      const lease = this.leases.get(key)
      return lease ? [[key, lease] as [string, LeaseRecord]] : []
    })
  }
}

const usableIn = (pool: Pool, prefix: Prefix) => subnetOf(pool, prefix)?.usable ?? []

const subnetsText = ({ spec }: Network): string =>
  JSON.stringify([spec.subnets, spec.blockSize, spec.topology])
