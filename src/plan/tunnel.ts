import type { Network } from '../api/network.ts'
import { contains, type Family, parseAddress, parsePrefix } from '../lib/ip.ts'
import { tunnelMac } from '../lib/mac.ts'
import { namespaceName, tunnelName } from './names.ts'
import type { Route, Vxlan } from './node-plan.ts'
import { transit } from './uplink.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/** What the controller has not said yet is the smallest that carries IPv6 (RFC 8200 section 5). */
const smallestMtu = 1280

export const mtuOf = (network: Network): number => network.status?.mtu ?? smallestMtu

export const familiesOf = (network: Network): Set<Family> =>
  new Set((network.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr)?.family ?? []))

/** The gateway of the subnet that the pod's address of this family is in. */
export const leasedGateway = (held: HeldAttachment, family: Family): string | undefined =>
  held.addresses.find((a) => parsePrefix(a.address)?.family === family)?.gateway

export function vxlanOf(view: NetworkView, bridge?: string): Vxlan {
  const endpoint = parseAddress(view.wire.endpoint)
  if (!endpoint) throw new Error(`tunnel address ${view.wire.endpoint} is none`)
  return {
    kind: 'vxlan',
    name: tunnelName,
    vni: view.network.status?.vni ?? 0,
    port: view.wire.tunnelPort,
    local: view.wire.endpoint,
    underlay: view.wire.nic,
    mac: tunnelMac(endpoint),
    mtu: mtuOf(view.network),
    ...(bridge === undefined ? {} : { bridge }),
  }
}

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

/** Where the node side of a network's ports lives. */
export const netnsOf = (view: NetworkView): string =>
  view.place === 'host' ? 'host' : namespaceName(view.network.metadata.uid ?? '')

/** Blocks of other nodes that lie in one of the network's subnets now; a block of a subnet that was removed leads nowhere. */
export function routable(view: NetworkView): { cidr: string; endpoint: string }[] {
  const subnets = (view.network.spec.subnets ?? []).map((s) => parsePrefix(s.cidr))
  return view.remotes
    .filter((r) => {
      const prefix = parsePrefix(r.cidr)
      return prefix !== undefined && subnets.some((s) => s !== undefined && contains(s, prefix))
    })
    .sort((a, b) => (a.cidr < b.cidr ? -1 : 1))
}
