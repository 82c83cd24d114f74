import type { AddressBlock } from '../../api/address-block.ts'
import type { Network } from '../../api/network.ts'
import { familiesOf, subnetOf, withLength } from '../../ipam/pool.ts'
import type { Addresses, Ask, Lease, LeasedAddress, Owner } from '../../ipam/port.ts'
import { blockOf, rest, take, untake } from '../../ipam/stock.ts'
import { isNearlyUsedUp, surplusOf } from '../../ipam/surplus.ts'
import type { Kube } from '../../kube/port.ts'
import { type Clock, onwards } from '../../lib/clock.ts'
import { asFault, Fault, isFault } from '../../lib/fault.ts'
import { type Address, type Family, formatAddress, parseAddress, withoutLength } from '../../lib/ip.ts'
import type { Log } from '../../lib/log.ts'
import type { Journal } from '../journal/journal.ts'
import { Turns } from '../turns.ts'
import { Blocks } from './blocks.ts'
import { Holders } from './holders.ts'
import {
  type BlockRecord,
  carryOver,
  isKeptBlock,
  keys,
  type LeaseRecord,
  ours,
  ownerKey,
} from './records.ts'
import { type Need, type NetworkStock, Stocks } from './stocks.ts'

export { holdingsOf } from './records.ts'

export interface AddressDeps {
  kube: Kube
  journal: Journal
  node: { name: string; uid: string }
  clock: Clock
  log: Log
  /** How long a released address is given to nobody. */
  restMs?: number
  /** How long a block stays that nobody uses. */
  idleMs?: number
  /** The node's tunnel address on the network's wire, for the network's blocks; undefined or empty: it has none. */
  endpointOf?: (network: Network) => string | undefined
  /** Whether a block of this node can be made again: it is the same Node and in service, and the network is there. Absent: always. */
  mayHave?: (block: Pick<BlockRecord, 'namespace' | 'network' | 'networkUID'>) => Promise<boolean>
  /** Tells who holds an address that another node may give to somebody, or one that is not kept though it should be. */
  warn?: (owner: Owner, message: string, reason?: 'AddressTaken' | 'AddressNotKept') => void
  /** Called when the API server may say other endpoints of the node's blocks than it was told. */
  doubtful?: () => void
}

/** After a failed return of a block, or a failed request for a spare one. */
const againMs = 30_000

/**
 * The addresses of one node, out of its journal and the blocks it has leased
 * from the API server. A journal that another Node's UID wrote gives no
 * address any more; what is held of it can only be released.
 */
export function nodeAddresses(deps: AddressDeps): NodeAddresses {
  return new NodeAddresses(deps)
}

export class NodeAddresses implements Addresses {
  readonly #journal: Journal
  readonly #clock: Clock
  readonly #log: Log
  readonly #node: { name: string; uid: string }
  readonly #restMs: number
  readonly #idleMs: number
  readonly #stocks: Stocks
  readonly #blocks: Blocks
  readonly #holders: Holders
  readonly #warn: NonNullable<AddressDeps['warn']>
  readonly #turns = new Turns()
  /** When not to ask for a spare block, by network. */
  readonly #notAhead = new Map<NetworkStock, number>()
  #stranger: string | undefined
  /** The tidying that sleeps, until then. */
  #tidying: { until: number; wake: AbortController } | undefined
  #retryAt = new Map<string, number>()
  #closed = false

  constructor(deps: AddressDeps) {
    const { kube, journal, node, log, restMs = 60_000, idleMs = 300_000, endpointOf } = deps
    const clock = onwards(deps.clock)
    this.#journal = journal
    this.#clock = clock
    this.#log = log
    this.#node = node
    this.#warn = deps.warn ?? (() => {})
    this.#restMs = restMs
    this.#idleMs = idleMs
    const { records, changes } = carryOver(journal, clock.now() + restMs)
    changes.set(keys.node, node)
    // Ahead of every other change, so that it is there whenever one of those is; and never carried over again.
    void Promise.all([journal.write(changes), journal.forgetPreviousBoot(ours)]).catch((error) =>
      log.error(asFault(error, 'carry addresses over from before the boot').message),
    )
    this.#stocks = new Stocks(records, node.uid, clock.now())
    const shared = { kube, journal, stocks: this.#stocks, node, clock, log }
    this.#blocks = new Blocks({
      ...shared,
      endpointOf: endpointOf ?? (() => undefined),
      mayHave: async (block) => this.#stranger === undefined && ((await deps.mayHave?.(block)) ?? true),
      warn: this.#warn,
      found: () => {
        this.#tidySoon()
        deps.doubtful?.()
      },
    })
    this.#holders = new Holders({ ...shared, blocks: this.#blocks })
    this.#tidySoon()
  }

  /** The UID that the node's Node has now: under another one than at the start nothing is leased any more. */
  nodeIs(uid: string | undefined): void {
    const before = this.#stranger
    this.#stranger = uid === this.#node.uid ? undefined : (uid ?? '')
    if (before !== undefined && this.#stranger === undefined) this.#blocks.doubt()
  }

  /** To be called when a block was seen to come, change or go: what is not this node's own doing is compared with its records. */
  blockSeen(block: AddressBlock, gone: boolean): void {
    this.#blocks.seen(block, gone)
  }

  async prepare(network: Network): Promise<void> {
    const known = this.#see(network)
    const now = this.#clock.now()
    const lacking = familiesOf(known.pool).filter((family) => {
      const address = take(known.stock, family, '', now)
      if (address) untake(known.stock, address)
      return !address
    })
    await all(lacking.map((family) => this.#obtain(known, family, 'prepare')))
    await this.#blocks.freshenEndpoint(known, this.#blocks.endpointOf(known))
  }

  /**
   * Has the API server say that packets to the node's blocks of this network
   * go to `endpoint`, by which the kernel takes them now. Does nothing where
   * it says so. Rejects when it cannot be told, to be tried again.
   */
  async reachedAt(network: Network, endpoint: string): Promise<void> {
    await this.#blocks.freshenEndpoint(this.#see(network), endpoint || undefined)
  }

  lease(ask: Ask): Promise<Lease> {
    return this.#turns.take(ownerKey(ask.owner), () => this.#lease(ask))
  }

  async #lease(ask: Ask): Promise<Lease> {
    const network = this.#see(ask.network)
    const key = keys.lease(ask.owner, network.uid)
    const before = this.#stocks.leases.get(key)
    if (before) return leaseOf(before)
    this.#refuseStranger(ask)
    const addresses =
      ask.ips || ask.holder !== undefined
        ? await this.#takeHeld(network, key, ask)
        : await this.#takeAny(network, key, ask)
    try {
      const record = this.#recordOf(network, ask, addresses)
      await this.#journal.write(this.#changesFor(key, record))
      this.#stocks.addLease(key, record)
      return leaseOf(record)
    } catch (error) {
      for (const address of addresses) untake(network.stock, address)
      this.#tidySoon()
      throw error
    } finally {
      this.#lookAhead(network)
    }
  }

  /** What was asked for by value or is the holder's; of families that nothing can be kept of, any address. */
  async #takeHeld(network: NetworkStock, key: string, ask: Ask): Promise<Address[]> {
    const { addresses, lacking } = await this.#holders.take(network, ask, key)
    if (lacking.length === 0) return addresses
    try {
      const others = await this.#takeAny(network, key, ask, lacking)
      const texts = others.map(formatAddress).join(' and ')
      this.#warn(
        ask.owner,
        `${texts} of network ${network.pool.network} will not be kept for the pod's next one, as those of StatefulSets are: all that are set apart for that are taken; append a subnet to spec.subnets, or delete StatefulSets and claims that are not needed`,
        'AddressNotKept',
      )
      return [...addresses, ...others].sort((a, b) => a.family - b.family)
    } catch (error) {
      for (const address of addresses) untake(network.stock, address)
      throw error
    }
  }

  /** One address per family, or none at all. */
  async #takeAny(
    network: NetworkStock,
    key: string,
    ask: Ask,
    families = familiesOf(network.pool),
  ): Promise<Address[]> {
    const taken: Address[] = []
    let lacking = families
    try {
      for (;;) {
        lacking = lacking.filter((family) => {
          const address = take(network.stock, family, key, this.#clock.now())
          if (address) taken.push(address)
          return !address
        })
        if (lacking.length === 0) return taken.sort((a, b) => a.family - b.family)
        await all(lacking.map((family) => this.#obtain(network, family, 'lease')))
      }
    } catch (error) {
      for (const address of taken) untake(network.stock, address)
      this.#tidySoon()
      throw this.#withoutBlock(error, ask)
    }
  }

  #obtain(network: NetworkStock, family: Family, why: Need): Promise<void> {
    return this.#blocks.obtain(network, family, why).finally(() => this.#tidySoon())
  }

  #withoutBlock(error: unknown, { owner, network }: Ask): unknown {
    if (!isFault(error, 'unavailable')) return error
    const name = `${network.metadata.namespace}/${network.metadata.name}`
    return new Fault(
      'unavailable',
      `lease an address of ${name} for pod ${owner.pod}`,
      `node ${this.#node.name} needs another block of it and cannot get one now (${error.message}); it is tried again with the pod`,
      error,
    )
  }

  release(owner: Owner): Promise<void> {
    return this.#turns.take(ownerKey(owner), async () => {
      const leases = this.#stocks.leasesOf(owner)
      if (leases.length === 0) return
      const until = this.#clock.now() + this.#restMs
      const changes = new Map<string, unknown>()
      for (const [key, lease] of leases) {
        changes.set(key, undefined)
        for (const { address, block } of lease.addresses)
          if (this.#stocks.blocks.has(block)) changes.set(keys.rest(block, withoutLength(address)), until)
      }
      await this.#journal.write(changes)
      for (const [key, lease] of leases) {
        this.#stocks.removeLease(key)
        const { stock } = this.#stocks.of(lease.networkUID)
        for (const { address } of lease.addresses) {
          const parsed = parseAddress(withoutLength(address))
          if (parsed) rest(stock, parsed, until)
        }
      }
      this.#tidySoon()
    })
  }

  owners(): Owner[] {
    const owners = new Map([...this.#stocks.leases.values()].map(({ owner }) => [ownerKey(owner), owner]))
    return [...owners.values()]
  }

  /** Whether an address of the interface is kept for a holder that may come to another node: a claim, a StatefulSet's pod. */
  isKept(containerID: string, name: string): boolean {
    return this.#stocks
      .leasesOf({ containerID, interface: name })
      .some(([, { addresses }]) => addresses.some(({ block }) => isKeptBlock(this.#stocks.blocks.get(block))))
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#blocks.close()
    this.#tidying?.wake.abort()
    await this.#turns.over()
  }

  #see(network: Network): NetworkStock {
    if (network.metadata.uid) return this.#stocks.see(network)
    throw new Fault(
      'invalid',
      'lease an address',
      `network ${network.metadata.name} has no UID; it was never created`,
    )
  }

  #refuseStranger({ owner }: Ask): void {
    if (this.#stranger === undefined) return
    throw new Fault(
      'unavailable',
      `lease an address for pod ${owner.pod}`,
      `node ${this.#node.name} ${this.#stranger === '' ? 'has no Node any more' : 'was registered anew'}, and its blocks go to others; drain it and restart its agent`,
    )
  }

  #recordOf(network: NetworkStock, { owner, network: { metadata } }: Ask, addresses: Address[]): LeaseRecord {
    return {
      owner,
      network: `${metadata.namespace}/${metadata.name}`,
      networkUID: network.uid,
      addresses: addresses.map((address) => {
        const subnet = subnetOf(network.pool, address)
        return {
          address: subnet ? withLength(subnet, address) : formatAddress(address),
          ...(subnet?.gateway ? { gateway: formatAddress(subnet.gateway) } : {}),
          block: blockOf(network.stock, address)?.name ?? '',
        }
      }),
    }
  }

  #changesFor(key: string, record: LeaseRecord): Map<string, unknown> {
    const changes = new Map<string, unknown>([[key, record]])
    for (const { address, block } of record.addresses) {
      const resting = keys.rest(block, withoutLength(address))
      if (this.#journal.get(resting) !== undefined) changes.set(resting, undefined)
    }
    return changes
  }

  /** Gets one more block in the background when the last is nearly used up. */
  #lookAhead(network: NetworkStock): void {
    const now = this.#clock.now()
    for (const family of familiesOf(network.pool)) {
      if (network.asking.has(family) || !isNearlyUsedUp(network.stock, family, now)) continue
      if ((this.#notAhead.get(network) ?? 0) > now) continue
      this.#obtain(network, family, 'spare').catch((error) => {
        this.#notAhead.set(network, this.#clock.now() + againMs)
        this.#log.debug('get a block ahead of need; trying again later', { fault: String(error) })
      })
    }
  }

  /** Has surplus blocks given back when they are due; sleeps as long as nothing is. */
  #tidySoon(): void {
    if (this.#closed) return
    const { next } = this.#surplus()
    if (next === undefined || (this.#tidying && this.#tidying.until <= next)) return
    this.#tidying?.wake.abort()
    const wake = new AbortController()
    this.#tidying = { until: next, wake }
    void this.#clock.sleep(Math.max(0, next - this.#clock.now()), wake.signal).then(async () => {
      if (wake.signal.aborted || this.#closed) return
      await this.#tidy()
      this.#tidying = undefined
      this.#tidySoon()
    })
  }

  async #tidy(): Promise<void> {
    for (const name of this.#surplus().due) {
      if (await this.#blocks.giveBack(name)) this.#retryAt.delete(name)
      else this.#retryAt.set(name, this.#clock.now() + againMs)
    }
  }

  /** What is to be given back now, and when to look again. */
  #surplus(): { due: string[]; next?: number } {
    const now = this.#clock.now()
    const due: string[] = []
    let next: number | undefined
    for (const { stock } of this.#stocks.all()) {
      const surplus = surplusOf(stock, now, this.#idleMs, ({ name }) => this.#mayGo(name))
      for (const name of surplus.blocks) {
        const again = this.#retryAt.get(name) ?? now
        if (again <= now) due.push(name)
        next = Math.min(next ?? again, again)
      }
      if (surplus.next !== undefined) next = Math.min(next ?? surplus.next, surplus.next)
    }
    return { due, next }
  }

  /** Of blocks set apart: those on their way back, not ours any more, or kept for a pod that is gone from here. */
  #mayGo(name: string): boolean {
    const record = this.#stocks.blocks.get(name)
    return (
      record?.returning === true ||
      record?.nodeUID !== this.#node.uid ||
      record.taken !== undefined ||
      record.holder?.startsWith('pod ') === true
    )
  }
}

function leaseOf({ addresses }: LeaseRecord): Lease {
  return {
    addresses: addresses.map(
      ({ address, gateway }): LeasedAddress => ({ address, ...(gateway === undefined ? {} : { gateway }) }),
    ),
  }
}

/** Waits for all, then throws the first failure. */
async function all(promises: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises))
    if (result.status === 'rejected') throw result.reason
}
