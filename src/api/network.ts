import { bitsOf, type Family, parsePrefix } from '../lib/ip.ts'
import type { Condition, KubeObject, LabelSelector } from './meta.ts'

export type Topology = 'Layer3' | 'Layer2' | 'Direct'

export interface Subnet {
  cidr: string
  /** Absent: Layer3 networks need none; others take the first address. */
  gateway?: string
  /** First and last address that pods may get; absent: all of the cidr. */
  ranges?: { start: string; end: string }[]
  /** Addresses or prefixes that pods never get. */
  exclude?: string[]
}

/** A logical network. */
export interface Network extends KubeObject {
  spec: {
    /** The wire it runs over; absent: the one that carries the nodes' own addresses. */
    physicalNetwork?: string
    /** `polynet`, or the type or name of any CNI plugin installed on the nodes. */
    plugin?: string
    topology?: Topology
    subnets?: Subnet[]
    /** Prefix length of the blocks that nodes lease, per family; fixed for the network's life. */
    blockSize?: { ipv4?: number; ipv6?: number }
    /** VLAN on the physical network, for Direct. */
    vlan?: number
    /** How a Direct attachment is made. */
    direct?: { mode: 'macvlan' | 'ipvlan' | 'vlan' | 'host-device' }
    /** Destinations beside its own subnets that pods reach through it. */
    routes?: { to: string; via?: string }[]
    dns?: { nameservers?: string[]; searches?: string[]; options?: string[] }
    mtu?: number
    /** Whether its attachment takes the pod's default route also when it is not eth0. */
    primary?: boolean
    /** Who may attach, beside pods of its own namespace. */
    allowedNamespaces?: { from: 'Same' | 'Tenant' | 'Selector' | 'All'; selector?: LabelSelector }
    /** For a foreign plugin: its CNI configuration (a conf or a conflist), as JSON; absent: the conf on the node. */
    config?: string
  }
  status?: {
    /** VXLAN network identifier, unique within its physical network's tunnel port. */
    vni?: number
    mtu?: number
    /** Nodes that hold a block. */
    nodes?: number
    /** Addresses leased to nodes of all there are, for people: `12/65534`. */
    addresses?: string
    conditions?: Condition[]
  }
}

/** Where `spec.blockSize` says nothing: at most 64 addresses a block, and a small subnet is cut into 64 blocks. */
const smallestBlocks = 6

/**
 * Prefix length of the blocks that nodes lease from the network's subnets of
 * `family`: what `spec.blockSize` says, else /26 (/122) where the first
 * subnet is a /20 (/116) or larger, else a 64th of it, down to single
 * addresses. Subnets are only ever appended, so it is fixed for the network's
 * life. Undefined where the network has no subnet of the family.
 */
export function blockSizeOf(network: Pick<Network, 'spec'>, family: Family): number | undefined {
  const { blockSize, subnets = [] } = network.spec
  const first = subnets.map((s) => parsePrefix(s.cidr)).find((p) => p?.family === family)
  if (!first) return undefined
  const bits = bitsOf(family)
  return (
    (family === 4 ? blockSize?.ipv4 : blockSize?.ipv6) ??
    Math.min(bits, Math.max(bits - smallestBlocks, first.length + smallestBlocks))
  )
}
