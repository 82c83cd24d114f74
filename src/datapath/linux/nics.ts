import type { Nic } from '../../api/host-physical-network.ts'
import { type Family, familyOf } from '../../lib/ip.ts'
import { addressOf } from '../../lib/libc.ts'
import type { ForeignTunnel } from '../../plan/foreign-tunnel.ts'
import type { Message, Netlink } from './netlink.ts'
import * as rt from './route.ts'
import { ioctl } from './syscall.ts'

/** The NICs of the namespace that a socket is in. */

const SIOCETHTOOL = 0x8946
const ETHTOOL_GDRVINFO = 3

/** How plugins and bridges of virtual machines name the node's end of a veth; other veths stand for a wire. */
const nodeEnds = /^(?:veth|cali|lxc|pn|azv|eni|vnet|tap|gw|cilium|docker|br-)/

/** Whether a link is hardware or stands for it. */
function isNic(link: rt.SeenLink): boolean {
  if (link.loopback || link.name.startsWith('pn')) return false
  if (link.kind === undefined || link.kind === 'bond' || link.kind === 'team' || link.kind === 'vlan')
    return true
  return link.kind === 'veth' && link.master === 0 && !nodeEnds.test(link.name)
}

export function nicsOf(route: Netlink): Nic[] {
  const addresses = new Map<number, string[]>()
  for (const seen of route.dump(rt.dumpAddresses).map(rt.seenAddress)) {
    const list = addresses.get(seen.index) ?? []
    addresses.set(seen.index, list)
    list.push(seen.address)
  }
  const nics = route.dump(rt.dumpLinks).map(rt.seenLink).filter(isNic)
  return nics
    .map((link) => ({
      name: link.name,
      mac: link.mac,
      mtu: link.mtu,
      up: link.up,
      driver: driverOf(route, link.name),
      ...(link.bus?.name === 'pci' ? { pciAddress: link.bus.device } : {}),
      addresses: (addresses.get(link.index) ?? []).sort((a, b) => familyOf(a) - familyOf(b)),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** VXLAN devices of the namespace that are others'. */
export const tunnelsOf = (route: Netlink): ForeignTunnel[] =>
  route
    .dump(rt.dumpLinks)
    .map(rt.seenLink)
    .filter(isForeignTunnel)
    .map(({ name, vxlan }): ForeignTunnel => {
      const { port, vni, plain } = vxlan!
      return { name, port, vni, families: familiesOf(vxlan!), plain }
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))

/** What the device listens to. */
export const familiesOf = ({ local, external }: rt.SeenVxlan): Family[] =>
  external ? [4, 6] : [familyOf(local)]

const isForeignTunnel = ({ name, vxlan }: rt.SeenLink): boolean =>
  vxlan !== undefined && !name.startsWith('pn')

function driverOf(route: Netlink, name: string): string | undefined {
  const info = Buffer.alloc(196)
  info.writeUInt32LE(ETHTOOL_GDRVINFO)
  const request = Buffer.alloc(40)
  request.write(name, 0, 15)
  request.writeBigUInt64LE(addressOf(info), 16)
  if (ioctl(route.fd, SIOCETHTOOL, request) !== 0) return undefined
  return info.toString('latin1', 4, 36).replace(/\0.*$/s, '') || undefined
}

const NEWLINK = 16
const DELLINK = 17
const IFA_SCOPE_LINK = 253
const AF_BRIDGE = 7

/** Multicast groups RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR. */
export const nicGroups = 0x111

/** Whether a message of these groups may be about a NIC or somebody else's tunnel. */
export function concernsNics(message: Message): boolean {
  // A bridge's word about its ports, which does not say what they are; each change of a link comes for itself.
  if (message.payload[0] === AF_BRIDGE) return false
  if (message.type === NEWLINK || message.type === DELLINK) {
    // Each of Polynet's own links comes and goes with several messages.
    if (rt.nameIn(message).startsWith('pn')) return false
    const link = rt.seenLink(message)
    return isNic(link) || isForeignTunnel(link)
  }
  return message.payload[3] !== IFA_SCOPE_LINK
}
