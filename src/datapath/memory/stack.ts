import {
  type Address,
  type Family,
  parseAddress,
  parsePrefix,
  prefixOf,
  withoutLength,
} from '../../lib/ip.ts'
import type {
  Forwarding,
  Link,
  NamespacePlan,
  Neighbour,
  PortPlan,
  Route,
  SourceRule,
  Vxlan,
} from '../../plan/node-plan.ts'
import type { Table } from '../../plan/ruleset.ts'
import type { Packet, TraceState } from '../../plan/trace.ts'
import { addressLine, forwardingLine, neighbourLine, routeLine, ruleLine } from '../lines.ts'
import type { Connections } from './connections.ts'
import { linkLine } from './lines.ts'
import type { FabricNic, MemoryNode } from './node.ts'

/** One network namespace as packets meet it, built from the plan when the first one does. */
export interface Stack {
  /** `node:n1`, `node:n1/pn-…`, or a pod namespace's path. */
  id: string
  /** For people: `n1/host`, `n1/pn-…`, the path. */
  label: string
  node?: MemoryNode
  devices: Map<string, Device>
  /** Each local address, and the device that has it. */
  addresses: Map<string, string>
  routing: Routing
  /** Permanent ones, by `<link> <address>`. */
  neighbours: Map<string, string>
  tables: Table[]
  sysctls: Record<string, string>
  /** Whether any rule looks at connections. */
  tracks: boolean
  memory: Memory
}

/** What a namespace learned from packets. It survives changes of the plan, as in a kernel. */
export interface Memory {
  connections: Connections
  neighbours: Map<string, string>
  /** Bridge forwarding learned from frames, by `<bridge> <mac>`: the port. */
  ports: Map<string, string>
  limits: TraceState
}

export interface Device {
  name: string
  kind: 'lo' | 'nic' | 'veth' | 'bridge' | 'vxlan' | 'macvlan' | 'ipvlan' | 'vlan' | 'dummy'
  mac: string
  mtu: number
  noarp?: boolean
  bridge?: string
  isolated?: boolean
  /** Of a veth: the other end. */
  peer?: { id: string; name: string }
  nic?: FabricNic
  vxlan?: Vxlan
  /** Of a pod's interface on a NIC. */
  parent?: FabricNic
  mode?: string
  vlan?: number
  forwarding: Forwarding[]
}

/** Rules and the tables that they lead to. What no rule finds, the main table may. */
class Routing {
  readonly #main: RouteTable
  readonly #tables: Map<number, RouteTable>
  readonly #rules: SourceRule[]

  constructor(routes: Route[], rules: SourceRule[], usable: (route: Route) => boolean) {
    const byTable = Map.groupBy(routes, ({ table }) => table ?? 0)
    this.#main = new RouteTable(byTable.get(0) ?? [], usable)
    byTable.delete(0)
    this.#tables = new Map([...byTable].map(([table, some]) => [table, new RouteTable(some, usable)]))
    this.#rules = rules.toSorted((a, b) => a.priority - b.priority)
  }

  /** `from`: the source, where it is known already; `link`: by this and no other. */
  lookup(to: Address, from: string, link?: string): { route: Route; rule?: SourceRule } | undefined {
    for (const rule of this.#rules) {
      if (rule.from !== from) continue
      const table = rule.table === undefined ? this.#main : this.#tables.get(rule.table)
      const route = table?.lookup(to, link)
      if (route && !(rule.exceptDefault && route.to.endsWith('/0'))) return { route, rule }
    }
    const route = this.#main.lookup(to, link)
    return route && { route }
  }
}

/** Longest prefix first, then lowest metric, then the order they were given in. */
class RouteTable {
  readonly #byLength: Record<Family, Map<number, Map<bigint, Route[]>>> = { 4: new Map(), 6: new Map() }
  #lengths: Record<Family, number[]> = { 4: [], 6: [] }
  #usable: (route: Route) => boolean

  constructor(routes: Route[], usable: (route: Route) => boolean) {
    this.#usable = usable
    for (const route of routes) {
      const prefix = parsePrefix(route.to)
      if (!prefix) continue
      const lengths = this.#byLength[prefix.family]
      const here = lengths.get(prefix.length) ?? new Map<bigint, Route[]>()
      lengths.set(prefix.length, here)
      here.set(prefix.value, [...(here.get(prefix.value) ?? []), route])
    }
    for (const family of [4, 6] as const)
      this.#lengths[family] = [...this.#byLength[family].keys()].sort((a, b) => b - a)
  }

  lookup(address: Address, link?: string): Route | undefined {
    for (const length of this.#lengths[address.family]) {
      const routes = this.#byLength[address.family].get(length)?.get(prefixOf(address, length).value)
      const best = routes
        ?.filter((r) => (link === undefined || r.link === link) && this.#usable(r))
        .sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))[0]
      if (best) return best
    }
    return undefined
  }
}

/** What a stack is built from; everything in it belongs to one namespace. */
interface Parts {
  devices: Device[]
  addresses: { link: string; address: string }[]
  routes: Route[]
  rules?: SourceRule[]
  neighbours: Neighbour[]
  forwarding: Forwarding[]
  tables: Table[]
  sysctls: Record<string, string>
}

const loopback: Device = { name: 'lo', kind: 'lo', mac: '00:00:00:00:00:00', mtu: 65536, forwarding: [] }

/** The host's namespace, or a network's; undefined when the node has none of that name. */
export function nodeStack(node: MemoryNode, netns: string, memory: Memory): Stack | undefined {
  const plan = node.namespaces.get(netns)
  if (!plan) return undefined
  const parts = partsOf(node, plan)
  if (netns === 'host') {
    for (const nic of node.nics.values()) {
      if (!nic.plugged || node.nicHolder(nic.name)) continue
      parts.devices.push({ name: nic.name, kind: 'nic', mac: nic.mac, mtu: nic.mtu, nic, forwarding: [] })
      for (const address of nic.addresses) parts.addresses.push({ link: nic.name, address })
    }
    append(parts, partsOf(node, node.foreign))
  }
  for (const port of node.ports.values()) if (port.netns === netns) addPort(parts, node, port)
  const id = netns === 'host' ? `node:${node.name}` : `node:${node.name}/${netns}`
  return assemble({ id, label: `${node.name}/${netns}`, node, memory }, parts)
}

/** A pod's namespace, from the ports that any node has in it. */
export function podStack(path: string, ports: { node: MemoryNode; port: PortPlan }[], memory: Memory): Stack {
  const parts: Parts = {
    devices: [],
    addresses: [],
    routes: [],
    neighbours: [],
    forwarding: [],
    tables: [],
    sysctls: {},
  }
  for (const { node, port } of ports) {
    if (node.broken.has(port.key)) continue
    const { inside, link } = port
    const device: Device = {
      name: inside.name,
      kind: 'veth',
      mac: node.macOf(port),
      mtu: inside.mtu,
      forwarding: [],
    }
    if (link.kind === 'veth') device.peer = { id: idOf(node, port.netns), name: link.name }
    else if (link.kind === 'host-device') {
      device.kind = 'nic'
      device.nic = node.nics.get(link.device) as FabricNic
    } else {
      device.kind = link.kind
      device.parent = node.nics.get(link.parent) as FabricNic
      if (link.kind === 'vlan') device.vlan = link.id
      else device.mode = link.mode
    }
    parts.devices.push(device)
    const kept = <T>(items: T[], line: (item: T) => string) => items.filter((i) => !node.lost.has(line(i)))
    append(parts, {
      devices: [],
      addresses: kept(
        inside.addresses.map((address) => ({ link: inside.name, address })),
        (a) => addressLine(path, a),
      ),
      routes: kept(inside.routes, (r) => routeLine(path, r)),
      rules: kept(inside.rules ?? [], (r) => ruleLine(path, r)),
      neighbours: kept(inside.neighbours, (n) => neighbourLine(path, n)),
      forwarding: [],
      tables: inside.tables,
      sysctls: inside.sysctls,
    })
  }
  const node = ports[0]?.node
  return assemble({ id: path, label: path, memory, ...(node ? { node } : {}) }, parts)
}

export const idOf = (node: MemoryNode, netns: string): string =>
  netns === 'host' ? `node:${node.name}` : `node:${node.name}/${netns}`

function partsOf(node: MemoryNode, plan: NamespacePlan): Parts {
  const at = plan.netns
  const kept = <T>(items: T[], line: (item: T) => string) =>
    node.lost.size === 0 ? items : items.filter((i) => !node.lost.has(line(i)))
  const devices: Device[] = []
  for (const link of kept(plan.links, (l) => linkLine(at, l))) {
    const device = deviceOf(node, link)
    if (device) devices.push(device)
  }
  for (const other of node.namespaces.values())
    for (const link of other.links)
      if (link.kind === 'veth' && link.peer.netns === at && !node.lost.has(linkLine(other.netns, link)))
        devices.push({
          name: link.peer.name,
          kind: 'veth',
          mac: link.peer.mac ?? '0a:5a:00:00:00:02',
          mtu: link.mtu,
          peer: { id: idOf(node, other.netns), name: link.name },
          forwarding: [],
        })
  return {
    devices,
    addresses: [...kept(plan.addresses, (a) => addressLine(at, a))],
    routes: [...kept(plan.routes, (r) => routeLine(at, r))],
    neighbours: [...kept(plan.neighbours, (n) => neighbourLine(at, n))],
    forwarding: [...kept(plan.forwarding, (f) => forwardingLine(at, f))],
    tables: [...plan.tables],
    sysctls: plan.sysctls,
  }
}

function deviceOf(node: MemoryNode, link: Link): Device | undefined {
  if (link.kind === 'existing') return undefined
  const device: Device = {
    name: link.name,
    kind: link.kind,
    mac: link.mac ?? '0a:5a:00:00:00:01',
    mtu: link.mtu,
    forwarding: [],
  }
  if (link.kind === 'vxlan') device.vxlan = link
  if (link.kind === 'veth') device.peer = { id: idOf(node, link.peer.netns), name: link.peer.name }
  if (link.kind !== 'bridge' && link.bridge !== undefined) device.bridge = link.bridge
  return device
}

function addPort(parts: Parts, node: MemoryNode, port: PortPlan): void {
  const { link } = port
  parts.tables = withElements(parts.tables, port)
  if (node.broken.has(port.key)) return
  if (link.kind === 'veth')
    parts.devices.push({
      name: link.name,
      kind: 'veth',
      mac: link.mac,
      mtu: port.inside.mtu,
      noarp: link.noarp,
      peer: { id: port.inside.netns, name: port.inside.name },
      forwarding: [],
      ...(link.bridge === undefined ? {} : { bridge: link.bridge }),
      ...(link.isolated ? { isolated: true } : {}),
    })
  append(parts, { ...port, devices: [], addresses: [], tables: [], sysctls: {} })
}

/** Tables are the plan's own; those that gain elements become copies, once, whose element lists may grow. */
function withElements(tables: Table[], { elements }: PortPlan): Table[] {
  for (const { family, set: name, key, verdict } of elements) {
    const at = tables.findIndex((t) => t.family === family && t.sets.some((s) => s.name === name))
    if (at < 0) continue
    let table = tables[at] as Table
    if (!copies.has(table)) {
      table = { ...table, sets: table.sets.map((s) => ({ ...s, elements: [...s.elements] })) }
      copies.add(table)
      tables[at] = table
    }
    table.sets.find((s) => s.name === name)?.elements.push(verdict === undefined ? { key } : { key, verdict })
  }
  return tables
}

const copies = new WeakSet<Table>()

function append(parts: Parts, more: Parts): void {
  parts.devices.push(...more.devices)
  parts.addresses.push(...more.addresses)
  for (const route of more.routes) parts.routes.push(route)
  if (more.rules) parts.rules = [...(parts.rules ?? []), ...more.rules]
  for (const neighbour of more.neighbours) parts.neighbours.push(neighbour)
  for (const entry of more.forwarding) parts.forwarding.push(entry)
  parts.tables.push(...more.tables)
  parts.sysctls = { ...parts.sysctls, ...more.sysctls }
}

function assemble(
  head: { id: string; label: string; node?: MemoryNode; memory: Memory },
  parts: Parts,
): Stack {
  const devices = new Map([loopback, ...parts.devices].map((d) => [d.name, d]))
  const addresses = new Map<string, string>([
    ['127.0.0.1', 'lo'],
    ['::1', 'lo'],
  ])
  const connected: Route[] = []
  for (const { link, address } of parts.addresses) {
    addresses.set(withoutLength(address), link)
    if (!address.endsWith('/32') && !address.endsWith('/128')) connected.push({ to: address, link })
  }
  for (const entry of parts.forwarding) devices.get(entry.link)?.forwarding.push(entry)
  const usable = ({ link }: Route) => isUp(devices.get(link))
  const rules = parts.tables.flatMap((t) => t.chains.flatMap((c) => c.rules.flatMap((r) => r.do)))
  return {
    ...head,
    devices,
    addresses,
    routing: new Routing([...connected, ...parts.routes], parts.rules ?? [], usable),
    neighbours: new Map(parts.neighbours.map((n) => [`${n.link} ${n.address}`, n.mac])),
    tables: parts.tables,
    sysctls: parts.sysctls,
    tracks: rules.some((s) => 'masquerade' in s || 'add' in s || ('match' in s && s.match.startsWith('ct '))),
  }
}

export const isUp = (device: Device | undefined): boolean =>
  device !== undefined && (device.nic?.up ?? device.parent?.up ?? true)

/** What the namespace's addresses say of a destination. */
export function castOf(stack: Stack, daddr: string): NonNullable<Packet['daddrType']> {
  if (stack.addresses.has(daddr)) return 'local'
  const address = parseAddress(daddr)
  if (!address) return 'unicast'
  const top = Number(address.value >> (address.family === 4 ? 24n : 120n))
  if (address.family === 6) return top === 255 ? 'multicast' : 'unicast'
  return daddr === '255.255.255.255' ? 'broadcast' : top >= 224 && top < 240 ? 'multicast' : 'unicast'
}
