import { Fault } from '../../lib/fault.ts'
import { macBytes } from '../../lib/mac.ts'
import { type Element, type Field, share, type Value } from '../../plan/ruleset.ts'
import { ipBytes, ipText, macText, prefixBytes } from './bytes.ts'

/** Values of the plan's rules as bytes in a register, and back; `type` is nft(8)'s number for the data type, kept with each set. */

export interface DataType {
  type: number
  size: number
  /** In the host's order rather than the network's. */
  host?: true
  symbols?: Record<string, number>
}

const nfproto: DataType = { type: 2, size: 1, symbols: { ipv4: 2, ipv6: 10 } }
const ipv4: DataType = { type: 7, size: 4 }
const ipv6: DataType = { type: 8, size: 16 }
const ether: DataType = { type: 9, size: 6 }
const etherType: DataType = {
  type: 10,
  size: 2,
  symbols: { ip: 0x0800, arp: 0x0806, ip6: 0x86dd, vlan: 0x8100, '8021q': 0x8100, '8021ad': 0x88a8 },
}
const arpOperation: DataType = { type: 11, size: 2, symbols: { request: 1, reply: 2 } }
const protocol: DataType = {
  type: 12,
  size: 1,
  symbols: {
    icmp: 1,
    igmp: 2,
    tcp: 6,
    udp: 17,
    gre: 47,
    esp: 50,
    ah: 51,
    'ipv6-icmp': 58,
    icmpv6: 58,
    sctp: 132,
  },
}
const service: DataType = { type: 13, size: 2 }
const icmpType: DataType = {
  type: 14,
  size: 1,
  symbols: {
    'echo-reply': 0,
    'destination-unreachable': 3,
    redirect: 5,
    'echo-request': 8,
    'time-exceeded': 11,
  },
}
const mark: DataType = { type: 19, size: 4, host: true }
const ctState: DataType = {
  type: 26,
  size: 4,
  host: true,
  symbols: { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 },
}
const ctStatus: DataType = {
  type: 28,
  size: 4,
  host: true,
  symbols: { expected: 1, 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32, dying: 512 },
}
const icmpv6Type: DataType = {
  type: 29,
  size: 1,
  symbols: {
    'destination-unreachable': 1,
    'packet-too-big': 2,
    'time-exceeded': 3,
    'parameter-problem': 4,
    'echo-request': 128,
    'echo-reply': 129,
    'mld-listener-query': 130,
    'mld-listener-report': 131,
    'mld-listener-done': 132,
    'nd-router-solicit': 133,
    'nd-router-advert': 134,
    'nd-neighbor-solicit': 135,
    'nd-neighbor-advert': 136,
    'nd-redirect': 137,
    'mld2-listener-report': 143,
  },
}
const packetType: DataType = {
  type: 31,
  size: 1,
  symbols: { host: 0, unicast: 0, broadcast: 1, multicast: 2, other: 3 },
}
const fibType: DataType = {
  type: 38,
  size: 4,
  host: true,
  symbols: {
    unspec: 0,
    unicast: 1,
    local: 2,
    broadcast: 3,
    anycast: 4,
    multicast: 5,
    blackhole: 6,
    unreachable: 7,
    prohibit: 8,
  },
}
const ifname: DataType = { type: 41, size: 16, host: true }

export const dataTypes: Record<Field, DataType> = {
  iifname: ifname,
  oifname: ifname,
  'meta nfproto': nfproto,
  'meta l4proto': protocol,
  'meta pkttype': packetType,
  mark,
  'ether saddr': ether,
  'ether daddr': ether,
  'ether type': etherType,
  'arp operation': arpOperation,
  'arp saddr ether': ether,
  'arp saddr ip': ipv4,
  'ip saddr': ipv4,
  'ip daddr': ipv4,
  'ip6 saddr': ipv6,
  'ip6 daddr': ipv6,
  'icmp type': icmpType,
  'icmpv6 type': icmpv6Type,
  'icmpv6 taddr': ipv6,
  'th sport': service,
  'th dport': service,
  '@th,96,16': { type: 4, size: 2 },
  'ct state': ctState,
  'ct status': ctStatus,
  'ct mark': mark,
  'fib daddr type': fibType,
  [share]: mark,
}

const byNumber = new Map(Object.values(dataTypes).map((type) => [type.type, type]))

export const padded = (size: number): number => (size + 3) & ~3

export const keySize = (types: DataType[]): number =>
  types.length === 1 ? types[0]!.size : types.reduce((sum, type) => sum + padded(type.size), 0)

/** NFTA_SET_KEY_TYPE: six bits a part. */
export const keyType = (types: DataType[]): number => types.reduce((code, { type }) => (code << 6) | type, 0)

/** The parts of a key by that number; undefined when one of them is not ours. */
export function typesOf(code: number): DataType[] | undefined {
  const types: DataType[] = []
  for (let rest = code; rest > 0; rest >>>= 6) {
    const type = byNumber.get(rest & 63)
    if (!type) return undefined
    types.unshift(type)
  }
  return types
}

/** Throws `invalid` for what is no value of that type. */
export function valueBytes(type: DataType, value: Value): Uint8Array {
  if (type === ifname) {
    const bytes = Buffer.alloc(16)
    if (bytes.write(String(value)) > 15 || value === '') throw wrong(type, value)
    return bytes
  }
  if (type === ether) return macBytes(String(value))
  if (type === ipv4 || type === ipv6) {
    const bytes = ipBytes(String(value))
    if (bytes.length !== type.size) throw wrong(type, value)
    return bytes
  }
  const number = typeof value === 'number' ? value : (type.symbols?.[value] ?? Number(value))
  if (!Number.isInteger(number) || number < 0 || number >= 2 ** (8 * type.size)) throw wrong(type, value)
  const bytes = Buffer.alloc(type.size)
  if (type.host) bytes.writeUIntLE(number, 0, type.size)
  else bytes.writeUIntBE(number, 0, type.size)
  return bytes
}

const wrong = (type: DataType, value: Value): Fault =>
  new Fault('invalid', 'render a ruleset', `${JSON.stringify(value)} is no value of nft's type ${type.type}`)

/** Parts of a concatenation are padded to four bytes each. */
export function keyBytes(types: DataType[], key: Value[]): Buffer {
  if (key.length !== types.length)
    throw new Fault('invalid', 'render a ruleset', `element ${key.join(' . ')} has not ${types.length} parts`)
  if (types.length === 1) return Buffer.from(valueBytes(types[0]!, key[0]!))
  const bytes = Buffer.alloc(keySize(types))
  let at = 0
  for (let i = 0; i < types.length; i++) {
    bytes.set(valueBytes(types[i]!, key[i]!), at)
    at += padded(types[i]!.size)
  }
  return bytes
}

export function keyValues(types: DataType[], bytes: Buffer): Value[] {
  let at = 0
  return types.map((type) => {
    const part = bytes.subarray(at, at + type.size)
    at += padded(type.size)
    return bytesValue(type, part)
  })
}

function bytesValue(type: DataType, bytes: Buffer): Value {
  if (type === ifname) return bytes.toString('utf8').replace(/\0.*$/s, '')
  if (type === ether) return macText(bytes)
  if (type === ipv4 || type === ipv6) return ipText(bytes)
  const number = type.host ? bytes.readUIntLE(0, type.size) : bytes.readUIntBE(0, type.size)
  return Object.entries(type.symbols ?? {}).find(([, code]) => code === number)?.[0] ?? number
}

/** First and one past the last value that `value` (one, a prefix, `a-b`) covers; no `end` where that is past the largest. */
export function interval(type: DataType, value: Value): { start: Buffer; end?: Buffer } {
  const text = String(value)
  let start: Buffer
  let last: Buffer
  if (text.includes('/') && (type === ipv4 || type === ipv6)) {
    const { bytes, length } = prefixBytes(text)
    const mask = maskBytes(type.size, length)
    start = Buffer.from(bytes.map((byte, i) => byte & mask[i]!))
    last = Buffer.from(bytes.map((byte, i) => byte | (~mask[i]! & 255)))
  } else {
    const dash = typeof value === 'string' ? text.indexOf('-') : -1
    start = Buffer.from(valueBytes(type, dash < 0 ? value : text.slice(0, dash)))
    last = dash < 0 ? start : Buffer.from(valueBytes(type, text.slice(dash + 1)))
  }
  return { start, end: next(last) }
}

export const maskBytes = (size: number, length: number): Buffer =>
  Buffer.from(
    Array.from({ length: size }, (_, i) => 255 & (0xff00 >> Math.min(8, Math.max(0, length - 8 * i)))),
  )

function next(bytes: Buffer): Buffer | undefined {
  const up = Buffer.from(bytes)
  for (let i = up.length - 1; i >= 0; i--) {
    up[i] = (up[i]! + 1) & 255
    if (up[i] !== 0) return up
  }
  return undefined
}

/** Intervals that touch or overlap made one, in order. */
export function merged(list: { start: Buffer; end?: Buffer }[]): { start: Buffer; end?: Buffer }[] {
  const result: { start: Buffer; end?: Buffer }[] = []
  for (const { start, end } of [...list].sort((a, b) => Buffer.compare(a.start, b.start))) {
    const last = result.at(-1)
    if (!last || (last.end && Buffer.compare(last.end, start) < 0)) result.push({ start, end })
    else if (last.end && (!end || Buffer.compare(last.end, end) < 0)) last.end = end
  }
  return result
}

/** What identifies an element, whoever wrote it. */
export const elementId = (types: DataType[], isInterval: boolean, element: Element): string => {
  if (!isInterval) return keyBytes(types, element.key).toString('hex')
  const { start, end } = interval(types[0]!, element.key[0]!)
  return `${start.toString('hex')}-${end?.toString('hex') ?? ''}`
}
