import type { Address, Family, Prefix } from '../lib/ip.ts'
import { contains } from '../lib/ip.ts'
import { countOf, holds, type Interval, intervalOf, within } from './interval.ts'

/**
 * What one node has of one network: its blocks, who holds which address of
 * them, and which rest until when. A plain value; the functions below change
 * it in place and need neither a clock nor the size of a block.
 */
export interface Stock {
  /** By name, in the order in which they came: earlier ones are used up first. */
  blocks: Map<string, Block>
}

export interface Block {
  name: string
  prefix: Prefix
  /** What pods may have of it. */
  usable: Interval[]
  /** How many that are. */
  size: number
  /** Only for leases by value: kept for a holder, on its way back, or not ours any more. */
  apart: boolean
  /** Address to owner. */
  held: Map<bigint, string>
  /** Address to the time from which it may be used again, in that order. */
  resting: Map<bigint, number>
  /** Those that have rested, the longest first. */
  rested: Set<bigint>
  /** Taken and given back unused: free at once. */
  unused: bigint[]
  /** Since when, or from when on, nobody needs it; says nothing while somebody holds something. */
  idleFrom: number
  /** Everything usable before this was taken at least once. */
  next: { interval: number; value: bigint }
}

export const emptyStock = (): Stock => ({ blocks: new Map() })

export function addBlock(
  stock: Stock,
  name: string,
  prefix: Prefix,
  usable: Interval[],
  { now, apart = false }: { now: number; apart?: boolean },
): Block {
  const known = stock.blocks.get(name)
  if (known) return known
  const block: Block = {
    name,
    prefix,
    usable: [],
    size: 0,
    apart,
    held: new Map(),
    resting: new Map(),
    rested: new Set(),
    unused: [],
    idleFrom: now,
    next: { interval: 0, value: 0n },
  }
  setUsable(block, usable)
  stock.blocks.set(name, block)
  return block
}

/** Takes over what the network now allows; who holds something else keeps it until released. */
export function setUsable(block: Block, usable: Interval[]): void {
  block.usable = within(usable, intervalOf(block.prefix))
  block.size = Number(countOf(block.usable))
  block.next = { interval: 0, value: block.usable[0]?.first ?? 0n }
  // The cursor meets them again.
  block.unused = []
}

export const blockOf = (stock: Stock, address: Address): Block | undefined => {
  for (const block of stock.blocks.values()) if (contains(block.prefix, address)) return block
  return undefined
}

/** An address that nobody holds and that does not rest; `owner` holds it from now on. Undefined: there is none. */
export function take(stock: Stock, family: Family, owner: string, now: number): Address | undefined {
  for (const block of stock.blocks.values()) {
    if (block.apart || block.prefix.family !== family) continue
    const value = givenBack(block) ?? fresh(block) ?? longestRested(block, now)
    if (value === undefined) continue
    block.held.set(value, owner)
    return { family, value }
  }
  return undefined
}

/** Whether `take` would find an address. */
export function canTake(stock: Stock, family: Family, now: number): boolean {
  const address = take(stock, family, '', now)
  if (address) untake(stock, address)
  return address !== undefined
}

/** Lets `owner` hold this very address, resting or not. False: somebody else holds it, or the node has no block of it. */
export function takeThis(stock: Stock, address: Address, owner: string): boolean {
  const block = blockOf(stock, address)
  if (!block || (block.held.get(address.value) ?? owner) !== owner) return false
  block.resting.delete(address.value)
  block.rested.delete(address.value)
  block.held.set(address.value, owner)
  return true
}

/** Takes an address back that nobody ever used: it need not rest. */
export function untake(stock: Stock, address: Address): void {
  const block = blockOf(stock, address)
  if (block?.held.delete(address.value)) block.unused.push(address.value)
}

/** Takes an address back; it rests until then. */
export function rest(stock: Stock, address: Address, until: number): void {
  const block = blockOf(stock, address)
  if (!block) return
  block.held.delete(address.value)
  block.resting.delete(address.value)
  block.resting.set(address.value, until)
  if (until > block.idleFrom) block.idleFrom = until
}

const isFresh = (block: Block, value: bigint): boolean =>
  !block.held.has(value) && !block.resting.has(value) && !block.rested.has(value)

function givenBack(block: Block): bigint | undefined {
  for (;;) {
    const value = block.unused.pop()
    if (value === undefined || (isFresh(block, value) && holds(block.usable, value))) return value
  }
}

function fresh(block: Block): bigint | undefined {
  const { next, usable } = block
  for (;;) {
    const interval = usable[next.interval]
    if (!interval) return undefined
    if (next.value > interval.last) {
      next.interval++
      next.value = usable[next.interval]?.first ?? 0n
      continue
    }
    const value = next.value++
    if (isFresh(block, value)) return value
  }
}

function longestRested(block: Block, now: number): bigint | undefined {
  wake(block, now)
  for (const value of block.rested) {
    block.rested.delete(value)
    if (holds(block.usable, value)) return value
  }
  return undefined
}

/** Moves what has rested by now out of `resting`. */
export function wake(block: Block, now: number): void {
  for (const [value, until] of block.resting) {
    if (until > now) return
    block.resting.delete(value)
    block.rested.add(value)
  }
}

export interface Count {
  /** Of a family, in blocks that anyone may lease from. */
  size: number
  held: number
  resting: number
  /** When the next address has rested, if any rests. */
  nextAt?: number
}

export function countStock(stock: Stock, family: Family, now: number): Count {
  const count: Count = { size: 0, held: 0, resting: 0 }
  for (const block of stock.blocks.values()) {
    if (block.apart || block.prefix.family !== family) continue
    wake(block, now)
    count.size += block.size
    count.held += block.held.size
    count.resting += block.resting.size
    const first = block.resting.values().next().value
    if (first !== undefined && (count.nextAt === undefined || first < count.nextAt)) count.nextAt = first
  }
  return count
}
