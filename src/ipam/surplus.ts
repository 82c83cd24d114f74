import { bitsOf, type Family } from '../lib/ip.ts'
import { type Block, type Stock, wake } from './stock.ts'

export interface Surplus {
  /** Names of blocks that the node no longer needs. */
  blocks: string[]
  /** When to look again, if nothing else happens. */
  next?: number
}

/**
 * The blocks of a stock that are to be given back. A single address is, as
 * soon as it has rested: others may be waiting for it. A block is when it was
 * idle for `idleMs`, and either no block of its family is in use here or the
 * others have half a block's worth of free addresses. One that is set apart
 * is, once it has rested, if `mayGo` says so.
 */
export function surplusOf(
  stock: Stock,
  now: number,
  idleMs: number,
  mayGo: (block: Block) => boolean,
): Surplus {
  const surplus: Surplus = { blocks: [] }
  const idle: Block[] = []
  for (const block of stock.blocks.values()) {
    wake(block, now)
    if (block.held.size > 0 || (block.apart && !mayGo(block))) continue
    const due = dueOf(block, idleMs)
    if (due > now) surplus.next = Math.min(surplus.next ?? due, due)
    else if (block.apart || isSingle(block)) surplus.blocks.push(block.name)
    else idle.push(block)
  }
  for (const family of [4, 6] as const) {
    const blocks = [...stock.blocks.values()].filter((b) => b.prefix.family === family && !b.apart)
    surplus.blocks.push(
      ...unneeded(
        blocks,
        idle.filter((b) => b.prefix.family === family),
      ),
    )
  }
  return surplus
}

function dueOf(block: Block, idleMs: number): number {
  const used = block.resting.size > 0 || block.rested.size > 0
  return block.apart || (isSingle(block) && used) ? block.idleFrom : block.idleFrom + idleMs
}

function unneeded(blocks: Block[], idle: Block[]): string[] {
  if (!blocks.some((b) => b.held.size > 0)) return idle.map((b) => b.name)
  let free = freeAmong(blocks)
  const names: string[] = []
  for (const block of idle.toReversed()) {
    if (free - block.size < block.size / 2) continue
    free -= block.size
    names.push(block.name)
  }
  return names
}

/** Whether the node should get one more block before it needs it: fewer than a quarter of a block is left in blocks of several addresses. */
export function isNearlyUsedUp(stock: Stock, family: Family, now: number): boolean {
  const blocks = [...stock.blocks.values()].filter(
    (block) => !block.apart && block.prefix.family === family && !isSingle(block),
  )
  const enough = Math.max(0, ...blocks.map(({ size }) => size)) / 4
  // Asked for each address that is leased, so those that rest are looked at only where it takes them.
  if (freeAmong(blocks) >= enough) return false
  for (const block of blocks) wake(block, now)
  return freeAmong(blocks) < enough
}

const freeAmong = (blocks: Block[]): number => blocks.reduce((sum, block) => sum + freeIn(block), 0)

const freeIn = (block: Block): number => block.size - block.held.size - block.resting.size

const isSingle = (block: Block): boolean => block.prefix.length === bitsOf(block.prefix.family)
