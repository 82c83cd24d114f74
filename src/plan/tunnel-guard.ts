import { parseAddress } from '../lib/ip.ts'
import type { Element, Table } from './ruleset.ts'
import type { NetworkView } from './view.ts'

/**
 * The host's table that keeps tunnels to those who may speak through them: a
 * tunnel packet is taken only through the right NIC and from another node's
 * tunnel address, a pod's packet to a tunnel port goes nowhere, and none of
 * them is tracked (a tunnel would double the entries of the host's conntrack
 * table, which namespaces share). Without it a pod's UDP, translated to its
 * node's address, arrives inside another tenant's network.
 */
export function tunnelGuard(networks: NetworkView[]): Table[] {
  if (networks.length === 0) return []
  const ports = new Set<number>()
  const v4 = new Map<string, Element>()
  const v6 = new Map<string, Element>()
  for (const { wire, remotes } of networks) {
    ports.add(wire.tunnelPort)
    for (const { endpoint } of remotes) {
      const set = parseAddress(endpoint)?.family === 6 ? v6 : v4
      set.set(`${wire.nic} ${endpoint} ${wire.tunnelPort}`, { key: [wire.nic, endpoint, wire.tunnelPort] })
    }
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
        {
          name: 'tunnels-arriving',
          base: { type: 'filter', hook: 'prerouting', priority: -310, policy: 'accept' },
          rules: [
            {
              do: [
                { match: 'meta l4proto', is: 'udp' },
                { lookup: ['th dport'], in: 'tunnel-ports' },
                { verdict: { jump: 'tunnelled' } },
              ],
            },
          ],
        },
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
