import { randomBytes } from 'node:crypto'
import { packetSocket, type UdpSocket, udpSocket } from '../src/datapath/linux/sockets.ts'
import { gatewayMac } from '../src/lib/mac.ts'
import { udpFrame } from './frame.ts'
import type { Sent } from './place.ts'
import type { Endpoint } from './reach.ts'

/** Somewhere that a packet may arrive, and the namespace it is. */
export interface Listener {
  name: string
  netns: string
}

const port = 20778
const waitMs = 300

/**
 * Sends one UDP packet from the endpoint's interface, as a process with
 * NET_RAW can where anything of it is forged, and says who got it.
 */
export async function sendOne(
  from: Endpoint,
  netns: string,
  sent: Sent,
  listeners: Listener[],
): Promise<string[]> {
  const payload = Buffer.from(`polynet-send-${randomBytes(8).toString('hex')}`)
  const v6 = sent.to.includes(':')
  const own = from.addresses.find((address) => address.includes(':') === v6)
  const ears: { name: string; socket: UdpSocket }[] = []
  try {
    for (const { name, netns } of listeners)
      for (const family of [4, 6] as const) ears.push({ name, socket: udpSocket(netns, { port, family }) })
    try {
      if (sent.source ?? sent.mac ?? sent.toMac) sendFrame(from, netns, sent, payload)
      else sendDatagram(from, netns, sent, payload)
    } catch {
      // What the kernel does not send, nobody gets.
      return []
    }
    const got = new Set<string>()
    for (const until = performance.now() + waitMs; performance.now() < until; ) {
      for (const { name, socket } of ears) if ((await socket.receive(0))?.data.equals(payload)) got.add(name)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    return [...got].sort()
  } finally {
    for (const { socket } of ears) socket.close()
  }

  function sendDatagram(from: Endpoint, netns: string, { to }: Sent, payload: Buffer): void {
    const socket = udpSocket(netns, { device: from.interface, address: own, family: v6 ? 6 : 4 })
    try {
      socket.send(to, port, payload)
    } finally {
      socket.close()
    }
  }

  function sendFrame(from: Endpoint, netns: string, sent: Sent, payload: Buffer): void {
    const socket = packetSocket(netns, from.interface)
    try {
      socket.send(
        udpFrame({
          etherSource: sent.mac ?? from.mac ?? gatewayMac,
          etherDestination: sent.toMac ?? gatewayMac,
          source: sent.source ?? own ?? (v6 ? '::' : '0.0.0.0'),
          destination: sent.to,
          port,
          payload,
        }),
      )
    } finally {
      socket.close()
    }
  }
}
