import { blockSizeOf, type Network, type Subnet } from '../api/network.ts'
import {
  type Address,
  bitsOf,
  contains,
  type Family,
  formatAddress,
  formatPrefix,
  lastOf,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts'
import { holds, type Interval, intervalOf, merged, within, without } from './interval.ts'

/**
 * What a network's subnets mean for who may have which address.
 *
 * A subnet is cut by its cidr and the block size alone, which never change:
 * the last sixteenth goes out one by one (addresses asked for by value and
 * sticky ones), the rest in blocks. A subnet of fewer than sixteen blocks, or
 * of blocks of one, goes out one by one altogether. So no single address ever lies in a block
 * of another name. Ranges, exclusions and the gateway, which may change, only
 * take addresses away.
 */
export interface Pool {
  /** `<namespace>/<name>`. */
  network: string
  uid: string
  /** What its blocks are named after, so that they exclude each other: its own UID, or a group's. */
  group: string
  subnets: PoolSubnet[]
}

/**
 * Addresses for another plugin, in the shape of a Network. It is no object of
 * the API server, whose objects therefore cannot join a group.
 */
export interface ForeignPool extends Network {
  /** Pools of one group have no address in common, though their ranges overlap; each gives addresses one by one. */
  addressGroup?: string
}

export interface PoolSubnet {
  cidr: Prefix
  gateway?: Address
  /** What pods may have, ascending. */
  usable: Interval[]
  /** The part that goes out one by one; all of the cidr where it is small. */
  single: Prefix
  /** Where a pod that asks for nothing in particular gets its address: the blocks of this length that hold `usable` ones. */
  shared: { length: number; usable: Interval[] }
}

export const emptyPool: Pool = { network: '', uid: '', group: '', subnets: [] }

/** Blocks per subnet below which it goes out one by one: as log2, and so also the share of `single`. */
const fewBlocks = 4

export function poolOf(network: ForeignPool): Pool {
  const subnets = (network.spec.subnets ?? []).flatMap((subnet) => {
    const cidr = parsePrefix(subnet.cidr)
    const length = cidr && blockSizeOf(network, cidr.family)
    return cidr && length !== undefined ? [poolSubnet(network, subnet, cidr, length)] : []
  })
  return {
    network: `${network.metadata.namespace}/${network.metadata.name}`,
    uid: network.metadata.uid ?? '',
    group: network.addressGroup ?? network.metadata.uid ?? '',
    subnets,
  }
}

function poolSubnet(network: Network, subnet: Subnet, cidr: Prefix, blockLength: number): PoolSubnet {
  const gateway = gatewayOf(network, subnet, cidr)
  const usable = usableOf(subnet, cidr, gateway)
  const single = singleOf(cidr, blockLength)
  const rest = without(usable, [intervalOf(single)])
  return {
    cidr,
    gateway,
    usable,
    single,
    shared:
      rest.length > 0
        ? { length: blockLength, usable: rest }
        : { length: bitsOf(cidr.family), usable: within(usable, intervalOf(single)) },
  }
}

function singleOf(cidr: Prefix, blockLength: number): Prefix {
  if (blockLength === bitsOf(cidr.family) || blockLength - cidr.length < fewBlocks) return cidr
  const length = cidr.length + fewBlocks
  const last = lastOf(cidr).value
  const host = BigInt(bitsOf(cidr.family) - length)
  return { family: cidr.family, value: (last >> host) << host, length }
}

/**
 * Whether the network is leased to nodes in blocks of which `prefix` is one.
 * No two of them overlap, so whoever has one takes nothing from another.
 */
export const isBlock = (network: Pick<Network, 'spec'>, prefix: Prefix): boolean =>
  (network.spec.subnets ?? []).some((subnet) => {
    const cidr = parsePrefix(subnet.cidr)
    const length = blockSizeOf(network, prefix.family)
    if (!cidr || length === undefined || !contains(cidr, prefix)) return false
    const single = singleOf(cidr, length)
    return prefix.length === bitsOf(prefix.family)
      ? contains(single, prefix)
      : prefix.length === length && !overlaps(single, prefix)
  })

/** The subnet's gateway: the one it names, else its first address where pods share a link that needs one. */
export function gatewayOf(network: Network, subnet: Subnet, cidr: Prefix): Address | undefined {
  if (subnet.gateway !== undefined) return parseAddress(subnet.gateway)
  if ((network.spec.topology ?? 'Layer3') === 'Layer3') return undefined
  if (bitsOf(cidr.family) - cidr.length < 2) return undefined
  return { family: cidr.family, value: cidr.value + 1n }
}

function usableOf(subnet: Subnet, cidr: Prefix, gateway: Address | undefined): Interval[] {
  const all = intervalOf(cidr)
  const ranges = (subnet.ranges ?? []).flatMap(({ start, end }) => {
    const [first, last] = [parseAddress(start), parseAddress(end)]
    return first?.family === cidr.family && last?.family === cidr.family
      ? [{ first: first.value, last: last.value }]
      : []
  })
  const excluded = (subnet.exclude ?? []).flatMap((text) => {
    const hole = parsePrefix(text.includes('/') ? text : `${text}/${bitsOf(cidr.family)}`)
    return hole?.family === cidr.family ? [intervalOf(hole)] : []
  })
  const never = neverOf(cidr)
  if (gateway) never.push({ first: gateway.value, last: gateway.value })
  const allowed = subnet.ranges?.length ? merged(ranges).flatMap((r) => within([r], all)) : [all]
  return without(allowed, [...excluded, ...never])
}

/**
 * IPv4: the network's own and the broadcast address, except in a /31 (RFC
 * 3021) and /32. IPv6: the routers' anycast address, which is the first (RFC
 * 4291 section 2.6.1), except in a /127 (RFC 6164) and /128.
 */
function neverOf(cidr: Prefix): Interval[] {
  if (bitsOf(cidr.family) - cidr.length < 2) return []
  const last = lastOf(cidr).value
  const first = { first: cidr.value, last: cidr.value }
  return cidr.family === 4 ? [first, { first: last, last }] : [first]
}

/** IPv4 first. */
export const familiesOf = (pool: Pool): Family[] =>
  ([4, 6] as const).filter((family) => pool.subnets.some((s) => s.cidr.family === family))

export const subnetOf = (pool: Pool, inside: Address | Prefix): PoolSubnet | undefined =>
  pool.subnets.find((s) => contains(s.cidr, inside))

/** `10.1.0.7/16`: an address as its interface carries it. */
export const withLength = (subnet: PoolSubnet, address: Address): string =>
  `${formatAddress(address)}/${subnet.cidr.length}`

/** The address that `text` (with or without prefix length) asks for by value, or why the pool cannot give it. */
export function askedFor(
  pool: Pool,
  text: string,
): { ok: true; address: Address; subnet: PoolSubnet } | { ok: false; problem: string } {
  const [plain = '', length] = text.split('/', 2)
  const address = parseAddress(plain)
  if (!address || (length !== undefined && !parsePrefix(text)))
    return { ok: false, problem: `"${text.slice(0, 64)}" is no address; write it like 10.1.240.7` }
  const subnet = subnetOf(pool, address)
  const shown = formatAddress(address)
  if (!subnet)
    return {
      ok: false,
      problem: `${shown} is in no subnet of it; its subnets are ${pool.subnets.map((s) => formatPrefix(s.cidr)).join(' and ') || 'none'}`,
    }
  if (
    length !== undefined &&
    Number(length) !== subnet.cidr.length &&
    Number(length) !== bitsOf(address.family)
  )
    return {
      ok: false,
      problem: `${text} has another prefix length than its subnet ${formatPrefix(subnet.cidr)}; write ${withLength(subnet, address)} or leave it out`,
    }
  if (!holds(subnet.usable, address.value))
    return {
      ok: false,
      problem: `${shown} is not for pods: it is outside the ranges, excluded, or the gateway's, the network's or the broadcast address; ${remedyOf(subnet)}`,
    }
  if (!contains(subnet.single, address))
    return { ok: false, problem: `${shown} goes out in blocks to nodes; ${remedyOf(subnet)}` }
  return { ok: true, address, subnet }
}

function remedyOf(subnet: PoolSubnet): string {
  const single = within(subnet.usable, intervalOf(subnet.single))
  const { family } = subnet.cidr
  const [from, to] = [single[0]?.first, single.at(-1)?.last]
  if (from === undefined || to === undefined)
    return `addresses asked for by value come from ${formatPrefix(subnet.single)}, of which the ranges leave none: widen them`
  return `ask for one between ${formatAddress({ family, value: from })} and ${formatAddress({ family, value: to })}`
}
