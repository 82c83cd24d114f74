import { type Family, parseAddress } from '../lib/ip.ts'
import { firstVni } from './uplink.ts'

/** A VXLAN device that somebody else made in the host's namespace: flannel's, Calico's, one by hand. */
export interface ForeignTunnel {
  name: string
  port: number
  /** 0 where it takes all of them. */
  vni: number
  /** What it listens to. */
  families: Family[]
  /** The kernel lets devices share a port as long as all of them are plain: no extensions, no metadata from outside. */
  plain: boolean
}

/**
 * Why tunnels from `endpoint` cannot have the UDP port because of one of
 * these, naming it; undefined when they can, which includes sharing it with
 * a plain device whose identifier no network gets.
 */
export function portTaken(
  port: number,
  endpoint: string | undefined,
  others: readonly ForeignTunnel[],
): string | undefined {
  const family = parseAddress(endpoint ?? '')?.family
  for (const { name, port: its, vni, families, plain } of others) {
    if (its !== port || (family !== undefined && !families.includes(family))) continue
    if (!plain) return `${name} has UDP port ${port} for itself and shares it with no other VXLAN device`
    if (vni >= firstVni)
      return `${name} has VXLAN identifier ${vni} on UDP port ${port}, and from ${firstVni} on they are for networks`
  }
  return undefined
}
