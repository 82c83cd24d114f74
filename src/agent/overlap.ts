import type { Network } from '../api/network.ts'
import { overlaps, type Prefix, parsePrefix } from '../lib/ip.ts'

/** The cluster's default network: rendered in the host's namespace. */
export const defaultNetwork = { namespace: 'polynet-system', name: 'default' } as const

export const isDefaultNetwork = (n: Network): boolean =>
  n.metadata.namespace === defaultNetwork.namespace && n.metadata.name === defaultNetwork.name

/**
 * What the network overlaps that is older than it: another network that may
 * be someone's eth0, in words.
 */
export function overlapOf(network: Network, networks: Network[]): string | undefined {
  if (isDefaultNetwork(network)) return undefined
  for (const other of networks) {
    if (other.metadata.uid === network.metadata.uid) continue
    if (!isDefaultNetwork(other) && !older(other, network)) continue
    if (prefixesOf(network).some((a) => prefixesOf(other).some((b) => overlaps(a, b))))
      return `Network ${other.metadata.namespace}/${other.metadata.name}`
  }
  return undefined
}

const older = (a: Network, b: Network): boolean =>
  `${a.metadata.creationTimestamp} ${a.metadata.uid}` < `${b.metadata.creationTimestamp} ${b.metadata.uid}`

/** Read once for each object: every ADD compares its networks with all others. */
function prefixesOf(n: Network): Prefix[] {
  const prefixes = readBefore.get(n) ?? (n.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr) ?? [])
  readBefore.set(n, prefixes)
  return prefixes
}

const readBefore = new WeakMap<Network, Prefix[]>()
