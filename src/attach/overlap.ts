import { isDefaultNetwork, isRendered, type Network } from '../api/network.ts'
import { contains, formatPrefix, lastOf, overlaps, type Prefix, parsePrefix } from '../lib/ip.ts'

/**
 * What the network overlaps that is older than it: another network that may
 * be someone's eth0, in words.
 */
export function overlapOf(network: Network, networks: Network[]): string | undefined {
  if (isDefaultNetwork(network)) return undefined
  for (const other of networks) {
    if (other.metadata.uid === network.metadata.uid) continue
    if (!isDefaultNetwork(other) && !older(other, network)) continue
    if (subnetsOverlap(network, other)) return `Network ${other.metadata.namespace}/${other.metadata.name}`
  }
  return undefined
}

/** Whether the two share an address: the two lists are walked side by side, since there are many networks to compare. */
export function subnetsOverlap(one: Network, other: Network): boolean {
  const [a, b] = [spansOf(one), spansOf(other)]
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [left, right] = [a[i]!, b[j]!]
    if (left.last < right.first) i++
    else if (right.last < left.first) j++
    else return true
  }
  return false
}

/** Where networks have their addresses; everything else is somebody's on the internet (RFC 1918, RFC 6598, RFC 4193). */
const privateRanges = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(
  (text) => parsePrefix(text) as Prefix,
)

/**
 * What else the network's subnets overlap, in words: `taken`, prefixes and
 * what they are, or the internet. The host has routes to the pods of networks
 * that overlap nothing, so a tenant's subnet must not lead the node's own
 * traffic into her network. Networks that the host has no routes to overlap
 * nothing.
 */
export function overlapWith(network: Network, taken: ReadonlyMap<string, string>): string | undefined {
  if (isDefaultNetwork(network) || network.spec.topology === 'Direct' || !isRendered(network))
    return undefined
  for (const subnet of prefixesOf(network)) {
    for (const [text, what] of taken) {
      const prefix = parsePrefix(text)
      if (prefix && overlaps(prefix, subnet)) return `${what} (${text})`
    }
    if (!privateRanges.some((range) => contains(range, subnet)))
      return `addresses of the internet (${formatPrefix(subnet)})`
  }
  return undefined
}

function older({ metadata: a }: Network, { metadata: b }: Network): boolean {
  const [first = '', second = ''] = [a.creationTimestamp, b.creationTimestamp]
  return first === second ? (a.uid ?? '') < (b.uid ?? '') : first < second
}

interface Span {
  first: bigint
  last: bigint
}

/** The network's addresses from the lowest to the highest, IPv6 behind IPv4. Read once for each object: every ADD compares its networks with all others. */
function spansOf(n: Network): Span[] {
  const known = spans.get(n)
  if (known) return known
  const found: Span[] = []
  const all = prefixesOf(n).map(spanOf)
  for (const span of all.sort((a, b) => (a.first < b.first ? -1 : 1))) {
    const before = found.at(-1)
    if (!before || before.last < span.first) found.push(span)
    else if (span.last > before.last) before.last = span.last
  }
  spans.set(n, found)
  return found
}

const spans = new WeakMap<Network, Span[]>()

function spanOf(prefix: Prefix): Span {
  const behind = prefix.family === 4 ? 0n : 1n << 128n
  return { first: behind + prefix.value, last: behind + lastOf(prefix).value }
}

const prefixesOf = (n: Network): Prefix[] => (n.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr) ?? [])
