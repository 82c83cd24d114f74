import type { Chain, Element, Rule, Table } from './ruleset.ts'
import { firstVni } from './uplink.ts'
import type { NetworkView } from './view.ts'

/** What arrives at a tunnel's port is judged by the guard. */
export const tunnelled: Rule = {
  do: [
    { match: 'meta l4proto', is: 'udp' },
    { lookup: ['th dport'], in: 'tunnel-ports' },
    { verdict: { jump: 'tunnelled' } },
  ],
}

/** Where the default network is Polynet's, the chain of its ports asks first: each chain costs all packets. */
const arriving: Chain = {
  name: 'tunnels-arriving',
  base: { type: 'filter', hook: 'prerouting', priority: -310, policy: 'accept' },
  rules: [tunnelled],
}

/**
 * The host's table that keeps tunnels to those who may speak through them: a
 * tunnel packet is taken only through the right NIC and from another node's
 * tunnel address, a pod's packet to a tunnel port goes nowhere, and none of
 * them is tracked (a tunnel would double the entries of the host's conntrack
 * table, which namespaces share). Other identifiers than networks', on a port that
 * is shared with others' devices, are let be. Without it a pod's UDP, translated to its
 * node's address, arrives inside another tenant's network.
 */
export function tunnelGuard(networks: NetworkView[]): Table[] {
  if (networks.length === 0) return []
  const ports = new Set<number>()
  const v4 = new Map<string, Element>()
  const v6 = new Map<string, Element>()
  for (const view of networks) {
    // Its port may be another program's now.
    if (view.severed) continue
    ports.add(view.wire.tunnelPort)
    for (const [key, element] of peersOf(view)) (isIPv6(element) ? v6 : v4).set(key, element)
  }
  const sorted = (set: Map<string, Element>): Element[] =>
    [...set].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, element]) => element)
  return [
    {
      family: 'inet',
      name: 'polynet',
      sets: [
        {
          name: 'tunnel-ports',
          key: ['th dport'],
          elements: [...ports].sort((a, b) => a - b).map((p) => ({ key: [p] })),
        },
        { name: 'tunnel-peers', key: ['iifname', 'ip saddr', 'th dport'], elements: sorted(v4) },
        { name: 'tunnel-peers6', key: ['iifname', 'ip6 saddr', 'th dport'], elements: sorted(v6) },
      ],
      chains: [
        ...(networks.some(({ place }) => place === 'host') ? [] : [arriving]),
        {
          name: 'tunnels-leaving',
          base: { type: 'filter', hook: 'output', priority: -310, policy: 'accept' },
          rules: [
            {
              do: [
                { match: 'meta l4proto', is: 'udp' },
                { lookup: ['th dport'], in: 'tunnel-ports' },
                { notrack: true },
              ],
            },
          ],
        },
        {
          name: 'tunnelled',
          rules: [
            // Somebody else's, on a port that both use. A packet too short to say is held to be ours.
            {
              comment: 'no identifier of ours',
              do: [{ match: '@th,96,16', is: others }, { verdict: 'return' }],
            },
            {
              do: [
                { lookup: ['iifname', 'ip saddr', 'th dport'], in: 'tunnel-peers' },
                { notrack: true },
                { verdict: 'accept' },
              ],
            },
            {
              do: [
                { lookup: ['iifname', 'ip6 saddr', 'th dport'], in: 'tunnel-peers6' },
                { notrack: true },
                { verdict: 'accept' },
              ],
            },
            { comment: 'not a node of this wire', do: [{ counter: true }, { verdict: 'drop' }] },
          ],
        },
      ],
    },
  ]
}

/** The first bytes of the identifiers that no network gets. */
const others = Array.from({ length: firstVni >> 8 }, (_, i) => i)

/** Of one network; looked for once, because most of them have not changed when one has. */
function peersOf(view: NetworkView): Map<string, Element> {
  const known = peers.get(view)
  if (known) return known
  const { wire, remotes } = view
  const found = new Map<string, Element>()
  for (const { endpoint } of remotes)
    found.set(`${wire.nic} ${endpoint} ${wire.tunnelPort}`, { key: [wire.nic, endpoint, wire.tunnelPort] })
  peers.set(view, found)
  return found
}

const peers = new WeakMap<NetworkView, Map<string, Element>>()

const isIPv6 = ({ key }: Element): boolean => String(key[1]).includes(':')
