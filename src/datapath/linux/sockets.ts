import { Fault } from '../../lib/fault.ts'
import { errnoName } from '../../lib/libc.ts'
import { ipBytes, ipText } from './bytes.ts'
import { inside } from './netns.ts'
import { AF_INET, AF_INET6 } from './route.ts'
import * as sys from './syscall.ts'

/**
 * Sockets in any network namespace, for those who want to send real packets
 * from a pod, forge a frame, or see what crosses a switch port. A socket
 * stays in the namespace it was opened in; the caller's thread does not.
 */

export interface UdpSocket {
  /** The local port. */
  readonly port: number
  /** Throws a `kernel` fault when the kernel refuses: no route, not permitted. */
  send(address: string, port: number, data: Uint8Array): void
  /** The next datagram, or undefined after `timeoutMs`. */
  receive(timeoutMs: number): Promise<{ data: Buffer; address: string; port: number } | undefined>
  close(): void
}

export interface PacketSocket {
  /** Puts an Ethernet frame on the wire as it is. */
  send(frame: Uint8Array): void
  /** The next frame that passes the interface in either direction, or undefined after `timeoutMs`. */
  receive(timeoutMs: number): Promise<Frame | undefined>
  /** Every frame that has passed and was not received yet. */
  drain(): Frame[]
  close(): void
}

export interface Frame {
  data: Buffer
  /** Sent by this machine through the interface, not received on it. */
  outgoing: boolean
}

const SOL_SOCKET = 1
const SO_BROADCAST = 6
const SO_BINDTODEVICE = 25
const SO_RCVBUFFORCE = 33
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const IPV6_MTU_DISCOVER = 23
const IPV6_TRANSPARENT = 75
const IP_MTU_DISCOVER = 10
const IP_TRANSPARENT = 19
const PMTUDISC_DO = 2
const AF_PACKET = 17
const SOCK_DGRAM = 2
const SOCK_RAW = 3
const ETH_P_ALL = 3
const PACKET_OUTGOING = 4
const SIOCGIFINDEX = 0x8933

/** A UDP socket inside the namespace at `netns`. Without `address` it is bound to any; `family` is 4 unless that or `address` says 6. */
export function udpSocket(
  netns: string,
  options: {
    address?: string
    port?: number
    device?: string
    family?: 4 | 6
    /** `address` need not be the namespace's own: the sender is forged. */
    foreign?: boolean
    dontFragment?: boolean
  } = {},
): UdpSocket {
  const v6 = options.family === 6 || options.address?.includes(':') === true
  const fd = inside(netns, () => sys.socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | sys.SOCK_NONBLOCK, 0))
  try {
    sys.setOption(fd, SOL_SOCKET, SO_BROADCAST, 1)
    if (v6) sys.setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    if (options.foreign)
      v6 ? sys.setOption(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1) : sys.setOption(fd, 0, IP_TRANSPARENT, 1)
    if (options.dontFragment)
      v6
        ? sys.setOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        : sys.setOption(fd, 0, IP_MTU_DISCOVER, PMTUDISC_DO)
    if (
      options.device !== undefined &&
      !sys.setOption(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(options.device))
    )
      throw new Fault('kernel', `bind a socket to ${options.device}`, 'there is no such device')
    sys.bind(fd, internetAddress(options.address ?? (v6 ? '::' : '0.0.0.0'), options.port ?? 0))
  } catch (error) {
    sys.close(fd)
    throw error
  }
  const buffer = Buffer.allocUnsafe(65536)
  return {
    port: sys.socketName(fd).readUInt16BE(2),
    send: (address, port, data) => sys.sendTo(fd, Buffer.from(data), internetAddress(address, port)),
    receive: async (timeoutMs) => {
      const found = await poll(timeoutMs, () => sys.receiveFrom(fd, buffer))
      if (!found) return undefined
      const { data, from } = found
      const address = ipText(v6 ? from.subarray(8, 24) : from.subarray(4, 8))
      return { data, address, port: from.readUInt16BE(2) }
    },
    close: () => sys.close(fd),
  }
}

/** A raw socket on interface `device` inside the namespace at `netns`: sees and sends whole frames. */
export function packetSocket(netns: string, device: string): PacketSocket {
  const protocol = Buffer.alloc(2)
  protocol.writeUInt16BE(ETH_P_ALL)
  const fd = inside(netns, () => sys.socket(AF_PACKET, SOCK_RAW | sys.SOCK_NONBLOCK, 0))
  const address = Buffer.alloc(20)
  try {
    const request = Buffer.alloc(40)
    request.write(device, 0, 15)
    const code = sys.ioctl(fd, SIOCGIFINDEX, request)
    if (code !== 0) throw new Fault('kernel', `listen on ${device}`, errnoName(code))
    address.writeUInt16LE(AF_PACKET, 0)
    protocol.copy(address, 2)
    address.writeInt32LE(request.readInt32LE(16), 4)
    sys.setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    sys.bind(fd, address)
  } catch (error) {
    sys.close(fd)
    throw error
  }
  const buffer = Buffer.allocUnsafe(65536)
  const next = (): Frame | undefined => {
    const found = sys.receiveFrom(fd, buffer)
    return found && { data: found.data, outgoing: found.from[10] === PACKET_OUTGOING }
  }
  return {
    send: (frame) => sys.sendTo(fd, Buffer.from(frame), address),
    receive: (timeoutMs) => poll(timeoutMs, next),
    drain: () => {
      const frames: Frame[] = []
      for (let frame = next(); frame; frame = next()) frames.push(frame)
      return frames
    },
    close: () => sys.close(fd),
  }
}

function internetAddress(address: string, port: number): Buffer {
  const bytes = ipBytes(address)
  const v4 = bytes.length === 4
  const name = Buffer.alloc(v4 ? 16 : 28)
  name.writeUInt16LE(v4 ? AF_INET : AF_INET6, 0)
  name.writeUInt16BE(port, 2)
  name.set(bytes, v4 ? 4 : 8)
  return name
}

async function poll<T>(timeoutMs: number, next: () => T | undefined): Promise<T | undefined> {
  const until = performance.now() + timeoutMs
  for (;;) {
    const found = next()
    if (found !== undefined || performance.now() >= until) return found
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
