import { familyOf, hostPrefixOf, leastMtu } from '../lib/ip.ts'
import { gatewayMac } from '../lib/mac.ts'
import { ceiling } from './ceiling.ts'
import { gateway, portName, tunnelName, tunnelTo } from './names.ts'
import type { Forwarding, NamespacePlan, Neighbour, PortElement, PortPlan, Route } from './node-plan.ts'
import { outwards } from './outwards.ts'
import { macOfPort, podPort, podRouting } from './pod-port.ts'
import type { Rule, Statement, Table } from './ruleset.ts'
import { mtuOf, netnsOf, routable, tunnelOf } from './tunnel.ts'
import { tunnelled } from './tunnel-guard.ts'
import { uplinkWithin } from './uplink.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/**
 * A routed network on one node: every pod behind a /32 or /128, every other
 * node behind one permanent neighbour and one forwarding entry, every block
 * of addresses behind one route. Nothing is resolved, flooded or learned, so
 * the neighbour table that all namespaces share cannot be filled.
 */
export function planLayer3(view: NetworkView): NamespacePlan {
  const remotes = routable(view)
  const endpoints = [...new Set(remotes.map((r) => r.endpoint))].sort()
  /** By endpoint, which often holds several blocks. */
  const hops = new Map<string, string>()
  const neighbours: Neighbour[] = []
  const forwarding: Forwarding[] = []
  for (const endpoint of endpoints) {
    const tunnel = tunnelTo(endpoint)
    const hop = tunnel && hopTo(endpoint, tunnel.linkLocal, mtuOf(view.network))
    if (!hop) continue
    hops.set(endpoint, hop)
    neighbours.push({ link: tunnelName, address: hop, mac: tunnel.mac })
    forwarding.push({ link: tunnelName, mac: tunnel.mac, endpoint })
  }
  const own = view.place === 'own'
  const up = uplinkWithin(view)
  const table = own ? (up.links.length > 0 ? tables.own : tables.alone) : tables.host
  const out = own ? { sets: [], chains: [] } : outwards(view)
  return {
    netns: netnsOf(view),
    sysctls: {
      'ipv4/ip_forward': '1',
      'ipv6/conf/all/forwarding': '1',
      // What the host's own interfaces do is the host's business.
      ...(own ? { 'ipv4/conf/all/send_redirects': '0', 'ipv4/conf/default/send_redirects': '0' } : {}),
    },
    links: [...(own ? [{ kind: 'existing' as const, name: 'lo' }] : []), ...tunnelOf(view), ...up.links],
    // Answers pings of the gateway, and is the source of ICMP errors.
    addresses: [...(own ? [{ link: 'lo', address: `${gateway.ipv4}/32` }] : []), ...up.addresses],
    routes: [
      ...remotes.flatMap(({ cidr, endpoint }): Route[] => {
        const via = hops.get(endpoint)
        return via === undefined ? [] : [{ to: cidr, link: tunnelName, via }]
      }),
      ...up.routes,
    ],
    neighbours,
    forwarding,
    tables: [
      {
        ...table,
        sets: [...table.sets, ...up.sets, ...out.sets],
        chains: [...table.chains, ...up.chains, ...out.chains],
      },
    ],
  }
}

/**
 * What stands for a node behind the tunnel, for both families: its link-local address there. A link whose MTU is too
 * small for IPv6 has none, and takes none for a neighbour: there the node's own address does, unless that is of IPv6.
 */
function hopTo(endpoint: string, linkLocal: string, mtu: number): string | undefined {
  if (mtu >= leastMtu[6]) return linkLocal
  return familyOf(endpoint) === 4 ? endpoint : undefined
}

export function planLayer3Port(view: NetworkView, held: HeldAttachment): PortPlan {
  const { head, addresses, sources, families, sysctls } = podPort(view, held)
  const link = portName(head.key)
  const mac = macOfPort(held, addresses)
  const inside: Neighbour[] = []
  if (families.has(4)) inside.push({ link: held.interface, address: gateway.ipv4, mac: gatewayMac })
  if (families.has(6)) inside.push({ link: held.interface, address: gateway.ipv6, mac: gatewayMac })
  return {
    ...head,
    netns: netnsOf(view),
    link: { kind: 'veth', name: link, mac: gatewayMac, noarp: true },
    inside: {
      netns: held.netns,
      name: held.interface,
      mac,
      mtu: mtuOf(view.network),
      addresses: addresses.map(hostPrefixOf),
      ...podRouting(view.network, held, families, (family) => (family === 4 ? gateway.ipv4 : gateway.ipv6)),
      neighbours: inside,
      sysctls,
      tables: [],
    },
    routes: addresses.map((address) => ({ to: hostPrefixOf(address), link })),
    neighbours: addresses.map((address) => ({ link, address, mac })),
    forwarding: [],
    elements: [
      { family: 'inet', set: 'links', key: [link] },
      ...sources.map(
        (address): PortElement => ({
          family: 'inet',
          set: familyOf(address) === 4 ? 'ports' : 'ports6',
          key: [link, mac, address],
        }),
      ),
    ],
  }
}

const limit = ceiling([{ lookup: ['iifname'], in: 'links' }], 'iifname')

const fromPort: Statement = { lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' }
const fromPort6: Statement = { lookup: ['iifname', 'ether saddr', 'ip6 saddr'], in: 'ports6' }
const toOwn: Statement = { lookup: ['ip daddr'], in: 'own' }
const toOwn6: Statement = { lookup: ['ip6 daddr'], in: 'own6' }
const fromTunnel: Statement = { match: 'iifname', is: tunnelName }
const accept: Statement = { verdict: 'accept' }
const untracked: Statement = { notrack: true }

/**
 * What a port may send: its own MAC with its own addresses. Everything else
 * from a port is dropped and counted. `own`: the table has the sets of the
 * network's own addresses; what goes to those is not tracked, since the table
 * of connections is one for all namespaces. `first` is asked before. The rules that most packets meet
 * come first, and a chain costs each packet as much as a rule.
 */
const portTable = (own: boolean, first: Rule[] = []): Table => ({
  family: 'inet',
  name: 'polynet',
  sets: [
    { name: 'links', key: ['iifname'], elements: [] },
    { name: 'ports', key: ['iifname', 'ether saddr', 'ip saddr'], elements: [] },
    { name: 'ports6', key: ['iifname', 'ether saddr', 'ip6 saddr'], elements: [] },
    ...limit.sets,
  ],
  chains: [
    {
      name: 'from-ports',
      base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
      rules: [
        ...first,
        ...(own
          ? [
              { comment: 'within the network', do: [fromPort, toOwn, untracked, accept] },
              { do: [fromTunnel, toOwn, untracked, accept] },
              { do: [fromTunnel, toOwn6, untracked, accept] },
            ]
          : [{ do: [fromPort, accept] }]),
        { do: [{ lookup: ['iifname'], in: 'links' }, { verdict: { goto: 'from-port' } }] },
        ...(own ? [{ do: [toOwn, untracked] }, { do: [toOwn6, untracked] }] : []),
      ],
    },
    {
      name: 'from-port',
      rules: [
        ...(own ? [{ do: [fromPort, accept] }] : []),
        {
          comment: 'neighbours are permanent: no discovery',
          do: [{ match: 'icmpv6 type', is: discovery }, { verdict: 'drop' }],
        },
        ...(own ? [{ do: [fromPort6, toOwn6, untracked, accept] }] : []),
        { do: [fromPort6, accept] },
        { comment: 'not its MAC and address', do: [{ counter: true }, { verdict: 'drop' }] },
      ],
    },
    ...limit.chains,
  ],
})

const discovery = [
  'nd-router-solicit',
  'nd-router-advert',
  'nd-neighbor-solicit',
  'nd-neighbor-advert',
  'nd-redirect',
]

const tables = { own: portTable(true), alone: portTable(false), host: portTable(false, [tunnelled]) }
