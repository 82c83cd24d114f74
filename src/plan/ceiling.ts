import { type Chain, type Field, type NftSet, type Rule, type Statement, share, shares } from './ruleset.ts'

/**
 * How many connections a pod may open in a second, and at once after a pause:
 * the table that tracks them is one for the whole machine.
 */
export const newConnections = { perSecond: 1000, burst: 2000 } as const

/**
 * How many connections that a pod opened may be tracked at a time. They are
 * counted in shares, since the kernel walks through a share's list for each
 * connection that comes to it.
 */
export const openConnections = { perShare: 312, inAll: 312 * shares } as const

/** What holds pods to it: `pod` is the field that tells them apart, `from` what is to be held at all. */
export function ceiling(from: Rule['do'], pod: Field): { sets: NftSet[]; chains: Chain[] } {
  const limitOver = { rate: newConnections.perSecond, per: 'second' as const, burst: newConnections.burst }
  // Not `ct state new`, which all packets are that nobody answers.
  const first: Statement = { match: 'ct status', not: 'confirmed' }
  const dropped: Statement[] = [{ counter: true }, { verdict: 'drop' }]
  return {
    sets: [
      { name: 'openers', key: [pod], dynamic: { timeoutS: 10, size: 65535 }, elements: [] },
      { name: 'held', key: [pod, share], dynamic: { size: 65535 }, elements: [] },
    ],
    chains: [
      {
        name: 'ceiling',
        // Chains of type nat are asked for the first packet of a connection alone, so all others pay nothing.
        base: { type: 'nat', hook: 'prerouting', priority: -150, policy: 'accept' },
        rules: [
          {
            comment: 'too many new connections',
            do: [...from, first, { update: 'openers', key: [pod], limitOver }, ...dropped],
          },
          {
            comment: 'too many open connections',
            do: [
              ...from,
              first,
              { add: 'held', key: [pod, share], countOver: openConnections.perShare },
              ...dropped,
            ],
          },
        ],
      },
    ],
  }
}
