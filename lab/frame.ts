import { bytesOf, parseAddress } from '../src/lib/ip.ts'
import { macBytes } from '../src/lib/mac.ts'

/** A UDP packet with everything in it as its sender pleases. */
export interface UdpFrame {
  etherSource: string
  etherDestination: string
  source: string
  destination: string
  port: number
  payload: Buffer
}

/** Its bytes, from the Ethernet header on, with the checksums right: nothing but who it claims to be from is wrong. */
export function udpFrame(frame: UdpFrame): Buffer {
  const source = Buffer.from(bytesOf(parseAddress(frame.source)!))
  const destination = Buffer.from(bytesOf(parseAddress(frame.destination)!))
  const v4 = source.length === 4
  const udp = Buffer.alloc(8 + frame.payload.length)
  udp.writeUInt16BE(frame.port, 0)
  udp.writeUInt16BE(frame.port, 2)
  udp.writeUInt16BE(udp.length, 4)
  frame.payload.copy(udp, 8)
  const pseudo = Buffer.from([0, 17, udp.length >> 8, udp.length & 255])
  udp.writeUInt16BE(checksum(Buffer.concat([source, destination, pseudo, udp])) || 0xffff, 6)
  const ethernet = Buffer.concat([
    macBytes(frame.etherDestination),
    macBytes(frame.etherSource),
    Buffer.from(v4 ? [0x08, 0x00] : [0x86, 0xdd]),
  ])
  const header = v4 ? ipv4(source, destination, udp.length) : ipv6(source, destination, udp.length)
  return Buffer.concat([ethernet, header, udp])
}

function ipv4(source: Buffer, destination: Buffer, length: number): Buffer {
  const header = Buffer.alloc(20)
  header[0] = 0x45
  header.writeUInt16BE(20 + length, 2)
  header[8] = 64
  header[9] = 17
  source.copy(header, 12)
  destination.copy(header, 16)
  header.writeUInt16BE(checksum(header), 10)
  return header
}

function ipv6(source: Buffer, destination: Buffer, length: number): Buffer {
  const header = Buffer.alloc(40)
  header[0] = 0x60
  header.writeUInt16BE(length, 4)
  header[6] = 17
  header[7] = 64
  source.copy(header, 8)
  destination.copy(header, 24)
  return header
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
