import { isDeepStrictEqual } from 'node:util'
import { Fault } from '../../lib/fault.ts'
import { equal } from '../../lib/json.ts'
import type { ForeignProgram } from '../../plan/foreign-tunnel.ts'
import {
  emptyNamespace,
  type Link,
  type NamespacePlan,
  type NodePlan,
  type PortPlan,
} from '../../plan/node-plan.ts'
import type { Table } from '../../plan/ruleset.ts'
import { addressLine, elementLine, forwardingLine, neighbourLine, routeLine } from '../lines.ts'
import type { Report } from '../port.ts'
import { difference, linkLine, namespaceLines, portElementLines, portLines, tableLines } from './lines.ts'
import { type Refusal, refusedNamespace, refusedPort } from './refused.ts'

/** A NIC of a node, and the switch its cable goes to. */
export interface NicSpec {
  name: string
  mac: string
  mtu: number
  /** With prefix length. */
  addresses: string[]
  switch: string
  driver?: string
  pciAddress?: string
}

export interface FabricNic extends NicSpec {
  node: string
  up: boolean
  /** False: the device is gone from the machine. */
  plugged: boolean
}

/** What other namespaces and nodes the node's kernel asks. */
export interface Surroundings {
  podNamespaceExists(path: string): boolean
  /** Ports, of any node, that have an interface in the pod's namespace. */
  portsIn(path: string): PortPlan[]
  claim(path: string, node: MemoryNode, port: PortPlan): void
  unclaim(path: string, node: MemoryNode, key: string): void
  /** The named namespace of the node (`host`, `pn-…`, a pod's path) looks different now; absent: removed. */
  changed(node: MemoryNode, netns: string, removed?: true): void
}

const emptyHost = emptyNamespace('host')

/**
 * One node's kernel: the plan it was given, by reference, less what was lost
 * since. It outlives the datapath that wrote it, as a kernel outlives an agent.
 */
export class MemoryNode {
  readonly nics = new Map<string, FabricNic>()
  readonly namespaces = new Map<string, NamespacePlan>([['host', emptyHost]])
  readonly ports = new Map<string, PortPlan>()
  /** Those of the ports that sit on a NIC: few, and asked for by every frame. */
  readonly #onNics = new Set<PortPlan>()
  /** Ports whose link went away by itself: the pod's namespace was removed, or somebody deleted it. */
  readonly broken = new Set<string>()
  /** Lines of objects that were planned and made, and went away since. */
  readonly lost = new Set<string>()
  /** What others made in the host's namespace. */
  foreign: NamespacePlan = emptyHost
  /** Of the host's namespace, with the UDP ports they have. */
  readonly programs = new Set<ForeignProgram>()
  readonly nicListeners = new Set<() => void>()
  readonly name: string
  readonly #around: Surroundings
  /** Ports as they were planned again, and what was there already. */
  readonly #same = new WeakMap<PortPlan, PortPlan>()

  constructor(name: string, around: Surroundings) {
    this.name = name
    this.#around = around
  }

  replace(plan: NodePlan): Report {
    const changes: string[] = []
    const orphans: string[] = []
    const spoilt: string[] = []
    const refused = new Map<string, Fault>()
    const wanted = new Map(plan.ports.map((p) => [p.key, p]))
    const namespaces = new Map(plan.namespaces.map((n) => [n.netns, n]))
    for (const port of [...this.ports.values()]) if (!wanted.has(port.key)) this.#remove(port, changes)
    for (const [netns, old] of this.namespaces) {
      if (netns === 'host' || namespaces.has(netns)) continue
      this.#note(changes, '-', this.#notLost(namespaceLines(old)))
      this.namespaces.delete(netns)
      this.#around.changed(this, netns, true)
    }
    for (const next of namespaces.values()) {
      if (next.netns === 'host') continue
      const refusal = this.#refused(next, plan)
      if (refusal) refused.set(refusal.netns, refusal.why)
    }
    for (;;) {
      const host = this.#withUplinksLeft(namespaces.get('host') ?? emptyHost, refused)
      namespaces.set('host', host)
      const refusal = this.#refused(host, plan)
      if (!refusal) break
      if (refusal.netns === 'host' || refused.has(refusal.netns)) throw refusal.why
      refused.set(refusal.netns, refusal.why)
    }
    for (const next of namespaces.values()) if (!refused.has(next.netns)) this.#makeNamespace(next, changes)
    for (const port of plan.ports) {
      if (refused.has(port.netns)) continue
      if (!this.#around.podNamespaceExists(port.inside.netns)) {
        orphans.push(port.key)
        const old = this.ports.get(port.key)
        if (old) this.#remove(old, changes)
        continue
      }
      const why = refusedPort(port, this, this.#around)
      if (why) spoilt.push(`${port.key}: ${why.message}`)
      else this.#makePort(port, changes)
    }
    return {
      changes: changes.sort(bySubject),
      orphans,
      ...(spoilt.length > 0 ? { spoilt } : {}),
      ...(refused.size > 0
        ? { refused: [...refused].map(([netns, { message }]) => ({ netns, why: message })) }
        : {}),
    }
  }

  attach(ports: PortPlan[]): { key: string; mac: string }[] {
    const before = new Map(ports.map((p) => [p.key, this.ports.get(p.key)]))
    try {
      for (const port of ports) {
        const refused = this.#around.podNamespaceExists(port.inside.netns)
          ? refusedPort(port, this, this.#around)
          : new Fault(
              'missing',
              `attach ${port.key} of ${port.pod}`,
              `its namespace ${port.inside.netns} does not exist; the pod's sandbox is gone or not there yet`,
            )
        if (refused) throw refused
        this.#makePort(port, [])
      }
    } catch (error) {
      for (const [key, old] of before) {
        const now = this.ports.get(key)
        if (now) this.#remove(now, [])
        if (old) this.#makePort(old, [])
      }
      throw error
    }
    return ports.map((port) => ({ key: port.key, mac: this.macOf(port) }))
  }

  detach(ports: PortPlan[]): void {
    for (const { key } of ports) {
      const port = this.ports.get(key)
      if (port) this.#remove(port, [])
    }
  }

  check(ports: PortPlan[]): string[] {
    const found: string[] = []
    for (const port of ports) {
      const say = (what: string) => found.push(`${port.pod} ${port.key}: ${what}`)
      const held = this.ports.get(port.key)
      if (!this.#around.podNamespaceExists(port.inside.netns)) say(`namespace ${port.inside.netns} is gone`)
      else if (!held) say(`link ${port.inside.name} is missing`)
      else {
        const { gone, added } = difference(portLines(port), this.#actual(held), (l) => l)
        for (const line of gone) say(`missing: ${line}`)
        for (const line of added) say(`not as planned: ${line}`)
      }
    }
    return found
  }

  describe(): string[] {
    const lines = new Set<string>()
    for (const plan of this.namespaces.values())
      for (const line of namespaceLines(plan)) if (!this.lost.has(line)) lines.add(line)
    for (const port of this.ports.values()) for (const line of this.#actual(port)) lines.add(line)
    return [...lines].sort()
  }

  /** A link of Polynet's goes away, and with it what hangs on it. `netns` is `host`, a network's or a pod's. */
  loseLink(netns: string, name: string): void {
    for (const port of this.ports.values()) {
      const nodeSide = port.link.kind === 'veth' && port.netns === netns && port.link.name === name
      if (nodeSide || (port.inside.netns === netns && port.inside.name === name)) this.breakPort(port)
    }
    const plan = this.namespaces.get(netns)
    for (const link of plan?.links ?? []) {
      if (link.kind === 'existing' || link.name !== name) continue
      for (const line of hangingOn(plan as NamespacePlan, name)) this.lost.add(line)
      this.#around.changed(this, netns)
      const peer = link.kind === 'veth' ? link.peer : undefined
      if (!peer) continue
      for (const line of hangingOn(this.namespaces.get(peer.netns) ?? emptyHost, peer.name))
        this.lost.add(line)
      this.#around.changed(this, peer.netns)
    }
  }

  loseAddress(netns: string, link: string, address: string): void {
    this.lost.add(addressLine(netns, { link, address }))
    this.#around.changed(this, netns)
  }

  /** A NIC leaves the machine: tunnels and pod interfaces made on it go with it. */
  loseNic(name: string): void {
    for (const plan of this.namespaces.values())
      for (const link of plan.links)
        if (link.kind === 'vxlan' && link.underlay === name) this.loseLink(plan.netns, link.name)
    for (const port of this.onNic(name)) this.breakPort(port)
  }

  breakPort(port: PortPlan): void {
    this.broken.add(port.key)
    this.#around.changed(this, port.netns)
    this.#around.changed(this, port.inside.netns)
  }

  /** The NIC is the host's, unless a pod was given the whole device. */
  nicHolder(nic: string): PortPlan | undefined {
    return this.onNic(nic).find((p) => p.link.kind === 'host-device' && !this.broken.has(p.key))
  }

  /** Ports that are made on the NIC, or that it was given to. */
  onNic(nic: string): PortPlan[] {
    return this.#onNics.size === 0 ? [] : [...this.#onNics].filter((p) => parentOf(p) === nic)
  }

  macOf({ key, inside, link }: PortPlan): string {
    if (inside.mac !== undefined) return inside.mac
    const device = link.kind === 'host-device' ? link.device : link.kind === 'veth' ? undefined : link.parent
    if (device !== undefined && link.kind !== 'macvlan') return this.nics.get(device)?.mac ?? madeUpMac(key)
    return madeUpMac(key)
  }

  #refused(next: NamespacePlan, plan: NodePlan): Refusal | undefined {
    const isThere = this.namespaces.get(next.netns) === next && this.lost.size === 0
    return isThere ? undefined : refusedNamespace(next, plan, this)
  }

  /** The host's part as it is planned, but for the uplinks of networks that are refused: those are as they were. */
  #withUplinksLeft(next: NamespacePlan, refused: Map<string, Fault>): NamespacePlan {
    if (refused.size === 0) return next
    const isLeft = (link: Link) => link.kind === 'veth' && refused.has(link.peer.netns)
    const old = this.namespaces.get('host') ?? emptyHost
    const [planned, were] = [next, old].map(({ links }) => new Set(links.filter(isLeft).map((l) => l.name)))
    const merged = <T extends { link: string }>(list: (plan: NamespacePlan) => T[]): T[] => [
      ...list(next).filter(({ link }) => !planned?.has(link)),
      ...list(old).filter(({ link }) => were?.has(link)),
    ]
    return {
      ...next,
      links: [...next.links.filter((l) => !isLeft(l)), ...old.links.filter(isLeft)],
      addresses: merged((plan) => plan.addresses),
      routes: merged((plan) => plan.routes),
      neighbours: merged((plan) => plan.neighbours),
      forwarding: merged((plan) => plan.forwarding),
    }
  }

  #makeNamespace(next: NamespacePlan, changes: string[]): void {
    const old = this.namespaces.get(next.netns)
    const { gone, added } = old ? planDifference(old, next) : { gone: [], added: namespaceLines(next) }
    const restored = this.lost.size > 0 ? namespaceLines(next).filter((l) => this.lost.delete(l)) : []
    this.#note(changes, '-', this.#notLost(gone))
    this.#note(changes, '+', [...added, ...restored])
    this.namespaces.set(next.netns, next)
    if (gone.length + added.length + restored.length > 0) this.#around.changed(this, next.netns)
  }

  #makePort(port: PortPlan, changes: string[]): void {
    const old = this.ports.get(port.key)
    const intact = !this.broken.has(port.key) && this.lost.size === 0
    if (old && intact && this.#isSame(old, port)) return
    const { gone, added } = difference(old ? this.#actual(old) : [], portLines(port), (l) => l)
    this.#note(changes, '-', gone)
    this.#note(changes, '+', added)
    for (const line of added) this.lost.delete(line)
    if (old) this.#around.unclaim(old.inside.netns, this, old.key)
    this.broken.delete(port.key)
    this.ports.set(port.key, port)
    if (old) this.#onNics.delete(old)
    if (parentOf(port) !== undefined) this.#onNics.add(port)
    this.#around.claim(port.inside.netns, this, port)
    if (gone.length + added.length > 0) this.#touched(port, old)
  }

  /** Compared once: the same plans come again with every change of the cluster. */
  #isSame(old: PortPlan, port: PortPlan): boolean {
    if (old === port || this.#same.get(port) === old) return true
    if (!isDeepStrictEqual(old, port)) return false
    this.#same.set(port, old)
    return true
  }

  #remove(port: PortPlan, changes: string[]): void {
    this.#note(changes, '-', this.#actual(port))
    for (const line of portLines(port)) this.lost.delete(line)
    this.broken.delete(port.key)
    this.ports.delete(port.key)
    this.#onNics.delete(port)
    this.#around.unclaim(port.inside.netns, this, port.key)
    this.#touched(port)
  }

  #touched(...ports: (PortPlan | undefined)[]): void {
    for (const port of ports) {
      if (!port) continue
      this.#around.changed(this, port.netns)
      this.#around.changed(this, port.inside.netns)
      if (port.link.kind === 'host-device') this.#around.changed(this, 'host')
    }
  }

  #actual(port: PortPlan): string[] {
    if (this.broken.has(port.key)) return portElementLines(port)
    const lines = portLines(port)
    return this.lost.size === 0 ? lines : lines.filter((l) => !this.lost.has(l))
  }

  /** Those that are still there; the others need not be remembered any more. */
  #notLost(lines: string[]): string[] {
    return this.lost.size === 0 ? lines : lines.filter((l) => !this.lost.delete(l))
  }

  #note(changes: string[], sign: '+' | '-', lines: string[]): void {
    for (const line of lines) changes.push(`${sign} ${line}`)
  }
}

/** Parts that are the same are not written down: a node plans much more often than most of them change. */
function planDifference(old: NamespacePlan, next: NamespacePlan): { gone: string[]; added: string[] } {
  const at = next.netns
  if (old === next) return { gone: [], added: [] }
  const thin = (p: NamespacePlan): NamespacePlan => ({
    ...p,
    routes: [],
    neighbours: [],
    forwarding: [],
    tables: [],
  })
  const [before, after] = [thin(old), thin(next)]
  const parts = [
    equal(before, after)
      ? { gone: [], added: [] }
      : difference(namespaceLines(before), namespaceLines(after), (l) => l),
    difference(old.routes, next.routes, (r) => routeLine(at, r)),
    difference(old.neighbours, next.neighbours, (n) => neighbourLine(at, n)),
    difference(old.forwarding, next.forwarding, (f) => forwardingLine(at, f)),
    tableDifference(at, old.tables, next.tables),
  ]
  return { gone: parts.flatMap((p) => p.gone), added: parts.flatMap((p) => p.added) }
}

function tableDifference(at: string, old: Table[], next: Table[]): { gone: string[]; added: string[] } {
  const [before, after] = [old.map(withoutElements), next.map(withoutElements)]
  const parts = [
    equal(before, after)
      ? { gone: [], added: [] }
      : difference(
          before.flatMap((t) => tableLines(at, t)),
          after.flatMap((t) => tableLines(at, t)),
          (l) => l,
        ),
  ]
  const [was, is] = [elementsOf(old), elementsOf(next)]
  for (const key of new Set([...was.keys(), ...is.keys()])) {
    const { family, table, set } = (is.get(key) ?? was.get(key))!
    parts.push(
      difference(was.get(key)?.elements ?? [], is.get(key)?.elements ?? [], (e) =>
        elementLine(at, family, table, set, e),
      ),
    )
  }
  return { gone: parts.flatMap((p) => p.gone), added: parts.flatMap((p) => p.added) }
}

const withoutElements = (table: Table): Table => ({
  ...table,
  sets: table.sets.map((set) => ({ ...set, elements: [] })),
})

const elementsOf = (tables: Table[]) =>
  new Map(
    tables.flatMap(({ family, name: table, sets }) =>
      sets.map(({ name: set, elements }) => [`${family} ${table} ${set}`, { family, table, set, elements }]),
    ),
  )

function hangingOn(plan: NamespacePlan, name: string): string[] {
  const at = plan.netns
  const here = <T extends { link: string }>(items: T[]): T[] => items.filter((i) => i.link === name)
  return [
    ...plan.links.filter((l) => l.name === name).map((l) => linkLine(at, l)),
    ...here(plan.addresses).map((a) => addressLine(at, a)),
    ...here(plan.routes).map((r) => routeLine(at, r)),
    ...here(plan.neighbours).map((n) => neighbourLine(at, n)),
    ...here(plan.forwarding).map((f) => forwardingLine(at, f)),
  ]
}

function parentOf({ link }: PortPlan): string | undefined {
  if (link.kind === 'veth') return undefined
  return link.kind === 'host-device' ? link.device : link.parent
}

/** What the kernel would give at random, the same every time. */
function madeUpMac(key: string): string {
  let hash = 2166136261
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 16777619) >>> 0
  const tail = hash.toString(16).padStart(8, '0').match(/../g) as string[]
  return `0a:5a:${tail.join(':')}`
}

/** What happened to one object stands together: first what went, then what came. */
const bySubject = (a: string, b: string): number => {
  const [x, y] = [a.slice(2), b.slice(2)]
  return x < y ? -1 : x > y ? 1 : a < b ? 1 : -1
}
