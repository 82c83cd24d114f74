import type { Attachment } from '../api/attachment-slice.ts'
import type { Network } from '../api/network.ts'

/** What one node needs to know of the cluster to plan its kernel: plain values, collected by the agent. */
export interface NodeView {
  /** Networks that Polynet renders on this node, in any order. */
  networks: NetworkView[]
  /** What this node's pods hold, in any order. */
  attachments: HeldAttachment[]
  /** Prefixes that no logical network reaches by its uplink: nodes, pods, services, link-local. */
  closed: string[]
}

export interface NetworkView {
  network: Network
  /** Where it is rendered: the cluster's default network in the host's namespace, every other in its own. */
  place: 'host' | 'own'
  /** How this node reaches the network's wire. */
  wire: Wire
  /** Blocks and single addresses that other nodes hold, with the tunnel address to reach them by. */
  remotes: Remote[]
  /** Blocks that this node holds and the host may reach: none where the network's subnets overlap another's. */
  local: string[]
  /** Layer2 only: who sits on other nodes. */
  peers: Peer[]
  /** There can be no tunnel now, because its NIC is not there or another program has its port: the node's own pods go on. */
  severed?: true
}

export interface Wire {
  /** The NIC's name in the host's namespace. */
  nic: string
  /** This node's tunnel address on it. */
  endpoint: string
  tunnelPort: number
}

export interface Remote {
  cidr: string
  endpoint: string
}

export interface Peer {
  attachment: Pick<Attachment, 'mac' | 'ips'>
  endpoint: string
}

/** One interface of one pod on a network that Polynet renders. */
export interface HeldAttachment {
  networkUID: string
  containerID: string
  interface: string
  /** `<namespace>/<name>`. */
  pod: string
  /** Path of the pod's network namespace. */
  netns: string
  /** With the subnet's prefix length, IPv4 first. */
  addresses: { address: string; gateway?: string }[]
  mac?: string
  /**
   * Addresses of the pod's other interfaces on the same network, without
   * prefix length. Its kernel answers for them by whichever interface the route
   * leads to, so each may send them.
   */
  siblings?: string[]
  /** Present when the pod's default route goes here: by these gateways, or by the network's own when empty. */
  defaultRoute?: string[]
  /** Its place among the pod's interfaces; orders equal routes. */
  index: number
}
