import { Fault } from '../../lib/fault.ts'
import { addressFromBytes, bytesOf, formatAddress, parseAddress } from '../../lib/ip.ts'

/** Addresses of the plan as the kernel wants them, and back. */

/** 4 or 16 bytes. */
export function ipBytes(text: string): Uint8Array {
  if (!text.includes(':')) {
    const parts = text.split('.')
    const bytes = new Uint8Array(4)
    for (let i = 0; i < 4; i++) bytes[i] = Number(parts[i])
    if (parts.length === 4) return bytes
  }
  const address = parseAddress(text)
  if (!address) throw new Fault('invalid', 'render a plan', `${text} is not an address`)
  return bytesOf(address)
}

export function prefixBytes(text: string): { bytes: Uint8Array; length: number } {
  const slash = text.indexOf('/')
  if (slash < 0) {
    const bytes = ipBytes(text)
    return { bytes, length: bytes.length * 8 }
  }
  return { bytes: ipBytes(text.slice(0, slash)), length: Number(text.slice(slash + 1)) }
}

export const ipText = (bytes: Uint8Array): string =>
  bytes.length === 4
    ? `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
    : formatAddress(addressFromBytes(bytes))

export const macText = (bytes: Buffer): string => bytes.toString('hex').replace(/..(?!$)/g, '$&:')
