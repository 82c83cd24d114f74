import { type Address, type Family, parseAddress, withoutLength } from '../lib/ip.ts'
import type { PortPlan } from './node-plan.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/** What a pod's port has on a network of any topology. */
export interface PodPort {
  head: Pick<PortPlan, 'key' | 'network' | 'pod'>
  /** IPv4 first. */
  addresses: Address[]
  families: Set<Family>
  /** Of the interface: no router on its network is believed, and without an IPv6 address it has no IPv6. */
  sysctls: Record<string, string>
}

export function podPort({ network }: NetworkView, held: HeldAttachment): PodPort {
  const addresses = held.addresses.flatMap((a) => parseAddress(withoutLength(a.address)) ?? [])
  const families = new Set(addresses.map((a) => a.family))
  return {
    head: {
      key: `${held.containerID}/${held.interface}`,
      network: `${network.metadata.namespace}/${network.metadata.name}`,
      pod: held.pod,
    },
    addresses,
    families,
    sysctls: families.has(6)
      ? { [`ipv6/conf/${held.interface}/accept_ra`]: '0' }
      : { [`ipv6/conf/${held.interface}/disable_ipv6`]: '1' },
  }
}
