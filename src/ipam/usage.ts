import { bitsOf, contains, type Family, type Prefix } from '../lib/ip.ts'
import { blockCount, inBlocks, lastSingleCount } from './block.ts'
import { type Interval, intervalOf, within } from './interval.ts'
import { familiesOf, type Pool, subnetOf } from './pool.ts'

/** How much of a network's addresses of a family nodes have leased, and how much they may. */
export interface Usage {
  family: Family
  /** Whether all of its addresses go out one by one: those are the blocks then. */
  oneByOne: boolean
  blocks: { leased: bigint; all: bigint }
  /** Addresses beside them that go out one by one. */
  singles: { leased: bigint; all: bigint }
}

/** The usage of each family, IPv4 first, by what `leased` has of it; what pods may not have any more does not count. */
export function usageOf(pool: Pool, leased: Prefix[]): Usage[] {
  const usages = familiesOf(pool).map(
    (family): Usage => ({
      family,
      oneByOne: !inBlocks(pool).subnets.some((s) => s.cidr.family === family),
      blocks: { leased: 0n, all: blockCount(pool, family) },
      singles: { leased: 0n, all: lastSingleCount(pool, family) },
    }),
  )
  for (const prefix of new Map(leased.map((p) => [keyOf(p), p])).values()) {
    const usage = usages.find(({ family }) => family === prefix.family)
    const kind = kindOf(pool, prefix)
    if (usage && kind) usage[kind].leased++
  }
  return usages
}

const keyOf = ({ family, value, length }: Prefix): string => `${family} ${value}/${length}`

function kindOf(pool: Pool, prefix: Prefix): 'blocks' | 'singles' | undefined {
  const subnet = subnetOf(pool, prefix)
  if (!subnet) return undefined
  const isWithin = (usable: Interval[]) => within(usable, intervalOf(prefix)).length > 0
  const { shared, single, usable } = subnet
  if (prefix.length === shared.length) return isWithin(shared.usable) ? 'blocks' : undefined
  const isSingle = prefix.length === bitsOf(prefix.family) && contains(single, prefix)
  return isSingle && isWithin(usable) ? 'singles' : undefined
}
