import type { Network } from '../api/network.ts'
import { type Address, type Family, parseAddress, parsePrefix, withoutLength } from '../lib/ip.ts'
import type { PortPlan, Route } from './node-plan.ts'
import { transit } from './uplink.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/** What a pod's port has on a network of any topology. */
export interface PodPort {
  head: Pick<PortPlan, 'key' | 'network' | 'pod'>
  /** IPv4 first. */
  addresses: Address[]
  /** What it may send: its own, and those of the pod's other interfaces on this network. */
  sources: Address[]
  families: Set<Family>
  /** Of the interface: no router on its network is believed, and without an IPv6 address it has no IPv6. */
  sysctls: Record<string, string>
}

export function podPort({ network }: NetworkView, held: HeldAttachment): PodPort {
  const addresses = held.addresses.flatMap((a) => parseAddress(withoutLength(a.address)) ?? [])
  const families = new Set(addresses.map((a) => a.family))
  return {
    head: {
      key: `${held.containerID}/${held.interface}`,
      network: `${network.metadata.namespace}/${network.metadata.name}`,
      pod: held.pod,
    },
    addresses,
    sources: [...addresses, ...(held.siblings ?? []).flatMap((a) => parseAddress(a) ?? [])],
    families,
    sysctls: families.has(6)
      ? { [`ipv6/conf/${held.interface}/accept_ra`]: '0' }
      : { [`ipv6/conf/${held.interface}/disable_ipv6`]: '1' },
  }
}

/** The gateway of the subnet that the pod's address of this family is in. */
export const leasedGateway = (held: HeldAttachment, family: Family): string | undefined =>
  held.addresses.find((a) => parsePrefix(a.address)?.family === family)?.gateway

/**
 * Routes inside a pod for one of its interfaces: the network's own subnets,
 * the routes it declares, and the default route when it goes here. `via`
 * gives the next hop of a family, or undefined for on-link.
 */
export function podRoutes(
  network: Network,
  held: HeldAttachment,
  families: Set<Family>,
  via: (family: Family) => string | undefined,
  subnets: 'routed' | 'on-link' = 'routed',
): Route[] {
  const wanted: { to: string; via?: string }[] = []
  if (subnets === 'routed') for (const { cidr } of network.spec.subnets ?? []) wanted.push({ to: cidr })
  for (const route of network.spec.routes ?? []) wanted.push(route)
  if (held.defaultRoute) {
    const asked = (family: Family) => held.defaultRoute?.find((g) => parseAddress(g)?.family === family)
    wanted.push({ to: '0.0.0.0/0', via: asked(4) }, { to: '::/0', via: asked(6) })
  }
  // What the host asks a pod by its eth0 (probes) is answered by it, wherever the default route goes.
  if (held.interface === 'eth0') wanted.push({ to: transit.ipv4 }, { to: transit.ipv6 })
  const routes: Route[] = []
  for (const route of wanted) {
    const family = parsePrefix(route.to)?.family
    if (family === undefined || !families.has(family)) continue
    const hop = subnets === 'on-link' && route.via ? route.via : via(family)
    if (hop === undefined) continue
    routes.push({
      to: route.to,
      link: held.interface,
      via: hop,
      ...(held.index > 0 ? { metric: held.index } : {}),
    })
  }
  return routes
}
