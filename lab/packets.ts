import { randomBytes } from 'node:crypto'
import { inside } from '../src/datapath/linux/netns.ts'
import {
  bind,
  close,
  MSG_DONTWAIT,
  receive,
  receiveFrom,
  SOCK_NONBLOCK,
  sendTo,
  setOption,
  socket,
} from '../src/datapath/linux/syscall.ts'
import { Fault } from '../src/lib/fault.ts'
import { bytesOf, type Family, parseAddress } from '../src/lib/ip.ts'
import { type Bound, type Endpoint, type Probe, questionsFor } from './reach.ts'

const AF_INET = 2
const AF_INET6 = 10
const AF_PACKET = 17
const SOCK_DGRAM = 2
const SOCK_RAW = 3
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_BINDTODEVICE = 25
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const ETH_P_ALL = 0x0003

/** Where everyone listens while packets are sent: above what pods use and below ephemeral ports. */
const port = 20777
/** Packets that were lost while a neighbour was found are sent again after this long. */
const againMs = 150
/** With nothing new for this long, who has not answered does not answer. */
const quietMs = 400

/** An endpoint and the namespace its pod lives in. */
export interface Placed {
  endpoint: Endpoint
  netns: string
}

/** A switch and the namespace it lives in. */
export interface Watched {
  nic: string
  netns: string
}

interface Ear {
  fd: number
  family: Family
  placed: Placed
}

/**
 * Sends a UDP packet from every interface to every address of every other
 * pod, held to that interface as `bound` says; whoever gets one answers with its
 * own name, so that pods that have the same address in two networks are told
 * apart. Every frame on the switches is looked at meanwhile.
 */
export async function probeAll(
  all: Placed[],
  switches: Watched[],
  bound: Bound = 'interface',
): Promise<Probe[]> {
  const round = `polynet-probe-${randomBytes(6).toString('hex')}-`
  const ears: Ear[] = []
  const watches: { nic: string; fd: number }[] = []
  try {
    for (const placed of all) openEars(placed, ears, bound)
    for (const { nic, netns } of switches) watches.push({ nic, fd: inside(netns, packetSocket) })
    const probes: Probe[] = questionsFor(all.map(({ endpoint }) => endpoint)).map((q) => ({
      ...q,
      switches: [],
    }))
    const ask = (probe: Probe, i: number) => {
      const to = parseAddress(probe.address)
      const ear = ears.find((each) => each.placed.endpoint === probe.from && each.family === to?.family)
      if (to && ear) trySend(ear.fd, `${round}${i}.ask`, socketAddress(probe.address, port))
    }
    probes.forEach(ask)
    await listen(round, ears, watches, probes, ask)
    return probes
  } finally {
    for (const { fd } of [...ears, ...watches]) close(fd)
  }
}

async function listen(
  round: string,
  ears: Ear[],
  watches: { nic: string; fd: number }[],
  probes: Probe[],
  ask: (probe: Probe, i: number) => void,
): Promise<void> {
  const buffer = Buffer.alloc(65536)
  const start = performance.now()
  let last = start
  let asked = 1
  for (;;) {
    let heard = false
    for (const ear of ears) heard = hear(round, ear, probes, buffer) || heard
    for (const watch of watches) see(round, watch, probes, buffer)
    const now = performance.now()
    if (heard) last = now
    else if (probes.every((probe) => probe.answeredBy !== undefined)) return
    else if (now - last > quietMs && asked > 1) return
    if (asked === 1 && now - start > againMs) {
      asked++
      probes.forEach((probe, i) => {
        if (probe.answeredBy === undefined) ask(probe, i)
      })
    }
    await new Promise((resolve) => setTimeout(resolve, heard ? 0 : 5))
  }
}

/** Answers questions and takes answers; whether there was any. */
function hear(round: string, ear: Ear, probes: Probe[], buffer: Buffer): boolean {
  let any = false
  for (let got = receiveFrom(ear.fd, buffer); got; got = receiveFrom(ear.fd, buffer)) {
    const text = got.data.toString('latin1')
    if (!text.startsWith(round)) continue
    any = true
    const [index = '', kind, ...who] = text.slice(round.length).split('.')
    const probe = probes[Number(index)]
    if (!probe) continue
    if (kind === 'ask') trySend(ear.fd, `${round}${index}.is.${ear.placed.endpoint.pod}`, got.from)
    else if (ear.placed.endpoint === probe.from) probe.answeredBy = who.join('.')
  }
  return any
}

/** Notes which questions and answers went through this switch, inside a tunnel or not. */
function see(round: string, watch: { nic: string; fd: number }, probes: Probe[], buffer: Buffer): void {
  for (;;) {
    const length = receive(watch.fd, buffer, MSG_DONTWAIT)
    if (length <= 0) return
    const at = buffer.subarray(0, length).indexOf(round)
    if (at < 0) continue
    const digits = /^\d+/.exec(buffer.toString('latin1', at + round.length, at + round.length + 12))
    const probe = digits && probes[Number(digits[0])]
    if (probe && !probe.switches.includes(watch.nic)) probe.switches.push(watch.nic)
  }
}

/** A pod or an interface that is going away has none, or fewer. */
function openEars(placed: Placed, ears: Ear[], bound: Bound): void {
  const { addresses, interface: device } = placed.endpoint
  for (const family of [4, 6] as const) {
    const address = addresses.find((each) => parseAddress(each)?.family === family)
    if (address === undefined) continue
    try {
      const to = bound === 'address' ? { address } : { device }
      ears.push({ family, placed, fd: inside(placed.netns, () => ear(family, to)) })
    } catch {}
  }
}

function ear(family: Family, { address, device }: { address?: string; device?: string }): number {
  const fd = socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0)
  try {
    if (family === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    if (device !== undefined && !setOption(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${device}\0`)))
      throw new Fault('missing', `listen on ${device}`, 'there is no such interface')
    bind(fd, socketAddress(address ?? (family === 4 ? '0.0.0.0' : '::'), port))
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Sees every frame of every interface in the namespace. */
function packetSocket(): number {
  // packet(7): the protocol in network byte order.
  const fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8))
  setOption(fd, SOL_SOCKET, SO_RCVBUF, 4 << 20)
  return fd
}

/** What cannot be sent is not answered. */
function trySend(fd: number, text: string, to: Buffer): void {
  try {
    sendTo(fd, Buffer.from(text), to)
  } catch {}
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(text: string, port: number): Buffer {
  const address = parseAddress(text)!
  const bytes = Buffer.alloc(address.family === 4 ? 16 : 28)
  bytes.writeUInt16LE(address.family === 4 ? AF_INET : AF_INET6, 0)
  bytes.writeUInt16BE(port, 2)
  bytes.set(bytesOf(address), address.family === 4 ? 4 : 8)
  return bytes
}
