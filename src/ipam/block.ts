import { createHash } from 'node:crypto'
import type { AddressBlock } from '../api/address-block.ts'
import { apiVersionOf, type OwnerReference } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { type Address, bitsOf, type Family, type Prefix, parsePrefix } from '../lib/ip.ts'
import { countOf, type Interval, indexOf, intervalOf, merged, nth, within } from './interval.ts'
import { type Pool, type PoolSubnet, subnetOf } from './pool.ts'

/** Labels by which blocks are listed; what they say is in the spec too. */
export const labels = {
  network: 'polynet.dev/network-uid',
  node: 'polynet.dev/node-uid',
  holder: 'polynet.dev/holder',
} as const

/**
 * The name of a network's block: the network's identifier, the block's first
 * address in hex, its prefix length. Equal blocks have equal names, so the
 * API server refuses the second owner of one.
 */
export function blockName(networkUID: string, prefix: Prefix): string {
  const hex = prefix.value.toString(16).padStart(bitsOf(prefix.family) / 4, '0')
  return `${networkUID.toLowerCase()}-${hex}-${prefix.length}`
}

/** A holder as a label's value: at most 63 characters, whatever the holder's name. */
export const holderLabel = (holder: string): string =>
  createHash('sha256').update(holder).digest('hex').slice(0, 40)

/** The object of a block, as its node asks the API server for it. */
export function blockObject(namespace: string, spec: AddressBlock['spec']): AddressBlock {
  const prefix = parsePrefix(spec.cidr)
  if (!prefix) throw new TypeError(`${spec.cidr} is no prefix`)
  const marks: Record<string, string> = { [labels.network]: spec.networkUID, [labels.node]: spec.nodeUID }
  if (spec.holder !== undefined) marks[labels.holder] = holderLabel(spec.holder)
  return {
    apiVersion: apiVersionOf(resources.addressBlocks),
    kind: resources.addressBlocks.kind,
    metadata: {
      name: blockName(spec.networkUID, prefix),
      namespace,
      labels: marks,
      ...(isUID(spec.networkUID) ? { ownerReferences: [networkOf(spec)] } : {}),
    },
    spec,
  }
}

/** Whether it is what API servers give: pools that are no Networks have identifiers of another form. */
export const isUID = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)

/** A block goes with its network. */
const networkOf = ({ network, networkUID }: AddressBlock['spec']): OwnerReference => ({
  apiVersion: apiVersionOf(resources.networks),
  kind: resources.networks.kind,
  name: network,
  uid: networkUID,
})

/**
 * The blocks of a family that a node may try to lease, each exactly once,
 * subnet after subnet. Where it starts and in which steps it goes follows
 * from `seed` (the node's name), so that thousands of nodes seldom meet;
 * nothing is enumerated beyond what the caller takes.
 */
export function* candidates(pool: Pool, family: Family, seed: string): Generator<Prefix> {
  for (const subnet of pool.subnets)
    if (subnet.cidr.family === family) yield* scattered(subnet.shared, family, `${pool.uid} ${seed}`)
}

/**
 * The same for single addresses of the part that goes out one by one. Beside
 * an address of the other family it starts at the same place within its
 * part, so that both families of a holder read alike where they can.
 */
export function* singles(pool: Pool, family: Family, seed: string, beside?: Address): Generator<Prefix> {
  const other = beside && subnetOf(pool, beside)
  const place = other && beside && indexOf(singlesOf(other).usable, beside.value)
  for (const subnet of pool.subnets)
    if (subnet.cidr.family === family)
      yield* scattered(singlesOf(subnet), family, `${pool.uid} ${seed}`, place)
}

/**
 * Single addresses for a node that finds no block left: of the parts set
 * apart in subnets that go out in blocks. Elsewhere the addresses are the blocks.
 */
export const lastSingles = (pool: Pool, family: Family, seed: string): Generator<Prefix> =>
  singles(inBlocks(pool), family, seed)

/** The pool as far as its subnets go out in blocks of several addresses. */
export const inBlocks = (pool: Pool): Pool => ({
  ...pool,
  subnets: pool.subnets.filter((s) => s.shared.length < bitsOf(s.cidr.family)),
})

const singlesOf = (subnet: PoolSubnet) => ({
  length: bitsOf(subnet.cidr.family),
  usable: within(subnet.usable, intervalOf(subnet.single)),
})

/** How many blocks (or single addresses, where those are the blocks) of a family nodes may lease. */
export const blockCount = (pool: Pool, family: Family): bigint =>
  pool.subnets
    .filter((s) => s.cidr.family === family)
    .reduce((sum, s) => sum + countOf(placesOf(s.shared, family)), 0n)

/** How many addresses `lastSingles` has. */
export const lastSingleCount = (pool: Pool, family: Family): bigint =>
  inBlocks(pool)
    .subnets.filter((s) => s.cidr.family === family)
    .reduce((sum, s) => sum + countOf(singlesOf(s).usable), 0n)

function* scattered(
  { length, usable }: { length: number; usable: Interval[] },
  family: Family,
  seed: string,
  start?: bigint,
): Generator<Prefix> {
  const places = placesOf({ length, usable }, family)
  const count = countOf(places)
  if (count === 0n) return
  const hash = createHash('sha256').update(seed).digest('hex')
  let at = (start ?? BigInt(`0x${hash.slice(0, 32)}`)) % count
  const step = coprime(BigInt(`0x${hash.slice(32)}`) % count, count)
  const host = BigInt(bitsOf(family) - length)
  for (let i = 0n; i < count; i++) {
    yield { family, value: nth(places, at)! << host, length }
    at = (at + step) % count
  }
}

/** The numbers of the blocks of `length` in which something is usable. */
function placesOf({ length, usable }: { length: number; usable: Interval[] }, family: Family): Interval[] {
  const host = BigInt(bitsOf(family) - length)
  return merged(usable.map(({ first, last }) => ({ first: first >> host, last: last >> host })))
}

/** The first number from `start` upwards that has no divisor in common with `count`: stepping by it meets every place once. */
function coprime(start: bigint, count: bigint): bigint {
  let step = start === 0n ? 1n : start
  while (gcd(step, count) !== 1n) step++
  return step
}

function gcd(a: bigint, b: bigint): bigint {
  while (b !== 0n) [a, b] = [b, a % b]
  return a
}
