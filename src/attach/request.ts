/** One interface that a pod asks for, whichever spelling it used. */
export interface AttachmentRequest extends Wishes {
  /** Name in the pod; `eth0` for the default network. */
  interface: string
  target: Target
  /** The annotation key it came from, or what chose it: `namespace`, `node`, `conf` (on the node), `cluster`. For messages. */
  source: string
  /** Whether this is the pod's default network: eth0, and status entry `default: true`. */
  default: boolean
}

/** What a pod may say about one attachment beside which network it is. */
export interface Wishes {
  /**
   * Set on the one attachment that the pod's default route goes to, and by
   * which gateways (empty: the network's own).
   */
  defaultRoute?: string[]
  /** Addresses asked for, with or without prefix length. */
  ips?: string[]
  mac?: string
  infinibandGuid?: string
  portMappings?: { hostPort: number; containerPort: number; protocol?: string; hostIP?: string }[]
  bandwidth?: { ingressRate?: number; ingressBurst?: number; egressRate?: number; egressBurst?: number }
  cniArgs?: Record<string, unknown>
  deviceID?: string
  /** Name of an IPAMClaim in the pod's namespace. */
  ipamClaim?: string
}

export type Target =
  | { kind: 'Network'; namespace: string; name: string }
  | { kind: 'NetworkAttachmentDefinition'; namespace: string; name: string }
  /** A plugin by the name of its conf on the node, or by its type where it has none. */
  | { kind: 'Plugin'; name: string }
