import type { Element, Table } from './ruleset.ts'

/**
 * What a node's kernel should look like, as plain values: the same plan is
 * applied by `datapath/linux`, walked by packets in `datapath/memory`, and
 * printed by `describe` and the tests. Addresses are canonical text, prefixes
 * carry their length, link names are at most 15 bytes.
 */
export interface NodePlan {
  /** The host's namespace first (`host`), then each network's, sorted by name. */
  namespaces: NamespacePlan[]
  /** Every interface that Polynet itself renders for a pod, sorted by key. */
  ports: PortPlan[]
}

/** Everything Polynet owns in one network namespace. In `host` it owns only what carries its mark. */
export interface NamespacePlan {
  /** `host`, or the name of a namespace that Polynet makes. */
  netns: string
  /** Below /proc/sys/net: `ipv4/ip_forward` to `1`. */
  sysctls: Record<string, string>
  links: Link[]
  /** With prefix length. Assigned without duplicate address detection. */
  addresses: { link: string; address: string }[]
  routes: Route[]
  neighbours: Neighbour[]
  forwarding: Forwarding[]
  tables: Table[]
}

/** A namespace in which nothing is asked for. */
export const emptyNamespace = (netns: string): NamespacePlan => ({
  netns,
  sysctls: {},
  links: [],
  addresses: [],
  routes: [],
  neighbours: [],
  forwarding: [],
  tables: [],
})

export type Link =
  /** A link that is there anyway (lo, a NIC): only brought up. */
  | { kind: 'existing'; name: string }
  | { kind: 'bridge'; name: string; mac?: string; mtu: number }
  | Vxlan
  | {
      kind: 'veth'
      name: string
      mac?: string
      mtu: number
      bridge?: string
      /** The other end, in another namespace of the plan. */
      peer: { netns: string; name: string; mac?: string }
    }

/**
 * Created from the host's namespace straight into its own in one message, so
 * that its packets leave by the host's NIC. It never learns, and it never
 * drops below the underlay's route: `local` and `underlay` are fixed.
 */
export interface Vxlan {
  kind: 'vxlan'
  name: string
  vni: number
  port: number
  /** The node's own tunnel address. */
  local: string
  /** The NIC's name in the host's namespace. */
  underlay: string
  mac: string
  mtu: number
  bridge?: string
}

export interface Route {
  /** A prefix; the default route is `0.0.0.0/0` or `::/0`. */
  to: string
  link: string
  /** Next hop; may be of the other family (RTA_VIA). Always treated as reachable on the link. */
  via?: string
  /** Preferred source address. */
  source?: string
  /** Lower wins; 0 when absent. */
  metric?: number
  /** Another table than the main one, which source rules lead to. */
  table?: number
  /** What goes there ends, and nobody is told. Its link is `lo`. */
  blackhole?: true
}

/** What is sent from this address is looked up in a table, before rules of higher priority numbers. */
export interface SourceRule {
  priority: number
  /** Without prefix length. */
  from: string
  /** Absent: the main table. */
  table?: number
  /** Default routes found there do not count: the next rule is asked. */
  exceptDefault?: boolean
}

/** A permanent neighbour entry: nothing is resolved. */
export interface Neighbour {
  link: string
  address: string
  mac: string
}

/** A permanent forwarding entry of a VXLAN device or bridge port. The MAC `00:00:00:00:00:00` floods. */
export interface Forwarding {
  link: string
  mac: string
  /** The tunnel endpoint, for a VXLAN device; absent for a bridge port. */
  endpoint?: string
}

/** One interface of one pod, and everything on the node's side that belongs to it alone. */
export interface PortPlan {
  /** `<container id>/<interface>`. */
  key: string
  /** For people: `<namespace>/<network>`. */
  network: string
  /** For people: `<namespace>/<pod>`. */
  pod: string
  /** The namespace its node side lives in. */
  netns: string
  link: PortLink
  inside: {
    /** Path of the pod's network namespace. */
    netns: string
    name: string
    /** Absent: what the device has. */
    mac?: string
    mtu: number
    addresses: string[]
    routes: Route[]
    /** Absent: none. */
    rules?: SourceRule[]
    neighbours: Neighbour[]
    sysctls: Record<string, string>
    /** Enforcement that a port without node side needs inside the pod's namespace. */
    tables: Table[]
  }
  /** In `netns`; their link is the port's node side. */
  routes: Route[]
  neighbours: Neighbour[]
  forwarding: Forwarding[]
  elements: PortElement[]
}

/** An element of one of the sets of the port's `netns`, there as long as the port is. */
export interface PortElement extends Element {
  family: Table['family']
  set: string
}

export type PortLink =
  | {
      kind: 'veth'
      /** The node side. */
      name: string
      mac: string
      /** Neither sends nor answers ARP (IFF_NOARP): neighbours are permanent. */
      noarp: boolean
      bridge?: string
      /** Bridge port flags: pods on this port cannot reach other isolated ports; unknown unicast is not flooded to it. */
      isolated?: boolean
    }
  | { kind: 'macvlan'; parent: string; mode: 'bridge' | 'private' | 'vepa' | 'passthru' }
  | { kind: 'ipvlan'; parent: string; mode: 'l2' | 'l3' | 'l3s' }
  | { kind: 'vlan'; parent: string; id: number }
  /** A NIC of the host moves into the pod, and back. */
  | { kind: 'host-device'; device: string }
