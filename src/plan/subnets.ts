import { type Family, parsePrefix } from '../lib/ip.ts'
import type { Element } from './ruleset.ts'
import type { NetworkView } from './view.ts'

/** The network's subnets of one family, as elements of an interval set. */
export const subnetsOf = (view: NetworkView, family: Family): Element[] =>
  (view.network.spec.subnets ?? [])
    .map((s) => s.cidr)
    .filter((cidr) => parsePrefix(cidr)?.family === family)
    .sort()
    .map((cidr) => ({ key: [cidr] }))
