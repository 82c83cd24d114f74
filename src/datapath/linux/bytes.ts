import { Fault } from '../../lib/fault.ts'
import { addressFromBytes, bytesOf, formatAddress, parseAddress } from '../../lib/ip.ts'

/** Addresses of the plan as the kernel wants them, and back. */

/** 4 or 16 bytes. */
export function ipBytes(text: string): Uint8Array {
  const v4 = ipv4Bytes(text)
  if (v4) return v4
  const address = parseAddress(text)
  if (!address) throw new Fault('invalid', 'render a plan', `${text} is not an address`)
  return bytesOf(address)
}

/** Most addresses by far, without a list of parts. Undefined for what is not four numbers with dots between them. */
function ipv4Bytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4)
  let [part, number] = [0, 0]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === dot && part < 3) {
      bytes[part++] = number
      number = 0
    } else if (code >= zero && code <= nine) number = 10 * number + code - zero
    else return undefined
  }
  bytes[3] = number
  return part === 3 ? bytes : undefined
}

const [dot, zero, nine] = [46, 48, 57]

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
