import { macBytes } from '../../lib/mac.ts'
import type { Forwarding, Neighbour, PortLink, Route, SourceRule, Vxlan } from '../../plan/node-plan.ts'
import { ipBytes, ipText, macText, prefixBytes } from './bytes.ts'
import {
  APPEND,
  type Attributes,
  attribute,
  attributes,
  Batch,
  CREATE,
  DUMP,
  EXCL,
  type Message,
  REPLACE,
  textOf,
  type What,
} from './netlink.ts'

/** rtnetlink(7): what is written to it (functions on a batch) and what it says (`seen…`). */

export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10
/** What marks our routes and addresses: RTA_PROTOCOL and IFA_PROTO. */
export const ours = 80
/** Links of this group are about to be deleted, all of them by one message. */
export const doomedGroup = 0x706e0001
/** Links of this group in a pod are Polynet's, unless the pod has put others there. A link can be made in it, which it cannot with an alias. */
export const portGroup = 0x706e0002

const NEWLINK = 16
const DELLINK = 17
const GETLINK = 18
const SETLINK = 19
const NEWADDR = 20
const DELADDR = 21
const GETADDR = 22
const NEWROUTE = 24
const DELROUTE = 25
const GETROUTE = 26
const NEWNEIGH = 28
const DELNEIGH = 29
const GETNEIGH = 30
const NEWRULE = 32
const DELRULE = 33
const GETRULE = 34

const IFF_UP = 1
const IFF_LOOPBACK = 8
const IFF_NOARP = 0x80

const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  PROTINFO: 12,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  NUM_TX_QUEUES: 31,
  NUM_RX_QUEUES: 32,
  LINK_NETNSID: 37,
  PARENT_DEV_NAME: 56,
  PARENT_DEV_BUS_NAME: 57,
} as const
/** IN6_ADDR_GEN_MODE_NONE (linux/if_link.h). */
const [INET6_ADDR_GEN_MODE, GEN_NONE] = [8, 1]
const INFO_KIND = 1
const INFO_DATA = 2
const INFO_SLAVE_DATA = 5
const SKIP_STATS = 8
const BRPORT_UNICAST_FLOOD = 9
const BRPORT_ISOLATED = 33

// ── links ──

export interface LinkMessage {
  name?: string
  /** Which link, when it is not found by its name. */
  index?: number
  mac?: string
  mtu?: number
  /** 0: none. */
  master?: number
  up?: boolean
  noarp?: boolean
  group?: number
  alias?: string
  /** It gets no link-local address by itself. Of a link that is there. */
  noLinkLocal?: boolean
  /** Descriptor of the namespace it goes to. */
  netns?: number
  /** Index of the link it stands on. */
  parent?: number
}

const noLink: LinkMessage = {}

function linkBody(batch: Batch, link: LinkMessage): void {
  let flags = 0
  let change = 0
  if (link.up !== undefined) {
    change |= IFF_UP
    if (link.up) flags |= IFF_UP
  }
  if (link.noarp !== undefined) {
    change |= IFF_NOARP
    if (link.noarp) flags |= IFF_NOARP
  }
  batch
    .u32(0)
    .u32(link.index ?? 0)
    .u32(flags)
    .u32(change)
  if (link.name !== undefined) batch.attributeText(IFLA.IFNAME, link.name)
  if (link.mac !== undefined) batch.attribute(IFLA.ADDRESS, macBytes(link.mac))
  if (link.mtu !== undefined) batch.attribute32(IFLA.MTU, link.mtu)
  if (link.parent !== undefined) batch.attribute32(IFLA.LINK, link.parent)
  if (link.master !== undefined) batch.attribute32(IFLA.MASTER, link.master)
  if (link.group !== undefined) batch.attribute32(IFLA.GROUP, link.group)
  if (link.alias !== undefined) batch.attribute(IFLA.IFALIAS, Buffer.from(link.alias))
  if (link.netns !== undefined) batch.attribute32(IFLA.NET_NS_FD, link.netns)
  if (link.noLinkLocal)
    batch.nest(IFLA.AF_SPEC, () =>
      batch.nest(AF_INET6, () => batch.attribute8(INET6_ADDR_GEN_MODE, GEN_NONE)),
    )
}

function newLink(
  batch: Batch,
  what: What,
  link: LinkMessage,
  kind: string,
  data?: (batch: Batch) => void,
): void {
  linkBody(batch.message(NEWLINK, CREATE | EXCL, what), link)
  batch.nest(IFLA.LINKINFO, () => {
    batch.attributeText(INFO_KIND, kind)
    if (data) batch.nest(INFO_DATA, data)
  })
}

/** IFLA_BR_MULTI_BOOLOPT and its BR_BOOLOPT_NO_LL_LEARN (linux/if_link.h, if_bridge.h). */
const [MULTI_BOOLOPT, NO_LL_LEARN] = [46, 1]

/**
 * It learns nothing from frames for 01:80:c2:00:00:0x: those for 0e (LLDP)
 * pass no netfilter hook at all (br_handle_frame, Linux 6.18), so a pod could
 * take any MAC by them, and as many as it likes.
 */
export const newBridge = (batch: Batch, what: What, link: LinkMessage): void =>
  newLink(batch, what, link, 'bridge', () =>
    // Value and mask.
    batch.attribute(MULTI_BOOLOPT, Buffer.from(Uint32Array.of(NO_LL_LEARN, NO_LL_LEARN).buffer)),
  )

/**
 * The peer is not brought up here: the kernel refuses that as long as it does
 * not know the other end. One queue each: a veth hands packets to the receiving
 * CPU's backlog whatever its queues are, but each queue costs a sysfs object
 * and an event, and the kernel's own choice is one per CPU (0.55 ms instead
 * of 0.30 ms to make a pair on two CPUs).
 */
export function newVeth(batch: Batch, what: What, link: LinkMessage, peer: LinkMessage): void {
  const oneQueue = () => batch.attribute32(IFLA.NUM_TX_QUEUES, 1).attribute32(IFLA.NUM_RX_QUEUES, 1)
  newLink(batch, what, link, 'veth', () =>
    batch.nest(1, () => {
      linkBody(batch, peer)
      oneQueue()
    }),
  )
  oneQueue()
}

export const newVxlan = (batch: Batch, what: What, link: LinkMessage, vxlan: Vxlan, underlay: number): void =>
  newLink(batch, what, link, 'vxlan', () => {
    batch.attribute32(1, vxlan.vni).attribute32(3, underlay)
    batch.attribute(vxlan.local.includes(':') ? 17 : 4, ipBytes(vxlan.local))
    batch.attribute8(7, 0).attribute16be(15, vxlan.port)
  })

const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const
const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const

/** A link that stands on another: `link.parent`. */
export function newUpper(
  batch: Batch,
  what: What,
  link: LinkMessage,
  port: Exclude<PortLink, { kind: 'veth' | 'host-device' }>,
): void {
  if (port.kind === 'macvlan')
    newLink(batch, what, link, 'macvlan', () => batch.attribute32(1, macvlanModes[port.mode]))
  else if (port.kind === 'ipvlan')
    newLink(batch, what, link, 'ipvlan', () => batch.attribute16(1, ipvlanModes[port.mode]))
  else newLink(batch, what, link, 'vlan', () => batch.attribute16(1, port.id))
}

export const setLink = (batch: Batch, what: What, link: LinkMessage): void =>
  linkBody(batch.message(SETLINK, 0, what), link)

/** Bridge port flags: what `isolated` of a port means. */
export function setBridgePort(batch: Batch, what: What, index: number, isolated: boolean): void {
  batch.message(SETLINK, 0, what).u32(AF_BRIDGE).u32(index).u32(0).u32(0)
  batch.nest(IFLA.PROTINFO, () =>
    batch.attribute8(BRPORT_ISOLATED, isolated ? 1 : 0).attribute8(BRPORT_UNICAST_FLOOD, isolated ? 0 : 1),
  )
}

export const deleteLink = (batch: Batch, what: What, name: string): void =>
  linkBody(batch.message(DELLINK, 0, what), { name })

export const deleteGroup = (batch: Batch, what: What, group: number): void =>
  linkBody(batch.message(DELLINK, 0, what), { group })

export const getLink = (batch: Batch, what: What, name: string): void => {
  linkBody(batch.message(GETLINK, 0, what), { name })
  batch.attribute32(IFLA.EXT_MASK, SKIP_STATS)
}

export function dumpLinks(): Batch {
  const batch = new Batch()
  linkBody(batch.message(GETLINK, DUMP, 'list links'), noLink)
  return batch.attribute32(IFLA.EXT_MASK, SKIP_STATS)
}

export interface SeenLink {
  index: number
  name: string
  /** Absent for hardware and the loopback. */
  kind?: string
  loopback: boolean
  mac: string
  mtu: number
  up: boolean
  noarp: boolean
  master: number
  group: number
  alias: string
  /** Index of the parent or of the veth's other end; in another namespace if `elsewhere`. */
  link: number
  elsewhere: boolean
  isolated: boolean
  vxlan?: SeenVxlan
  mode?: number
  vlan?: number
  bus?: { name: string; device: string }
}

export interface SeenVxlan {
  vni: number
  port: number
  local: string
  underlay: number
  /** Shares its socket with others like it: nothing but the identifier tells their packets apart (VXLAN_F_RCV_FLAGS). */
  plain: boolean
  /** Takes its settings packet by packet from elsewhere. */
  external: boolean
}

/** The name of the link that a message is about, for who need not know more of it. The kernel says it first. */
export const nameIn = ({ payload }: Message): string =>
  textOf(attribute(payload, IFLA.IFNAME, 16) ?? Buffer.alloc(0))

export function seenLink(message: Message): SeenLink {
  const { payload } = message
  const flags = payload.readUInt32LE(8)
  const found = attributes(payload, 16)
  const info = found.get(IFLA.LINKINFO)
  const infos = info ? attributes(info) : undefined
  const kindBytes = infos?.get(INFO_KIND)
  const kind = kindBytes && textOf(kindBytes)
  const data = infos?.get(INFO_DATA)
  const slaveBytes = infos?.get(INFO_SLAVE_DATA)
  const address = found.get(IFLA.ADDRESS)
  const device = found.get(IFLA.PARENT_DEV_NAME)
  const bus = found.get(IFLA.PARENT_DEV_BUS_NAME)
  const alias = found.get(IFLA.IFALIAS)
  return {
    index: payload.readInt32LE(4),
    name: textOf(found.get(IFLA.IFNAME) ?? Buffer.alloc(0)),
    kind,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    mac: address ? macText(address) : '',
    mtu: number32(found, IFLA.MTU),
    up: (flags & IFF_UP) !== 0,
    noarp: (flags & IFF_NOARP) !== 0,
    master: number32(found, IFLA.MASTER),
    group: number32(found, IFLA.GROUP),
    alias: alias ? textOf(alias) : '',
    link: number32(found, IFLA.LINK),
    elsewhere: found.has(IFLA.LINK_NETNSID),
    isolated: slaveBytes ? attribute(slaveBytes, BRPORT_ISOLATED)?.[0] === 1 : false,
    ...(data && kind ? kindData(kind, attributes(data)) : {}),
    bus: device && bus ? { name: textOf(bus), device: textOf(device) } : undefined,
  }
}

function kindData(kind: string, data: Attributes): Pick<SeenLink, 'vxlan' | 'mode' | 'vlan'> {
  if (kind === 'vxlan') {
    const local = data.get(4) ?? data.get(17)
    return {
      vxlan: {
        vni: number32(data, 1),
        port: data.get(15)?.readUInt16BE(0) ?? 0,
        local: local ? ipText(local) : '',
        underlay: number32(data, 3),
        plain: ![20, 22, 25, 30].some((on) => data.get(on)?.[0]) && !data.has(23) && !data.has(27),
        external: data.get(25)?.[0] === 1,
      },
    }
  }
  if (kind === 'macvlan') return { mode: number32(data, 1) }
  if (kind === 'ipvlan') return { mode: data.get(1)?.readUInt16LE(0) ?? 0 }
  if (kind === 'vlan') return { vlan: data.get(1)?.readUInt16LE(0) ?? 0 }
  return {}
}

/** Whether the link that is there is what such a port would make (its parent aside). */
export function isUpper(link: SeenLink, port: PortLink): boolean {
  if (port.kind === 'macvlan') return link.kind === 'macvlan' && link.mode === macvlanModes[port.mode]
  if (port.kind === 'ipvlan') return link.kind === 'ipvlan' && link.mode === ipvlanModes[port.mode]
  return port.kind === 'vlan' && link.kind === 'vlan' && link.vlan === port.id
}

const number32 = (found: Attributes, type: number): number => {
  const value = found.get(type)
  return value && value.length >= 4 ? value.readUInt32LE(0) : 0
}

// ── addresses ──

const IFA_F_NODAD = 0x02

function addressMessage(
  batch: Batch,
  type: number,
  flags: number,
  what: What,
  index: number,
  prefix: string,
): void {
  const { bytes, length } = prefixBytes(prefix)
  batch.message(type, flags, what)
  batch
    .u8(bytes.length === 4 ? AF_INET : AF_INET6)
    .u8(length)
    .u8(IFA_F_NODAD)
    .u8(0)
    .u32(index)
  batch.attribute(2, bytes).attribute(1, bytes)
  if (type === NEWADDR) {
    batch.attribute32(8, IFA_F_NODAD).attribute8(11, ours)
    if (bytes.length === 4 && length < 31) batch.attribute(4, broadcast(bytes, length))
  }
}

function broadcast(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => byte | (255 >> Math.min(8, Math.max(0, length - 8 * i))))
}

export const newAddress = (batch: Batch, what: What, index: number, prefix: string): void =>
  addressMessage(batch, NEWADDR, CREATE | REPLACE, what, index, prefix)

export const deleteAddress = (batch: Batch, what: What, index: number, prefix: string): void =>
  addressMessage(batch, DELADDR, 0, what, index, prefix)

export const dumpAddresses = (): Batch => new Batch().message(GETADDR, DUMP, 'list addresses').u32(0).u32(0)

export interface SeenAddress {
  index: number
  /** With prefix length. */
  address: string
  /** IFA_PROTO; 3: made by the kernel for the link itself. Absent before Linux 5.18. */
  protocol?: number
}

export function seenAddress({ payload }: Message): SeenAddress {
  const found = attributes(payload, 8)
  const bytes = found.get(2) ?? found.get(1) ?? Buffer.alloc(4)
  return {
    index: payload.readUInt32LE(4),
    address: `${ipText(bytes)}/${payload[1]}`,
    protocol: found.get(11)?.[0],
  }
}

// ── routes ──

const MAIN = 254
const RTNH_F_ONLINK = 4
const RTM_F_CLONED = 0x200
const RTN_UNICAST = 1
const RTN_BLACKHOLE = 6
const RTPROT_KERNEL = 2

function routeMessage(
  batch: Batch,
  type: number,
  flags: number,
  what: What,
  index: number,
  route: Route,
): void {
  const { bytes, length } = prefixBytes(route.to)
  const v4 = bytes.length === 4
  const scope = route.via === undefined && v4 && !route.blackhole ? 253 : 0
  batch.message(type, flags, what)
  batch
    .u8(v4 ? AF_INET : AF_INET6)
    .u8(length)
    .u8(0)
    .u8(0)
  batch
    .u8(route.table === undefined ? MAIN : 0)
    .u8(ours)
    .u8(scope)
    .u8(route.blackhole ? RTN_BLACKHOLE : RTN_UNICAST)
    .u32(route.via === undefined ? 0 : RTNH_F_ONLINK)
  if (length > 0) batch.attribute(1, bytes)
  // The kernel takes no link for it, and says none in IPv4.
  if (!route.blackhole) batch.attribute32(4, index)
  if (route.metric) batch.attribute32(6, route.metric)
  if (route.table !== undefined) batch.attribute32(15, route.table)
  if (route.source !== undefined) batch.attribute(7, ipBytes(route.source))
  if (route.via === undefined) return
  const via = ipBytes(route.via)
  if (via.length === bytes.length) batch.attribute(5, via)
  else batch.attribute(18, Buffer.concat([Buffer.from([via.length === 4 ? AF_INET : AF_INET6, 0]), via]))
}

export const newRoute = (batch: Batch, what: What, index: number, route: Route): void =>
  routeMessage(batch, NEWROUTE, CREATE | REPLACE, what, index, route)

export const deleteRoute = (batch: Batch, what: What, index: number, route: Route): void =>
  routeMessage(batch, DELROUTE, 0, what, index, route)

/** `protocol`: of those alone, which the kernel picks. */
export const dumpRoutes = (family: number, protocol = 0): Batch =>
  new Batch()
    .message(GETROUTE, DUMP, 'list routes')
    .u8(family)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(protocol)
    .u8(0)
    .u8(0)
    .u32(0)

export interface SeenRoute {
  index: number
  protocol: number
  /** `link` is empty. */
  route: Route
}

/** Undefined for what leads nowhere (but a blackhole), was made by the kernel, or is in another table than the main one and not ours. */
export function seenRoute({ payload }: Message): SeenRoute | undefined {
  const family = payload[0]
  const blackhole = payload[7] === RTN_BLACKHOLE
  if ((payload[7] !== RTN_UNICAST && !blackhole) || payload[5] === RTPROT_KERNEL) return undefined
  if (payload.readUInt32LE(8) & RTM_F_CLONED) return undefined
  const found = attributes(payload, 12)
  const table = found.has(15) ? number32(found, 15) : (payload[4] ?? 0)
  if (table !== MAIN && payload[5] !== ours) return undefined
  const to = found.get(1)
  const gateway = found.get(5)
  const via = found.get(18)
  const source = found.get(7)
  const metric = number32(found, 6)
  const none = family === AF_INET ? '0.0.0.0' : '::'
  const route: Route = { to: `${to ? ipText(to) : none}/${payload[1]}`, link: '' }
  if (gateway) route.via = ipText(gateway)
  else if (via) route.via = ipText(via.subarray(2))
  if (source) route.source = ipText(source)
  // 1024 is what the kernel makes of no metric in IPv6.
  if (metric !== 0 && !(family === AF_INET6 && metric === 1024)) route.metric = metric
  if (table !== MAIN) route.table = table
  if (blackhole) route.blackhole = true
  return { index: number32(found, 4), protocol: payload[5] ?? 0, route }
}

// ── source rules ──

const FRA = { SRC: 2, PRIORITY: 6, SUPPRESS_PREFIXLEN: 14, TABLE: 15, PROTOCOL: 21 } as const
const FR_ACT_TO_TBL = 1

function ruleMessage(batch: Batch, type: number, flags: number, what: What, rule: SourceRule): void {
  const from = ipBytes(rule.from)
  batch
    .message(type, flags, what)
    .u8(from.length === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u8(8 * from.length)
    .u8(0)
  batch.u8(0).u8(0).u8(0).u8(FR_ACT_TO_TBL).u32(0)
  batch.attribute(FRA.SRC, from).attribute32(FRA.PRIORITY, rule.priority)
  batch.attribute32(FRA.TABLE, rule.table ?? MAIN).attribute8(FRA.PROTOCOL, ours)
  if (rule.exceptDefault) batch.attribute32(FRA.SUPPRESS_PREFIXLEN, 0)
}

/** The kernel would take the same rule twice. */
export const newRule = (batch: Batch, what: What, rule: SourceRule): void =>
  ruleMessage(batch, NEWRULE, CREATE | EXCL, what, rule)

export const deleteRule = (batch: Batch, what: What, rule: SourceRule): void =>
  ruleMessage(batch, DELRULE, 0, what, rule)

export const dumpRules = (family: number): Batch =>
  new Batch().message(GETRULE, DUMP, 'list rules').u8(family).u8(0).u8(0).u8(0).u32(0).u32(0)

/** Undefined for what is not one of ours. */
export function seenRule({ payload }: Message): SourceRule | undefined {
  const found = attributes(payload, 12)
  const from = found.get(FRA.SRC)
  if (found.get(FRA.PROTOCOL)?.[0] !== ours || !from) return undefined
  const table = found.has(FRA.TABLE) ? number32(found, FRA.TABLE) : (payload[4] ?? 0)
  // All ones: nothing is left out.
  const exceptDefault = found.has(FRA.SUPPRESS_PREFIXLEN) && number32(found, FRA.SUPPRESS_PREFIXLEN) === 0
  return {
    priority: number32(found, FRA.PRIORITY),
    from: ipText(from),
    ...(table === MAIN ? {} : { table }),
    ...(exceptDefault ? { exceptDefault } : {}),
  }
}

// ── neighbours and forwarding entries ──

const NUD_NOARP = 0x40
const NUD_PERMANENT = 0x80
const NTF_SELF = 2
const NTF_MASTER = 4
const everyone = '00:00:00:00:00:00'

function neighbourMessage(
  batch: Batch,
  type: number,
  flags: number,
  what: What,
  index: number,
  n: Neighbour,
): void {
  const bytes = ipBytes(n.address)
  batch
    .message(type, flags, what)
    .u32(bytes.length === 4 ? AF_INET : AF_INET6)
    .u32(index)
  batch.u16(NUD_PERMANENT).u16(0).attribute(1, bytes)
  if (type === NEWNEIGH) batch.attribute(2, macBytes(n.mac))
}

export const newNeighbour = (batch: Batch, what: What, index: number, n: Neighbour): void =>
  neighbourMessage(batch, NEWNEIGH, CREATE | REPLACE, what, index, n)

export const deleteNeighbour = (batch: Batch, what: What, index: number, n: Neighbour): void =>
  neighbourMessage(batch, DELNEIGH, 0, what, index, n)

function forwardingMessage(
  batch: Batch,
  type: number,
  flags: number,
  what: What,
  index: number,
  f: Forwarding,
): void {
  const self = f.endpoint !== undefined
  batch.message(type, flags, what).u32(AF_BRIDGE).u32(index)
  // A bridge takes "permanent" as its own address; "noarp" is what bridge(8) calls static.
  batch
    .u16(self ? NUD_PERMANENT : NUD_NOARP)
    .u8(self ? NTF_SELF : NTF_MASTER)
    .u8(0)
  batch.attribute(2, macBytes(f.mac))
  if (f.endpoint !== undefined) batch.attribute(1, ipBytes(f.endpoint))
}

export const newForwarding = (batch: Batch, what: What, index: number, f: Forwarding): void =>
  forwardingMessage(batch, NEWNEIGH, CREATE | (f.mac === everyone ? APPEND : REPLACE), what, index, f)

export const deleteForwarding = (batch: Batch, what: What, index: number, f: Forwarding): void =>
  forwardingMessage(batch, DELNEIGH, 0, what, index, f)

export const dumpNeighbours = (family: number): Batch =>
  new Batch().message(GETNEIGH, DUMP, 'list neighbours').u32(family).u32(0).u16(0).u16(0)

export interface SeenNeighbour {
  index: number
  address: string
  mac: string
}

/** Undefined for what was resolved and not set. */
export function seenNeighbour({ payload }: Message): SeenNeighbour | undefined {
  const found = attributes(payload, 12)
  const address = found.get(1)
  if (!(payload.readUInt16LE(8) & NUD_PERMANENT) || !address) return undefined
  const mac = found.get(2)
  return { index: payload.readUInt32LE(4), address: ipText(address), mac: mac ? macText(mac) : '' }
}

export interface SeenForwarding {
  index: number
  mac: string
  endpoint?: string
}

/** Undefined for what was learned and not set. */
export function seenForwarding({ payload }: Message): SeenForwarding | undefined {
  const found = attributes(payload, 12)
  const mac = found.get(2)
  if (!mac) return undefined
  const state = payload.readUInt16LE(8)
  const endpoint = found.get(1)
  if (found.has(9)) {
    if (!(state & NUD_NOARP)) return undefined
    return { index: payload.readUInt32LE(4), mac: macText(mac) }
  }
  if (!endpoint || !(state & NUD_PERMANENT)) return undefined
  return { index: payload.readUInt32LE(4), mac: macText(mac), endpoint: ipText(endpoint) }
}
