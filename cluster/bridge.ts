import type { Route } from '../src/plan/node-plan.ts'
import type { Node } from './node.ts'

/** A node as far as its pods' addresses go. */
export interface PodRange {
  node: string
  /** As the controller manager gave it: IPv4, then IPv6. */
  podCIDRs: string[]
  addresses: string[]
}

/** Makes the reference `bridge` plugin the node's default network. */
export function configureBridge(node: Node, podCIDRs: string[]): void {
  const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
  node.putConf('20-bridge.conflist', {
    cniVersion: '1.0.0',
    name: 'bridge',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: podCIDRs.map((subnet) => [{ subnet }]), routes },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  })
}

/** The ways to the pods of all nodes but `self`, by the NIC that is on the management network. */
export const routesToPods = (ranges: PodRange[], self: string, link: string): Route[] =>
  ranges
    .filter(({ node }) => node !== self)
    .flatMap(({ podCIDRs, addresses }) =>
      podCIDRs.map((to): Route => ({ to, link, via: addresses[to.includes(':') ? 1 : 0]! })),
    )
