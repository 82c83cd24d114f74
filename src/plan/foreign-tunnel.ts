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

/** A program, or something of the kernel's that is no VXLAN device, with a UDP port in the host's namespace. */
export interface ForeignProgram {
  port: number
  families: Family[]
  /** `dnsmasq (process 812)`; absent where no process shows it. */
  name?: string
}

export type PortHolder = ForeignTunnel | ForeignProgram

/**
 * Why tunnels from `endpoint` cannot have the UDP port because of one of
 * these, naming it; undefined when they can, which includes sharing it with
 * a plain device whose identifier no network gets.
 */
export function portTaken(
  port: number,
  endpoint: string | undefined,
  others: readonly PortHolder[],
): string | undefined {
  for (const other of sharing(port, endpoint, others)) {
    if (!('vni' in other))
      return `${other.name ?? `a program (ss -lunpe sport = :${port} may know which)`} has UDP port ${port}`
    const { name, vni, plain } = other
    if (!plain) return `${name} has UDP port ${port} for itself and shares it with no other VXLAN device`
    if (vni >= firstVni)
      return `${name} has VXLAN identifier ${vni} on UDP port ${port}, and from ${firstVni} on they are for networks`
  }
  return undefined
}

/** Whether the kernel takes no tunnel with this identifier, because of one of these. */
export const tunnelRefused = (
  vni: number | undefined,
  port: number,
  endpoint: string,
  others: readonly PortHolder[],
): boolean =>
  sharing(port, endpoint, others).some((other) => !('vni' in other) || !other.plain || other.vni === vni)

function sharing(port: number, endpoint: string | undefined, others: readonly PortHolder[]): PortHolder[] {
  const family = parseAddress(endpoint ?? '')?.family
  return others.filter(
    (other) => other.port === port && (family === undefined || other.families.includes(family)),
  )
}
