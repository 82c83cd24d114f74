import { Fault } from '../../lib/fault.ts'
import type { ForeignProgram } from '../../plan/foreign-tunnel.ts'
import type { NamespacePlan, PortPlan } from '../../plan/node-plan.ts'
import { freshState } from '../../plan/trace.ts'
import { Connections } from './connections.ts'
import { type Frame, isGroup, type Journey } from './frame.ts'
import { type FabricNic, MemoryNode, type NicSpec, type Surroundings } from './node.ts'
import { type Device, idOf, type Memory, nodeStack, podStack, type Stack } from './stack.ts'
import { type Streets, Walk } from './walk.ts'

export type { Delivery, Frame, Journey } from './frame.ts'
export type { NicSpec } from './node.ts'

/** What a process sends. Without a source the kernel picks one; another's address is sent as it is (a raw socket). */
export type Sent = Omit<Frame, 'ip' | 'size'> & {
  ip: { saddr?: string; daddr: string; ttl?: number }
  size?: number
}

interface PodNamespace {
  ports: { node: MemoryNode; port: PortPlan }[]
}

interface Switch {
  nics: FabricNic[]
  learned: Map<string, FabricNic>
}

/**
 * All nodes' kernels and the switches between their NICs, in this process.
 * Plans are kept by reference, and what packets need beside them is built
 * when the first one comes by, so that a large cluster at rest costs little.
 */
export class MemoryFabric {
  readonly #nodes = new Map<string, MemoryNode>()
  readonly #switches = new Map<string, Switch>()
  readonly #pods = new Map<string, PodNamespace>()
  readonly #stacks = new Map<string, Stack>()
  readonly #memories = new Map<string, Memory>()
  readonly #nowMs: () => number

  /** `nowMs` is the clock of rate limits. */
  constructor(nowMs: () => number = () => Date.now()) {
    this.#nowMs = nowMs
  }

  addSwitch(name: string): void {
    this.#switches.set(name, { nics: [], learned: new Map() })
  }

  addNode(name: string, nics: NicSpec[]): void {
    const node = new MemoryNode(name, this.#surroundings)
    this.#nodes.set(name, node)
    for (const spec of nics) {
      const nic: FabricNic = { ...spec, node: name, up: true, plugged: true }
      node.nics.set(nic.name, nic)
      this.#switch(nic.switch).nics.push(nic)
    }
  }

  removeNode(name: string): void {
    const node = this.node(name)
    for (const nic of node.nics.values()) {
      const wire = this.#switch(nic.switch)
      wire.nics = wire.nics.filter((n) => n !== nic)
      wire.learned.clear()
    }
    for (const port of node.ports.values()) this.#surroundings.unclaim(port.inside.netns, node, port.key)
    for (const netns of node.namespaces.keys()) this.#surroundings.changed(node, netns, true)
    this.#nodes.delete(name)
  }

  node(name: string): MemoryNode {
    const node = this.#nodes.get(name)
    if (!node)
      throw new Fault('missing', `find node ${name}`, 'the fabric has none of that name; add it first')
    return node
  }

  addPodNamespace(path: string): void {
    if (!this.#pods.has(path)) this.#pods.set(path, { ports: [] })
  }

  /** The kernel takes every interface in it away, and gives NICs back to their host. */
  removePodNamespace(path: string): void {
    const pod = this.#pods.get(path)
    this.#pods.delete(path)
    for (const { node, port } of pod?.ports ?? []) node.breakPort(port)
    this.#stacks.delete(path)
    this.#memories.delete(path)
  }

  /** Everything that others made in the host's namespace of a node. */
  setForeign(node: string, plan: NamespacePlan): void {
    this.node(node).foreign = plan
    this.#surroundings.changed(this.node(node), 'host')
    for (const listener of this.node(node).nicListeners) listener()
  }

  /** A program in the node's own namespace takes a UDP port; returns how it ends. */
  listen(node: string, program: ForeignProgram): () => void {
    const { programs } = this.node(node)
    programs.add(program)
    return () => programs.delete(program)
  }

  /** The device is there again, as new. */
  plug(node: string, nic: string): void {
    this.#setNic(node, nic, { plugged: true })
  }

  /** The device goes away, and with it all that was made on it. */
  unplug(node: string, nic: string): void {
    this.node(node).loseNic(nic)
    this.#setNic(node, nic, { plugged: false })
  }

  up(node: string, nic: string): void {
    this.#setNic(node, nic, { up: true })
  }

  down(node: string, nic: string): void {
    this.#setNic(node, nic, { up: false })
  }

  setNic(node: string, nic: string, change: { mtu?: number; addresses?: string[] }): void {
    this.#setNic(node, nic, change)
  }

  /** Somebody other than Polynet deletes a link. `where` is a pod's path, `node:n1` or `node:n1/pn-…`. */
  loseLink(where: string, name: string): void {
    for (const { node, netns } of this.#owners(where)) node.loseLink(netns, name)
  }

  loseAddress(where: string, link: string, address: string): void {
    for (const { node, netns } of this.#owners(where)) node.loseAddress(netns, link, address)
  }

  /** A process in the namespace `from` sends a packet; where it went, and where and why it did not. */
  send(from: string, { ip, size, ...rest }: Sent): Journey {
    const walk = new Walk(this.#streets)
    walk.output(this.#existing(from), { ...rest, size: size ?? 100, ip: { ...ip, saddr: ip.saddr ?? '' } })
    return walk.journey
  }

  /** A process with NET_RAW puts a frame on a link of its namespace, whatever is written in it. */
  sendFrame(from: string, link: string, frame: Omit<Frame, 'size'> & { size?: number }): Journey {
    const stack = this.#existing(from)
    const device = stack.devices.get(link)
    if (!device) throw new Fault('missing', `send a frame from ${from}`, `it has no link ${link}`)
    const walk = new Walk(this.#streets)
    walk.transmit(stack, device, { size: 100, ...frame }, [])
    return walk.journey
  }

  /** The namespace as packets meet it: its devices, addresses and routes; undefined when there is none. */
  stack(id: string): Stack | undefined {
    const held = this.#stacks.get(id)
    if (held) {
      held.memory.limits.nowMs = this.#nowMs()
      return held
    }
    const stack = this.#build(id)
    if (stack) this.#stacks.set(id, stack)
    return stack
  }

  #build(id: string): Stack | undefined {
    const pod = this.#pods.get(id)
    if (pod) return podStack(id, pod.ports, this.#memory(id))
    const match = /^node:([^/]+)(?:\/(.+))?$/.exec(id)
    const node = match && this.#nodes.get(match[1] as string)
    const netns = match?.[2] ?? 'host'
    if (!node?.namespaces.has(netns)) return undefined
    return nodeStack(node, netns, this.#memory(id))
  }

  #memory(id: string): Memory {
    let memory = this.#memories.get(id)
    if (!memory) {
      const connections = new Connections(this.#nowMs)
      memory = {
        connections,
        neighbours: new Map(),
        ports: new Map(),
        limits: freshState(this.#nowMs(), (connection) => connections.isOpen(connection)),
      }
      this.#memories.set(id, memory)
    }
    return memory
  }

  #existing(id: string): Stack {
    const stack = this.stack(id)
    if (!stack) throw new Fault('missing', `send from ${id}`, 'there is no such namespace')
    return stack
  }

  #switch(name: string): Switch {
    const found = this.#switches.get(name)
    if (!found)
      throw new Fault('missing', `find switch ${name}`, 'the fabric has none of that name; add it first')
    return found
  }

  #owners(where: string): { node: MemoryNode; netns: string }[] {
    const match = /^node:([^/]+)(?:\/(.+))?$/.exec(where)
    if (match) return [{ node: this.node(match[1] as string), netns: match[2] ?? 'host' }]
    const nodes = new Set(this.#pods.get(where)?.ports.map((p) => p.node))
    return [...nodes].map((node) => ({ node, netns: where }))
  }

  #setNic(nodeName: string, name: string, change: Partial<FabricNic>): void {
    const node = this.node(nodeName)
    const nic = node.nics.get(name)
    if (!nic) throw new Fault('missing', `change ${name} of ${nodeName}`, 'the node has no such NIC')
    Object.assign(nic, change)
    this.#surroundings.changed(node, 'host')
    for (const port of node.onNic(name)) this.#surroundings.changed(node, port.inside.netns)
    for (const listener of [...node.nicListeners]) listener()
  }

  readonly #surroundings: Surroundings = {
    podNamespaceExists: (path) => this.#pods.has(path),
    portsIn: (path) => (this.#pods.get(path)?.ports ?? []).map((p) => p.port),
    claim: (path, node, port) => {
      const pod = this.#pods.get(path)
      pod?.ports.push({ node, port })
    },
    unclaim: (path, node, key) => {
      const pod = this.#pods.get(path)
      if (pod) pod.ports = pod.ports.filter((p) => p.node !== node || p.port.key !== key)
    },
    changed: (node, netns, removed) => {
      const id = netns.startsWith('/') ? netns : idOf(node, netns)
      this.#stacks.delete(id)
      if (removed) this.#memories.delete(id)
    },
  }

  readonly #streets: Streets = {
    stack: (id) => this.stack(id),
    onNic: (nic) => this.#onNic(nic),
    across: (nic, frame) => this.#across(nic, frame),
    tunnelEnd: (stack, vni, port) => this.#tunnelEnd(stack, vni, port),
  }

  #onNic(nic: FabricNic): { stack: Stack; device: Device }[] {
    const node = this.node(nic.node)
    const seats: { stack: Stack; device: Device }[] = []
    const seat = (id: string, name: string) => {
      const stack = this.stack(id)
      const device = stack?.devices.get(name)
      if (stack && device) seats.push({ stack, device })
    }
    const holder = node.nicHolder(nic.name)
    if (holder) seat(holder.inside.netns, holder.inside.name)
    else seat(idOf(node, 'host'), nic.name)
    for (const port of node.onNic(nic.name))
      if (port !== holder && !node.broken.has(port.key)) seat(port.inside.netns, port.inside.name)
    return seats
  }

  /** Frames to everyone are spared the nodes that would not look at them. */
  #across(nic: FabricNic, frame: Frame): FabricNic[] {
    const wire = this.#switch(nic.switch)
    const { saddr, daddr } = frame.ether ?? { saddr: nic.mac, daddr: 'ff:ff:ff:ff:ff:ff' }
    wire.learned.set(`${frame.vlan ?? ''} ${saddr}`, nic)
    const alive = (n: FabricNic) => n !== nic && n.up && n.plugged
    const known = isGroup(daddr) ? undefined : wire.learned.get(`${frame.vlan ?? ''} ${daddr}`)
    if (known) return alive(known) ? [known] : []
    const asked = frame.arp?.targetIp ?? frame.target
    return wire.nics.filter((n) => alive(n) && (asked === undefined || this.#mayHave(n, asked)))
  }

  #mayHave(nic: FabricNic, address: string): boolean {
    const start = `${address}/`
    if (nic.addresses.some((a) => a.startsWith(start))) return true
    const node = this.node(nic.node)
    for (const plan of [node.namespaces.get('host'), node.foreign])
      if (plan?.addresses.some((a) => a.address.startsWith(start))) return true
    return node.onNic(nic.name).length > 0
  }

  #tunnelEnd(stack: Stack, vni: number, port: number): { stack: Stack; device: Device } | undefined {
    const { node } = stack
    if (!node || stack.id !== idOf(node, 'host')) return undefined
    for (const plan of node.namespaces.values())
      for (const link of plan.links) {
        if (link.kind !== 'vxlan' || link.vni !== vni || link.port !== port) continue
        const end = this.stack(idOf(node, plan.netns))
        const device = end?.devices.get(link.name)
        if (end && device) return { stack: end, device }
      }
    return undefined
  }
}
