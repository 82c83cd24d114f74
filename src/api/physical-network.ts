import type { Condition, KubeObject, LabelSelector } from './meta.ts'

/** Which NIC of a host is meant; all fields that are given must match. */
export interface NicMatch {
  /** Interface name; `*` and `?` are wildcards. */
  name?: string
  driver?: string
  pciAddress?: string
  mac?: string
}

/** A wire that some hosts share. */
export interface PhysicalNetwork extends KubeObject {
  spec: {
    description?: string
    /** Largest packet the wire carries, in bytes; absent: what the NICs say. */
    mtu?: number
    /** VLAN identifiers that networks on this wire may use. */
    vlanRange?: { min: number; max: number }
    /** UDP port of the tunnels over this wire; absent: given by the controller, one per physical network. */
    tunnelPort?: number
    /** Which NIC reaches it, for many nodes at once. The first rule that matches a node counts. */
    nics?: { nodeSelector?: LabelSelector; match: NicMatch }[]
    /** Tenants that may use it; absent or empty: all. */
    tenants?: string[]
  }
  status?: {
    tunnelPort?: number
    /** Nodes whose mapping is usable. */
    nodes?: number
    conditions?: Condition[]
  }
}
