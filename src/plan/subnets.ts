import { contains, type Family, formatPrefix, type Prefix, parsePrefix } from '../lib/ip.ts'
import type { Element } from './ruleset.ts'
import type { NetworkView } from './view.ts'

/**
 * The network's subnets of one family, as elements of an interval set, which
 * takes none that lies in another: where webhooks do not look (a system's
 * namespace) such a one can be appended, and never be taken away.
 */
export const subnetsOf = (view: NetworkView, family: Family): Element[] => {
  const all = (view.network.spec.subnets ?? [])
    .flatMap(({ cidr }) => parsePrefix(cidr) ?? [])
    .filter((prefix) => prefix.family === family)
  const widest = all.filter((prefix) => !all.some((other) => isWithin(prefix, other)))
  return [...new Set(widest.map(formatPrefix))].sort().map((cidr) => ({ key: [cidr] }))
}

const isWithin = (prefix: Prefix, other: Prefix): boolean =>
  other.length < prefix.length && contains(other, prefix)
