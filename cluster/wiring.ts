import { addressOf, routerAddress, type Wiring, wiresOf, wiringPlan } from '../lab/wires.ts'
import type { Link, NamespacePlan } from '../src/plan/node-plan.ts'
import { emptyNamespace } from '../src/plan/node-plan.ts'

/** Where a cluster's parts are; the nodes' addresses are the lab's (`n1` has .11). */
export const plan = {
  controlPlane: '192.168.1.10',
  podSubnets: ['10.244.0.0/16', 'fd00:10:244::/56'],
  serviceSubnets: ['10.96.0.0/16', 'fd00:10:96::/112'],
  apiService: '10.96.0.1',
  dnsService: '10.96.0.10',
} as const

/** `controlPlane` is a machine of its own on the management network. */
export const controlPlane = 'control-plane'

/** The addresses that a node tells the API server: of `eth0`, IPv4 first. */
export function nodeAddresses(wiring: Wiring, node: string): [string, string] {
  const index = wiring.nodes.indexOf(node)
  return [addressOf(wiresOf(wiring)[0]!, index), managementV6(index + 11)]
}

const managementV6 = (host: number): string => `fd00:192:168:1::${host}`

/** The lab's wiring, with IPv6 on the management network, nodes that forward, and the control plane. */
export function clusterPlan(wiring: Wiring): NamespacePlan[] {
  const cable: Link = {
    kind: 'veth',
    name: controlPlane,
    mtu: wiring.mtu ?? 1500,
    bridge: 'switch',
    peer: { netns: controlPlane, name: 'eth0', mac: '0a:00:00:00:00:ff' },
  }
  const way = { to: '0.0.0.0/0', link: 'eth0', via: routerAddress }
  const plans = wiringPlan(wiring).map((each): NamespacePlan => {
    if (each.netns === 'switch-eth0') {
      const router = { link: 'switch', address: `${managementV6(1)}/64` }
      return { ...each, links: [...each.links, cable], addresses: [...each.addresses, router] }
    }
    const node = wiring.nodes.indexOf(each.netns)
    if (node < 0) return each
    return {
      ...each,
      sysctls: forwarding,
      addresses: [...each.addresses, { link: 'eth0', address: `${managementV6(node + 11)}/64` }],
      routes: [way],
    }
  })
  const control: NamespacePlan = {
    ...emptyNamespace(controlPlane),
    links: [
      { kind: 'existing', name: 'lo' },
      { kind: 'existing', name: 'eth0' },
    ],
    addresses: [
      { link: 'eth0', address: `${plan.controlPlane}/24` },
      { link: 'eth0', address: `${managementV6(10)}/64` },
    ],
    routes: [way],
  }
  return [...plans, control]
}

const forwarding = { 'ipv4/ip_forward': '1', 'ipv6/conf/all/forwarding': '1' }
