import type { Condition, KubeObject } from './meta.ts'
import type { NicMatch } from './physical-network.ts'

/** Which NIC of one host (its name is the node's) reaches which physical network. */
export interface HostPhysicalNetwork extends KubeObject {
  spec: {
    /** Explicit mappings; each wins over the PhysicalNetwork's own rule. */
    mappings?: { physicalNetwork: string; match: NicMatch }[]
  }
  status?: {
    /** The node's NICs, as its agent found them. */
    nics?: Nic[]
    /** What each physical network came to on this node. */
    mappings?: NicMapping[]
    conditions?: Condition[]
  }
}

export interface Nic {
  name: string
  mac: string
  mtu: number
  up: boolean
  driver?: string
  pciAddress?: string
  /** With prefix length, IPv4 first. */
  addresses?: string[]
}

export interface NicMapping {
  physicalNetwork: string
  /** Absent where no NIC matches. */
  nic?: string
  /** The NIC's address that tunnels start from, without prefix length. */
  address?: string
  mtu?: number
  usable: boolean
  /** Why it is not usable and what to do; empty when it is. */
  message?: string
}
