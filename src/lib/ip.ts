import { isIPv6 } from 'node:net'

/**
 * IP addresses and prefixes as numbers. Text is canonical: IPv4 dotted quads,
 * IPv6 as RFC 5952 writes it, so that equal addresses are equal strings.
 */
export type Family = 4 | 6

/** The MTU that every link has at least that carries the family (RFC 791, RFC 8200 section 5). */
export const leastMtu = { 4: 68, 6: 1280 } as const

export interface Address {
  family: Family
  value: bigint
}

export interface Prefix {
  family: Family
  /** First address of the prefix; host bits are zero. */
  value: bigint
  length: number
}

/** Of a text that is known to be an address or a prefix. */
export const familyOf = (text: string): Family => (text.includes(':') ? 6 : 4)

export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128)

/** The prefix that has this address and no other, both as text: see `hostPrefix`. */
export const hostPrefixOf = (address: string): string => `${address}/${bitsOf(familyOf(address))}`

/** The address that `text` writes, or undefined. Takes no zone, no prefix, no leading zeros in IPv4. */
export function parseAddress(text: string): Address | undefined {
  const value = quads(text)
  if (value !== undefined) return { family: 4, value: BigInt(value) }
  if (!isIPv6(text) || text.includes('%')) return undefined
  return { family: 6, value: groups(text) }
}

/** Read by character: every plan reads the addresses of every other node. */
function quads(text: string): number | undefined {
  if (text.length > 15) return undefined
  let value = 0
  let part = -1
  let dots = 0
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48
    if (digit >= 0 && digit <= 9) {
      // No leading zeros.
      if (part === 0) return undefined
      part = part < 0 ? digit : part * 10 + digit
      if (part > 255) return undefined
    } else {
      if (digit !== dot || part < 0 || ++dots > 3) return undefined
      value = value * 256 + part
      part = -1
    }
  }
  return dots === 3 && part >= 0 ? value * 256 + part : undefined
}

const dot = '.'.charCodeAt(0) - 48

function groups(text: string): bigint {
  let rest = text
  const lastColon = rest.lastIndexOf(':')
  if (rest.includes('.')) {
    // RFC 4291 section 2.2.3: the last 32 bits may be written as IPv4.
    const v4 = quads(rest.slice(lastColon + 1)) ?? 0
    rest = `${rest.slice(0, lastColon + 1)}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`
  }
  const [head = '', tail] = rest.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : 8 - front.length - back.length
  let value = 0n
  for (const group of [...front, ...Array<string>(zeros).fill('0'), ...back])
    value = (value << 16n) | BigInt(Number.parseInt(group, 16))
  return value
}

export function formatAddress({ family, value }: Address): string {
  if (family === 4) {
    const n = Number(value)
    return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`
  }
  const words: number[] = []
  for (let shift = 112n; shift >= 0n; shift -= 16n) words.push(Number((value >> shift) & 0xffffn))
  return compress(words)
}

/** RFC 5952 section 4.2: the longest run of two or more zero groups, the first of equals, becomes `::`. */
function compress(words: number[]): string {
  let best = { at: -1, length: 1 }
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (i + length < 8 && words[i + length] === 0) length++
    if (length > best.length) best = { at: i, length }
    if (length > 0) i += length - 1
  }
  const hex = words.map((w) => w.toString(16))
  if (best.at < 0) return hex.join(':')
  return `${hex.slice(0, best.at).join(':')}::${hex.slice(best.at + best.length).join(':')}`
}

/** The prefix that `text` writes, with its host bits cleared, or undefined. `10.1.2.3/16` has host bits: see `hostBits`. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const address = parseAddress(text.slice(0, slash))
  const tail = text.slice(slash + 1)
  if (!address || !/^(0|[1-9][0-9]{0,2})$/.test(tail)) return undefined
  const length = Number(tail)
  if (length > bitsOf(address.family)) return undefined
  return prefixOf(address, length)
}

/** `10.1.2.3` of `10.1.2.3/16`, and of `10.1.2.3`. */
export function withoutLength(text: string): string {
  const slash = text.indexOf('/')
  return slash < 0 ? text : text.slice(0, slash)
}

/** Whether `text`, a valid prefix, names an address inside the prefix and not its first one. */
export function hostBits(text: string): boolean {
  const prefix = parsePrefix(text)
  const address = parseAddress(withoutLength(text))
  return prefix !== undefined && address !== undefined && prefix.value !== address.value
}

export const formatPrefix = (p: Prefix): string => `${formatAddress(p)}/${p.length}`

/** The prefix of `length` that `address` is in. */
export function prefixOf(address: Address, length: number): Prefix {
  const free = BigInt(bitsOf(address.family) - length)
  return { family: address.family, value: (address.value >> free) << free, length }
}

export const hostPrefix = (address: Address): Prefix => ({ ...address, length: bitsOf(address.family) })

/** How many addresses the prefix has. */
export const sizeOf = (p: Prefix): bigint => 1n << BigInt(bitsOf(p.family) - p.length)

export const lastOf = (p: Prefix): Address => ({ family: p.family, value: p.value + sizeOf(p) - 1n })

export const contains = (outer: Prefix, inner: Address | Prefix): boolean =>
  outer.family === inner.family &&
  inner.value >= outer.value &&
  inner.value + ('length' in inner ? sizeOf(inner) : 1n) <= outer.value + sizeOf(outer)

export const overlaps = (a: Prefix, b: Prefix): boolean =>
  a.family === b.family && a.value < b.value + sizeOf(b) && b.value < a.value + sizeOf(a)

export const sameAddress = (a: Address, b: Address): boolean => a.family === b.family && a.value === b.value

/** The address as its 4 or 16 bytes, network order. */
export function bytesOf({ family, value }: Address): Uint8Array {
  if (family === 4) {
    const n = Number(value)
    return Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n)
  }
  const bytes = new Uint8Array(16)
  let rest = value
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 255n)
    rest >>= 8n
  }
  return bytes
}

export function addressFromBytes(bytes: Uint8Array): Address {
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return { family: bytes.length === 4 ? 4 : 6, value }
}

/** Addresses that mean something else on each link (RFC 3927, RFC 4291 section 2.5.6). */
export const linkLocal: readonly Prefix[] = [parsePrefix('169.254.0.0/16')!, parsePrefix('fe80::/10')!]
