import type { Problem } from '../lib/fault.ts'
import {
  type Address,
  bitsOf,
  contains,
  formatAddress,
  lastOf,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts'
import type { Subnet, Topology } from './network.ts'

/** What is wrong with a network's subnets, whose texts are known to be addresses and prefixes; there may be holes. */
export const subnetProblems = (subnets: readonly Subnet[], topology?: Topology): Problem[] =>
  subnets.flatMap((subnet, i) => {
    const cidr = parsePrefix(subnet.cidr)!
    const at = `spec.subnets[${i}]`
    const ofCidr = cidrProblems(cidr, subnet, at, subnets.slice(0, i))
    if (ofCidr.length > 0) return ofCidr
    const ofParts = [
      ...gatewayProblems(cidr, subnet, at),
      ...rangeProblems(cidr, subnet, at),
      ...excludeProblems(cidr, subnet, at),
    ]
    if (ofParts.length > 0 || usable(subnet, topology) > 0n) return ofParts
    return [{ path: at, problem: 'no address is left for pods; widen cidr or ranges, or exclude less' }]
  })

/** Prefixes that mean something else on every machine. */
const reserved: [cidr: string, meaning: string][] = [
  ['0.0.0.0/8', 'this host'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['::/96', 'loopback'],
  ['::ffff:0:0/96', 'IPv4 in IPv6'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
]

function cidrProblems(cidr: Prefix, subnet: Subnet, at: string, before: readonly Subnet[]): Problem[] {
  const found: Problem[] = []
  const say = (problem: string) => void found.push({ path: `${at}.cidr`, problem })
  const smallest = bitsOf(cidr.family) - 2
  if (cidr.length > smallest) say(`${subnet.cidr} is too small; the smallest is a /${smallest}`)
  for (const [other, meaning] of reserved)
    if (overlaps(cidr, parsePrefix(other)!))
      say(`${subnet.cidr} overlaps ${other} (${meaning}); use another prefix`)
  before.forEach((other, i) => {
    if (other.cidr !== subnet.cidr && overlaps(cidr, parsePrefix(other.cidr)!))
      say(`${subnet.cidr} overlaps spec.subnets[${i}] ${other.cidr}; use prefixes that share no address`)
  })
  return found
}

function gatewayProblems(cidr: Prefix, { gateway }: Subnet, at: string): Problem[] {
  if (gateway === undefined) return []
  const address = parseAddress(gateway)!
  const say = (problem: string) => [{ path: `${at}.gateway`, problem }]
  if (!contains(cidr, address)) return say(outside(gateway, at, cidr))
  if (address.value === cidr.value)
    return say(`${gateway} is the address of the network itself; use ${second(cidr)}`)
  if (isBroadcast(cidr, address))
    return say(`${gateway} is the broadcast address of the network; use ${second(cidr)}`)
  return []
}

function rangeProblems(cidr: Prefix, { ranges = [] }: Subnet, at: string): Problem[] {
  const found: Problem[] = []
  ranges.forEach(({ start, end }, i) => {
    const path = `${at}.ranges[${i}]`
    const [first, last] = [parseAddress(start)!, parseAddress(end)!]
    if (!contains(cidr, first)) found.push({ path: `${path}.start`, problem: outside(start, at, cidr) })
    if (!contains(cidr, last)) found.push({ path: `${path}.end`, problem: outside(end, at, cidr) })
    if (first.family === last.family && first.value > last.value)
      found.push({ path, problem: `start ${start} is above end ${end}; exchange them` })
  })
  return found
}

const excludeProblems = (cidr: Prefix, { exclude = [] }: Subnet, at: string): Problem[] =>
  exclude.flatMap((text, i) =>
    contains(cidr, parsePrefix(text) ?? parseAddress(text)!)
      ? []
      : [{ path: `${at}.exclude[${i}]`, problem: outside(text, at, cidr) }],
  )

const outside = (text: string, at: string, cidr: Prefix): string =>
  `${text} is not within ${at}.cidr ${formatAddress(cidr)}/${cidr.length}; correct one of them`

const second = (cidr: Prefix): string => formatAddress({ family: cidr.family, value: cidr.value + 1n })

const isBroadcast = (cidr: Prefix, address: Address): boolean =>
  cidr.family === 4 && address.value === lastOf(cidr).value

/**
 * How many addresses of a valid subnet pods can get: its ranges without what
 * is excluded, without the gateway (the first address where none is named and
 * pods share a link that needs one), the network's own and the broadcast
 * address.
 */
function usable(subnet: Subnet, topology: Topology = 'Layer3'): bigint {
  const cidr = parsePrefix(subnet.cidr)!
  const last = lastOf(cidr).value
  const gateway = subnet.gateway ?? (topology === 'Layer3' ? undefined : second(cidr))
  const spans = subnet.ranges?.length
    ? subnet.ranges.flatMap((r) => [{ from: parseAddress(r.start)!.value, to: parseAddress(r.end)!.value }])
    : [{ from: cidr.value, to: last }]
  const taken = [
    { from: cidr.value, to: cidr.value },
    ...(cidr.family === 4 ? [{ from: last, to: last }] : []),
    ...(subnet.exclude ?? []).flatMap((text) => [spanOf(text)]),
    ...(gateway ? [spanOf(gateway)] : []),
  ]
  return sizeOfAll([...spans, ...taken]) - sizeOfAll(taken)
}

interface Span {
  from: bigint
  to: bigint
}

function spanOf(text: string): Span {
  const prefix = parsePrefix(text)
  const from = (prefix ?? parseAddress(text)!).value
  return { from, to: prefix ? lastOf(prefix).value : from }
}

/** How many values lie in at least one span. */
function sizeOfAll(spans: readonly Span[]): bigint {
  let size = 0n
  let next = 0n
  for (const { from, to } of [...spans].sort((a, b) => (a.from < b.from ? -1 : 1))) {
    const start = from > next ? from : next
    if (to < start) continue
    size += to - start + 1n
    next = to + 1n
  }
  return size
}
