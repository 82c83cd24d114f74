import type { Packet } from '../../plan/trace.ts'

/** A packet on its way, with the headers around it. `size` is in bytes, without the Ethernet header. */
export interface Frame extends Packet {
  size: number
  vlan?: number
  /** What a tunnel packet carries. */
  tunnelled?: { vni: number; frame: Frame }
  /** A rule asked for it to leave under the device's own address. */
  masquerade?: true
}

/** A packet that reached somebody who would read it. */
export interface Delivery {
  /** The namespace: a pod's path, `node:n1`, `node:n1/pn-…`. */
  netns: string
  /** The interface it came in by. */
  link: string
  packet: Frame
  /** The NICs and switches it crossed, in order: `n1/eth1`, `phy-net0`, `n2/eth1`. */
  crossed: string[]
}

/** Everything that happened to one packet that was sent, all of its copies included. */
export interface Journey {
  delivered: Delivery[]
  /** Why a copy got no further: `dropped at n1/pn-…: table inet polynet chain from-pods: not its address`. */
  dropped: string[]
  /** NICs and switches that any copy crossed, sorted. */
  crossed: string[]
  /** Every step of every copy. */
  path: string[]
}

export const everyone = 'ff:ff:ff:ff:ff:ff'

/** Broadcast or multicast. */
export const isGroup = (mac: string): boolean => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1

/** One line for people: `10.1.1.1 > 10.1.2.3 udp 7 to 0a:58:…`. */
export function frameText({ ether, arp, ip, l4proto, dport, icmpType, tunnelled }: Frame): string {
  const to = ether ? ` to ${ether.daddr}` : ''
  if (arp) return `arp ${arp.operation} ${arp.senderIp} > ${arp.targetIp}${to}`
  if (!ip) return `frame${to}`
  const inner = tunnelled ? ` vni ${tunnelled.vni} [${frameText(tunnelled.frame)}]` : ''
  return `${ip.saddr} > ${ip.daddr} ${icmpType ?? l4proto ?? 'ip'}${dport === undefined ? '' : ` ${dport}`}${inner}${to}`
}
