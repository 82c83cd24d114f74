import type { Network } from '../api/network.ts'
import { contains, type Family, leastMtu, parseAddress, parsePrefix } from '../lib/ip.ts'
import { tunnelMac } from '../lib/mac.ts'
import { namespaceName, tunnelName } from './names.ts'
import type { Vxlan } from './node-plan.ts'
import type { NetworkView } from './view.ts'

/** UDP port of tunnels between the nodes' own addresses; PhysicalNetworks get the ones above it. */
export const nodeTunnelPort = 14789

/** What the controller has not said yet is the smallest that carries both families. */
export const mtuOf = (network: Network): number => network.status?.mtu ?? leastMtu[6]

export const familiesOf = (network: Network): Set<Family> =>
  new Set((network.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr)?.family ?? []))

/** The network's tunnel, unless there can be none. */
export function tunnelOf(view: NetworkView, bridge?: string): [] | [Vxlan] {
  if (view.severed) return []
  const endpoint = parseAddress(view.wire.endpoint)
  if (!endpoint) throw new Error(`tunnel address ${view.wire.endpoint} is none`)
  const vxlan: Vxlan = {
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
  return [vxlan]
}

/** Where the node side of a network's ports lives. */
export const netnsOf = (view: NetworkView): string =>
  view.place === 'host' ? 'host' : namespaceName(view.network.metadata.uid ?? '')

/** Blocks of other nodes that lie in one of the network's subnets now and can be reached; a block of a subnet that was removed leads nowhere. */
export function routable(view: NetworkView): { cidr: string; endpoint: string }[] {
  if (view.severed) return []
  const subnets = (view.network.spec.subnets ?? []).map((s) => parsePrefix(s.cidr))
  return view.remotes
    .filter((r) => {
      const prefix = parsePrefix(r.cidr)
      return prefix !== undefined && subnets.some((s) => s !== undefined && contains(s, prefix))
    })
    .sort((a, b) => (a.cidr < b.cidr ? -1 : 1))
}
