import { isDefaultNetwork, isRendered, type Network } from '../api/network.ts'
import { contains, formatPrefix, overlaps, type Prefix, parsePrefix } from '../lib/ip.ts'

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

/** Whether the two share an address. */
export const subnetsOverlap = (one: Network, other: Network): boolean =>
  prefixesOf(one).some((a) => prefixesOf(other).some((b) => overlaps(a, b)))

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

/** Read once for each object: every ADD compares its networks with all others. */
function prefixesOf(n: Network): Prefix[] {
  const prefixes = readBefore.get(n) ?? (n.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr) ?? [])
  readBefore.set(n, prefixes)
  return prefixes
}

const readBefore = new WeakMap<Network, Prefix[]>()
