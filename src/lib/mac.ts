import { createHash } from 'node:crypto'
import { type Address, bytesOf } from './ip.ts'

/**
 * MAC addresses, as lower-case text with colons. All that Polynet makes are
 * locally administered unicast (IEEE 802: second-lowest bit of the first byte
 * set, lowest clear).
 */

/** The MAC of every gateway of every network on every node; it never crosses a tunnel. */
export const gatewayMac = '0a:58:a9:fe:01:01'

/**
 * The MAC of the interface that holds `address`: for IPv4 the address itself
 * behind a fixed pair (the `0a:58` that other plugins use too), for IPv6 a
 * hash. Forwarding entries on other nodes follow from addresses alone.
 */
export function macOf(address: Address): string {
  if (address.family === 4) return text([0x0a, 0x58, ...bytesOf(address)])
  const hash = createHash('sha256').update(address.value.toString(16)).digest()
  return text([0x0a, 0x56, ...hash.subarray(0, 4)])
}

/** The MAC of a node's tunnel device in one network, from the node's tunnel address. */
export function tunnelMac(address: Address): string {
  if (address.family === 4) return text([0x0a, 0x54, ...bytesOf(address)])
  const hash = createHash('sha256')
    .update(`tunnel ${address.value.toString(16)}`)
    .digest()
  return text([0x0a, 0x52, ...hash.subarray(0, 4)])
}

/** Whether a MAC in canonical form is one of those above: some address's, or every gateway's. */
export const isDerived = (mac: string): boolean => /^0a:5[2468]:/.test(mac)

/** The MAC that `input` writes, in canonical form, or undefined. Takes `:` and `-`; no multicast, not zero. */
export function parseMac(input: string): string | undefined {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(input)) return undefined
  const mac = input.toLowerCase().replaceAll('-', ':')
  if (Number.parseInt(mac.slice(0, 2), 16) & 1 || mac === '00:00:00:00:00:00') return undefined
  return mac
}

/** Of a MAC in canonical form. */
export function macBytes(mac: string): Uint8Array {
  const bytes = new Uint8Array(6)
  for (let i = 0; i < 6; i++) bytes[i] = 16 * digit(mac.charCodeAt(3 * i)) + digit(mac.charCodeAt(3 * i + 1))
  return bytes
}

/** What the character of a hexadecimal digit says: 0 to 9, or a to f in either case. */
const digit = (code: number): number => (code < 58 ? code - 48 : (code & 7) + 9)

const text = (parts: number[]): string => parts.map((p) => p.toString(16).padStart(2, '0')).join(':')
