import type { Family } from '../lib/ip.ts'
import type { Element, Table } from './ruleset.ts'
import { subnetsOf } from './subnets.ts'
import type { NetworkView } from './view.ts'

/** Never translated: whoever listens to a group wants to know who speaks. */
const groups = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const

/**
 * How pods of the default network leave the cluster: under their node's
 * address, since nobody outside has a route to theirs. Among themselves they
 * keep their own, and so they do towards services, which are pods by the time
 * this is asked.
 */
export function outwards(view: NetworkView): Pick<Table, 'sets' | 'chains'> {
  const inside = (family: Family): Element[] => {
    const subnets = subnetsOf(view, family)
    return subnets.length === 0 ? [] : [...subnets, { key: [groups[family]] }]
  }
  return {
    sets: [
      { name: 'pods', key: ['ip saddr'], interval: true, elements: subnetsOf(view, 4) },
      { name: 'pods6', key: ['ip6 saddr'], interval: true, elements: subnetsOf(view, 6) },
      { name: 'inside', key: ['ip daddr'], interval: true, elements: inside(4) },
      { name: 'inside6', key: ['ip6 daddr'], interval: true, elements: inside(6) },
    ],
    chains: [
      {
        name: 'outwards',
        base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
        rules: [
          {
            do: [
              { lookup: ['ip saddr'], in: 'pods' },
              { lookup: ['ip daddr'], notIn: 'inside' },
              { masquerade: true },
            ],
          },
          {
            do: [
              { lookup: ['ip6 saddr'], in: 'pods6' },
              { lookup: ['ip6 daddr'], notIn: 'inside6' },
              { masquerade: true },
            ],
          },
        ],
      },
    ],
  }
}
