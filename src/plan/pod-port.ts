import type { Network } from '../api/network.ts'
import {
  type Address,
  type Family,
  familyOf,
  formatPrefix,
  leastMtu,
  parseAddress,
  parsePrefix,
  withoutLength,
} from '../lib/ip.ts'
import { macOf } from '../lib/mac.ts'
import type { PortPlan, Route } from './node-plan.ts'
import { isFirst, sourceRules } from './source-rules.ts'
import { mtuOf } from './tunnel.ts'
import { transit } from './uplink.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/** What a pod's port has on a network of any topology. */
export interface PodPort {
  head: Pick<PortPlan, 'key' | 'network' | 'pod'>
  /** IPv4 first. */
  addresses: string[]
  /** What it may send: its own, and those of the pod's other interfaces on this network. */
  sources: string[]
  families: Set<Family>
  /** Of the interface: no router on its network is believed, and without an IPv6 address it has no IPv6, as far as its MTU has room for that. */
  sysctls: Record<string, string>
}

export function podPort({ network }: NetworkView, held: HeldAttachment): PodPort {
  const addresses = held.addresses.map((a) => withoutLength(a.address))
  const families = new Set(addresses.map(familyOf))
  return {
    head: {
      key: `${held.containerID}/${held.interface}`,
      network: `${network.metadata.namespace}/${network.metadata.name}`,
      pod: held.pod,
    },
    addresses,
    sources: [...addresses, ...(held.siblings ?? [])],
    families,
    sysctls: settingsOf(held.interface, families, mtuOf(network)),
  }
}

function settingsOf(link: string, families: Set<Family>, mtu: number): Record<string, string> {
  if (families.has(6)) return { [`ipv6/conf/${link}/accept_ra`]: '0' }
  // A link that is too small for IPv6 has no settings of it.
  return mtu < leastMtu[6] ? {} : { [`ipv6/conf/${link}/disable_ipv6`]: '1' }
}

/** The MAC that was asked for, or else that of the first address. */
export const macOfPort = ({ mac }: HeldAttachment, [first = '']: string[]): string =>
  mac ?? macOf(parseAddress(first) as Address)

/** The gateway of the subnet that the pod's address of this family is in. */
export const leasedGateway = (held: HeldAttachment, family: Family): string | undefined =>
  held.addresses.find((a) => familyOf(a.address) === family)?.gateway

/**
 * Routes and source rules inside a pod for one of its interfaces. The main
 * table has the network's own subnets, the routes it declares, and the default
 * route when it goes here. `via` gives the next hop of a family, or undefined
 * for on-link.
 */
export function podRouting(
  network: Network,
  held: HeldAttachment,
  families: Set<Family>,
  via: (family: Family) => string | undefined,
  subnets: 'routed' | 'on-link' = 'routed',
): Pick<PortPlan['inside'], 'routes' | 'rules'> {
  const asked = (family: Family) => held.defaultRoute?.find((g) => familyOf(g) === family)
  const own: Wanted[] =
    subnets === 'routed' ? (network.spec.subnets ?? []).map(({ cidr }) => ({ to: cidr })) : []
  const declared: Wanted[] = network.spec.routes ?? []
  const defaults: Wanted[] = [
    { to: '0.0.0.0/0', via: asked(4) },
    { to: '::/0', via: asked(6) },
  ]
  const routesTo = (wanted: Wanted[], more: Pick<Route, 'metric' | 'table'>): Route[] =>
    wanted.flatMap(({ to, via: asked }): Route[] => {
      const family = familyOf(to)
      if (!families.has(family)) return []
      const hop = subnets === 'on-link' && asked ? asked : via(family)
      return hop === undefined ? [] : [{ to, link: held.interface, via: hop, ...more }]
    })
  const main = routesTo(
    [
      ...own,
      ...declared,
      ...(held.defaultRoute ? defaults : []),
      // What the host asks a pod by its eth0 (probes) is answered by it, wherever the default route goes.
      ...(held.interface === 'eth0' ? [{ to: transit.ipv4 }, { to: transit.ipv6 }] : []),
    ],
    held.index > 0 ? { metric: held.index } : {},
  )
  if (isFirst(held)) return { routes: main }
  const { table, rules } = sourceRules(held)
  return {
    routes: [
      ...main,
      ...(subnets === 'on-link' ? onLink(held, table) : []),
      ...routesTo([...own, ...declared, ...defaults], { table }),
    ],
    rules,
  }
}

type Wanted = Pick<Route, 'to' | 'via'>

function onLink({ addresses, interface: link }: HeldAttachment, table: number): Route[] {
  const subnets = addresses.flatMap(({ address }) => parsePrefix(address) ?? [])
  return subnets.map((subnet) => ({ to: formatPrefix(subnet), link, table }))
}
