import type { Chain, Field, NftSet, Rule } from './ruleset.ts'

/**
 * How many connections a pod may open in a second, and at once after a pause:
 * the table that tracks them is one for the whole machine.
 */
export const newConnections = { perSecond: 1000, burst: 2000 } as const

/** What holds pods to it: `pod` is the field that tells them apart, `from` what is to be held at all. */
export function ceiling(from: Rule['do'], pod: Field): { sets: NftSet[]; chains: Chain[] } {
  const limitOver = { rate: newConnections.perSecond, per: 'second' as const, burst: newConnections.burst }
  return {
    sets: [{ name: 'openers', key: [pod], dynamic: { timeoutS: 10, size: 65535 }, elements: [] }],
    chains: [
      {
        name: 'ceiling',
        base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
        rules: [
          {
            comment: 'too many new connections',
            do: [
              ...from,
              { match: 'ct state', is: 'new' },
              { update: 'openers', key: [pod], limitOver },
              { counter: true },
              { verdict: 'drop' },
            ],
          },
        ],
      },
    ],
  }
}
