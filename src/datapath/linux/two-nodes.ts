import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { familyOf } from '../../lib/ip.ts'
import { macBytes } from '../../lib/mac.ts'
import { emptyNamespace, type NamespacePlan } from '../../plan/node-plan.ts'
import type { Bench, Datagram, RawFrame, Seen } from '../conformance.ts'
import { type NodeName, nicAddress } from '../conformance-plan.ts'
import type { Datapath } from '../port.ts'
import { ipBytes } from './bytes.ts'
import { describeForeign, makeForeign } from './foreign.ts'
import { linuxDatapath } from './linux.ts'
import { applyNamespaces } from './namespaces.ts'
import { Batch, NETLINK_ROUTE, Netlink } from './netlink.ts'
import { createNamespace, inside, removeNamespace } from './netns.ts'
import * as rt from './route.ts'
import { type PacketSocket, packetSocket, type UdpSocket, udpSocket } from './sockets.ts'

/** The conformance suite's two nodes on this kernel: a network namespace each, and one with a switch per physical network. */
export async function twoNodes(): Promise<Bench> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
  const nodes = ['n1', 'n2'] as const
  const path = (name: string) => join(dir, name)
  const runDir = (node: NodeName) => join(dir, `run-${node}`)
  for (const name of [...nodes, 'switch']) createNamespace(path(name))
  const paths = Object.fromEntries([...nodes, 'switch'].map((name) => [name, path(name)]))
  applyNamespaces(wiring(nodes), paths)
  const start = (node: NodeName) => linuxDatapath({ runDir: runDir(node), hostNetns: path(node) })
  const datapaths = new Map<NodeName, Datapath>()
  for (const node of nodes) datapaths.set(node, await start(node))
  const pods = new Set<string>()
  let podCount = 0

  const where = (place: string): string => {
    const match = /^node:(n[12])(?:\/(.+))?$/.exec(place)
    if (!match) return place
    const [, node, name] = match as unknown as [string, NodeName, string | undefined]
    return name === undefined ? path(node) : join(runDir(node), 'netns', name)
  }
  const nameOf = (netns: string): string => {
    const node = nodes.find((n) => path(n) === netns)
    return node ? `node:${node}` : netns
  }
  const ports = nodes.flatMap((node) => ['eth1', 'eth2'].map((nic) => ({ node, nic })))

  /** Listens everywhere, lets `act` send bytes with the payload, and says where they came and what they crossed. */
  async function observe(payload: Buffer, port: number, act: () => void): Promise<Seen> {
    const sockets: { at: string; socket: UdpSocket }[] = []
    const wires: { at: string[]; socket: PacketSocket }[] = []
    try {
      for (const netns of [...nodes.map(path), ...pods])
        for (const family of [4, 6] as const)
          sockets.push({ at: nameOf(netns), socket: udpSocket(netns, { port, family }) })
      // At the switch's end of the wire: what macvlans of one NIC send each other shows at the NIC, but does not leave it.
      for (const { node, nic } of ports) {
        const at = [`${node}/${nic}`, nic === 'eth1' ? 'phy-net0' : 'phy-net1']
        wires.push({ at, socket: packetSocket(path('switch'), `${node}-${nic}`) })
      }
      try {
        act()
      } catch {
        return { received: [], crossed: [] }
      }
      const received = new Set<string>()
      const crossed = new Set<string>()
      let until = performance.now() + 250
      while (performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        for (const { at, socket } of sockets) {
          const found = await socket.receive(0)
          if (!found?.data.equals(payload) || received.has(at)) continue
          received.add(at)
          until = Math.min(until, performance.now() + 40)
        }
        for (const { at, socket } of wires)
          if (socket.drain().some((frame) => frame.data.includes(payload)))
            for (const name of at) crossed.add(name)
      }
      return { received: [...received].sort(), crossed: [...crossed].sort() }
    } finally {
      for (const { socket } of [...sockets, ...wires]) socket.close()
    }
  }

  return {
    datapath: (node) => datapaths.get(node)!,
    async restart(node) {
      await datapaths.get(node)!.close()
      datapaths.set(node, await start(node))
    },
    async addPod(node, name) {
      const netns = path(`pod-${node}-${name}-${++podCount}`)
      createNamespace(netns)
      pods.add(netns)
      return netns
    },
    async removePod(netns) {
      pods.delete(netns)
      removeNamespace(netns)
    },
    async send(from, datagram) {
      const port = 20000 + (randomBytes(2).readUInt16BE() % 20000)
      const v6 = datagram.to.includes(':')
      const payload = randomBytes((datagram.size ?? 100) - (v6 ? 48 : 28))
      return observe(payload, port, () => sendDatagram(where(from), datagram, port, payload))
    },
    async sendFrame(from, link, frame) {
      const port = 20000 + (randomBytes(2).readUInt16BE() % 20000)
      const payload = 'arp' in frame ? Buffer.from(arpOf(frame.arp)) : randomBytes(60)
      return observe(payload, port, () => {
        const socket = packetSocket(where(from), link)
        socket.send(frameOf(frame, port, payload))
        socket.close()
      })
    },
    async loseLink(place, link) {
      change(where(place), (batch) => rt.deleteLink(batch, `delete ${link}`, link))
    },
    async loseAddress(place, link, address) {
      change(where(place), (batch, index) =>
        rt.deleteAddress(batch, `delete ${address}`, index(link), address),
      )
    },
    async setNic(node, nic, state) {
      change(path(node), (batch) => rt.setLink(batch, `set ${nic}`, { name: nic, up: state === 'up' }))
    },
    addForeign: async (node) => makeForeign(path(node)),
    async listen(node, port) {
      const socket = udpSocket(path(node), { family: 4, port })
      return () => socket.close()
    },
    foreign: async (node) => describeForeign(path(node)),
    async namespaces(node) {
      return readdirSync(join(runDir(node), 'netns')).sort()
    },
    async close() {
      for (const datapath of datapaths.values()) await datapath.close()
      for (const netns of pods) removeNamespace(netns)
      for (const node of nodes)
        for (const name of readdirSync(join(runDir(node), 'netns')))
          removeNamespace(join(runDir(node), 'netns', name))
      for (const name of [...nodes, 'switch']) removeNamespace(path(name))
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function wiring(nodes: readonly NodeName[]): NamespacePlan[] {
  const nics = ['eth1', 'eth2'] as const
  return [
    {
      ...emptyNamespace('switch'),
      links: nics.flatMap((nic) => [
        { kind: 'bridge' as const, name: `br-${nic}`, mtu: 1500 },
        ...nodes.map((node) => ({
          kind: 'veth' as const,
          name: `${node}-${nic}`,
          mtu: 1500,
          bridge: `br-${nic}`,
          peer: { netns: node, name: nic },
        })),
      ]),
    },
    ...nodes.map((node) => ({
      ...emptyNamespace(node),
      addresses: nics.map((nic) => ({ link: nic, address: `${nicAddress(node, nic)}/24` })),
    })),
  ]
}

function change(netns: string, fill: (batch: Batch, index: (link: string) => number) => void): void {
  const netlink = inside(netns, () => new Netlink(NETLINK_ROUTE))
  try {
    const index = (link: string) => {
      const batch = new Batch()
      rt.getLink(batch, `find ${link}`, link)
      return netlink.send(batch).map(rt.seenLink)[0]!.index
    }
    const batch = new Batch()
    fill(batch, index)
    netlink.send(batch)
  } finally {
    netlink.close()
  }
}

function sendDatagram(netns: string, { to, source }: Datagram, port: number, payload: Buffer): void {
  const family = familyOf(to)
  const socket = udpSocket(netns, {
    family,
    address: source,
    foreign: source !== undefined,
    dontFragment: true,
  })
  try {
    socket.send(to, port, payload)
  } finally {
    socket.close()
  }
}

// ── frames by hand ──

function frameOf(frame: RawFrame, port: number, payload: Buffer): Buffer {
  const ether = Buffer.concat([macBytes(frame.etherDestination), macBytes(frame.etherSource)])
  if ('arp' in frame) return Buffer.concat([ether, Buffer.from([8, 6]), payload])
  const source = Buffer.from(ipBytes(frame.source))
  const to = Buffer.from(ipBytes(frame.to))
  const udp = Buffer.alloc(8)
  udp.writeUInt16BE(40000, 0)
  udp.writeUInt16BE(port, 2)
  udp.writeUInt16BE(8 + payload.length, 4)
  const pseudo = Buffer.concat([source, to, Buffer.from([0, 17]), udp.subarray(4, 6), udp, payload])
  udp.writeUInt16BE(checksum(pseudo) || 0xffff, 6)
  if (source.length === 4) {
    const ip = Buffer.from([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, ...source, ...to])
    ip.writeUInt16BE(28 + payload.length, 2)
    ip.writeUInt16BE(checksum(ip), 10)
    return Buffer.concat([ether, Buffer.from([8, 0]), ip, udp, payload])
  }
  const ip = Buffer.from([0x60, 0, 0, 0, 0, 0, 17, 64, ...source, ...to])
  ip.writeUInt16BE(8 + payload.length, 4)
  return Buffer.concat([ether, Buffer.from([0x86, 0xdd]), ip, udp, payload])
}

function arpOf(arp: { operation: string; senderMac: string; senderIp: string; targetIp: string }): number[] {
  const operation = arp.operation === 'request' ? 1 : 2
  const sender = [...macBytes(arp.senderMac), ...ipBytes(arp.senderIp)]
  return [0, 1, 8, 0, 6, 4, 0, operation, ...sender, 0, 0, 0, 0, 0, 0, ...ipBytes(arp.targetIp)]
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
