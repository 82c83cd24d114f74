import { type Family, formatAddress, formatPrefix, parsePrefix } from '../lib/ip.ts'
import { uplinkInside, uplinkName } from './names.ts'
import { emptyNamespace, type NamespacePlan, type Route } from './node-plan.ts'
import type { Element, Rule, Table } from './ruleset.ts'
import { subnetsOf } from './subnets.ts'
import { familiesOf, mtuOf, netnsOf } from './tunnel.ts'
import type { NetworkView } from './view.ts'

/**
 * The one way between a logical network and the rest of the world: a veth
 * pair between its namespace and the host's, with addresses that mean
 * something on this node only. What leaves is translated to the link's
 * address, and once more by the host; what the host sends to its own pods
 * (probes) goes in by it, and nothing that the host forwards for others. Where
 * a packet enters the host, and once more where it leaves it, nodes, pods,
 * services and everything link-local are closed.
 */
export interface Uplink {
  /** Without prefix length. */
  host: { ipv4: string; ipv6: string }
  inside: { ipv4: string; ipv6: string }
}

/** Addresses of uplinks; pods have a route to them, so that the host's probes are answered. */
export const transit = { ipv4: '169.254.192.0/18', ipv6: 'fd70:6f6c:796e:6574::/64' } as const

/** VXLAN identifiers begin here; their order is the uplinks', and the first so many have one. */
export const firstVni = 4096
export const mostUplinks = 8192

/** The uplink of a network, or undefined for the few that the transit range has no room for. */
function uplinkOf(view: NetworkView): Uplink | undefined {
  const index = (view.network.status?.vni ?? 0) - firstVni
  if (view.place !== 'own' || index < 0 || index >= mostUplinks) return undefined
  const at = (range: string, offset: number): string => {
    const { family, value } = parsePrefix(range) as { family: Family; value: bigint }
    return formatAddress({ family, value: value + BigInt(2 * index + offset) })
  }
  return {
    host: { ipv4: at(transit.ipv4, 0), ipv6: at(transit.ipv6, 0) },
    inside: { ipv4: at(transit.ipv4, 1), ipv6: at(transit.ipv6, 1) },
  }
}

/** What the uplink adds to the network's own namespace. */
export function uplinkWithin(
  view: NetworkView,
): Pick<NamespacePlan, 'links' | 'addresses' | 'routes'> & Pick<Table, 'sets' | 'chains'> {
  const uplink = uplinkOf(view)
  if (!uplink) return { links: [], addresses: [], routes: [], sets: [], chains: [] }
  const families = familiesOf(view.network)
  return {
    links: [{ kind: 'existing', name: uplinkInside }],
    addresses: [
      ...(families.has(4) ? [{ link: uplinkInside, address: `${uplink.inside.ipv4}/31` }] : []),
      ...(families.has(6) ? [{ link: uplinkInside, address: `${uplink.inside.ipv6}/127` }] : []),
    ],
    routes: [
      ...(families.has(4) ? [{ to: '0.0.0.0/0', link: uplinkInside, via: uplink.host.ipv4 }] : []),
      ...(families.has(6) ? [{ to: '::/0', link: uplinkInside, via: uplink.host.ipv6 }] : []),
      // What nobody has does not leave. Last of equals: a block may be as large as its subnet.
      ...(view.network.spec.subnets ?? [])
        .flatMap(({ cidr }) => parsePrefix(cidr) ?? [])
        .map((own): Route => ({ to: formatPrefix(own), link: 'lo', metric: 10_000, blackhole: true })),
    ],
    sets: [
      { name: 'own', key: ['ip daddr'], interval: true, elements: subnetsOf(view, 4) },
      { name: 'own6', key: ['ip6 daddr'], interval: true, elements: subnetsOf(view, 6) },
    ],
    chains: [
      {
        name: 'leaving',
        base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
        rules: [{ do: [{ match: 'oifname', is: uplinkInside }, { masquerade: true }] }],
      },
    ],
  }
}

/** What the uplinks of all networks add to the host's namespace. `closed` are the prefixes that no logical network may reach. */
export function uplinksInHost(views: NetworkView[], closed: string[]): NamespacePlan {
  const plan = emptyNamespace('host')
  const links: Element[] = []
  const sources: Element[] = []
  const sources6: Element[] = []
  for (const view of views) {
    const uplink = uplinkOf(view)
    if (!uplink) continue
    const name = uplinkName(view.network.metadata.uid ?? '')
    const families = familiesOf(view.network)
    plan.links.push({
      kind: 'veth',
      name,
      mtu: mtuOf(view.network),
      peer: { netns: netnsOf(view), name: uplinkInside },
    })
    if (families.has(4)) plan.addresses.push({ link: name, address: `${uplink.host.ipv4}/31` })
    if (families.has(6)) plan.addresses.push({ link: name, address: `${uplink.host.ipv6}/127` })
    plan.routes.push(
      ...view.local.map((cidr): Route => ({ to: cidr, link: name, via: insideOf(uplink, cidr) })),
    )
    links.push({ key: [name] })
    if (families.has(4)) sources.push({ key: [uplink.inside.ipv4] })
    if (families.has(6)) sources6.push({ key: [uplink.inside.ipv6] })
  }
  if (links.length === 0) return plan
  plan.sysctls = { 'ipv4/ip_forward': '1', 'ipv6/conf/all/forwarding': '1' }
  const translate = (field: 'ip saddr' | 'ip6 saddr', set: string): Rule => ({
    do: [{ lookup: [field], in: set }, { lookup: ['oifname'], notIn: 'uplinks-out' }, { masquerade: true }],
  })
  const prefixes = (family: Family): Element[] =>
    closed
      .filter((c) => parsePrefix(c)?.family === family)
      .sort()
      .map((c) => ({ key: [c] }))
  plan.tables = [
    {
      family: 'inet',
      name: 'polynet',
      sets: [
        { name: 'uplinks', key: ['iifname'], elements: links },
        { name: 'uplinks-out', key: ['oifname'], elements: links },
        { name: 'uplink-sources', key: ['ip saddr'], elements: sources },
        { name: 'uplink-sources6', key: ['ip6 saddr'], elements: sources6 },
        { name: 'closed', key: ['ip daddr'], interval: true, elements: prefixes(4) },
        { name: 'closed6', key: ['ip6 daddr'], interval: true, elements: prefixes(6) },
      ],
      chains: [
        {
          name: 'from-networks',
          // After conntrack has seen the packet, before anyone translates where it goes.
          base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
          rules: [
            { do: [{ match: 'ct state', is: ['established', 'related'] }, { verdict: 'accept' }] },
            { do: [{ lookup: ['iifname'], notIn: 'uplinks' }, { verdict: 'accept' }] },
            {
              comment: 'the host itself',
              do: [{ match: 'fib daddr type', is: 'local' }, { counter: true }, { verdict: 'drop' }],
            },
            {
              comment: 'nodes, pods, services',
              do: [{ lookup: ['ip daddr'], in: 'closed' }, { counter: true }, { verdict: 'drop' }],
            },
            { do: [{ lookup: ['ip6 daddr'], in: 'closed6' }, { counter: true }, { verdict: 'drop' }] },
          ],
        },
        {
          name: 'forwarded',
          base: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' },
          rules: [
            { do: [{ match: 'ct state', is: ['established', 'related'] }, { verdict: 'accept' }] },
            {
              // The routes to this node's blocks are the host's own: what it forwards for others would lead from one network into another.
              comment: 'only the host itself asks pods of a network',
              do: [{ lookup: ['oifname'], in: 'uplinks-out' }, { counter: true }, { verdict: 'drop' }],
            },
            { do: [{ lookup: ['iifname'], notIn: 'uplinks' }, { verdict: 'accept' }] },
            {
              comment: 'translated since it entered (services)',
              do: [{ lookup: ['ip daddr'], in: 'closed' }, { counter: true }, { verdict: 'drop' }],
            },
            { do: [{ lookup: ['ip6 daddr'], in: 'closed6' }, { counter: true }, { verdict: 'drop' }] },
          ],
        },
        {
          name: 'to-host',
          base: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' },
          rules: [
            {
              comment: 'translated to the host itself',
              do: [
                { match: 'ct state', is: 'new' },
                { lookup: ['iifname'], in: 'uplinks' },
                { counter: true },
                { verdict: 'drop' },
              ],
            },
          ],
        },
        {
          name: 'to-outside',
          base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
          rules: [translate('ip saddr', 'uplink-sources'), translate('ip6 saddr', 'uplink-sources6')],
        },
      ],
    },
  ]
  return plan
}

const insideOf = (uplink: Uplink, cidr: string): string =>
  parsePrefix(cidr)?.family === 6 ? uplink.inside.ipv6 : uplink.inside.ipv4
