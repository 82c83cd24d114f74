import { mkdirSync, readdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import type { Nic } from '../../api/host-physical-network.ts'
import { Fault, isFault } from '../../lib/fault.ts'
import { withoutLength } from '../../lib/ip.ts'
import type { ForeignProgram, ForeignTunnel } from '../../plan/foreign-tunnel.ts'
import type { NamespacePlan, NodePlan, PortPlan } from '../../plan/node-plan.ts'
import { ruleLine } from '../lines.ts'
import type { Report } from '../port.ts'
import { forgetConnections } from './conntrack.ts'
import { Departed } from './departed.ts'
import { describePlace } from './describe.ts'
import { makePorts } from './fresh.ts'
import { deleteLinks, moveBack } from './links.ts'
import { Batch, refused } from './netlink.ts'
import { createNamespace, removeNamespace } from './netns.ts'
import { familiesOf, nicsOf, tunnelsOf } from './nics.ts'
import { Place } from './place.ts'
import { holderOf, udpSockets } from './programs.ts'
import { type Rendered, render } from './render.ts'
import * as rt from './route.ts'
import { gone, type MadeLink, type Side, within } from './side.ts'
import { Sweep } from './sweep.ts'
import { removePortElements, withdrawTables } from './tables.ts'
import { wantsOf } from './want.ts'

/** A pod may fill its own namespace with links, routes or rules: bytes of any list that are read, some 40 000 routes. */
const mostInPod = 2 << 20

/**
 * One node's kernel. Calls take effect in the order they are made. What the
 * kernel has to be waited for long is done on threads of the pool: deleting
 * links, and forgetting connections.
 */
export class Kernel {
  readonly #dir: string
  readonly #hostNetns: string
  readonly #places = new Map<string, Place>()
  /** Links that the kernel is deleting: `<namespace>/<name>`. */
  readonly #deleting = new Map<string, Promise<void>>()
  readonly #sweeps = new Map<string, Sweep>()
  readonly #departed: Departed
  #turn: Promise<unknown> = Promise.resolve()
  #sweeping = 0

  /** `hostNetns`: path of the namespace that counts as the host's. */
  constructor(runDir: string, hostNetns: string) {
    this.#dir = join(runDir, 'netns')
    this.#hostNetns = hostNetns
    this.#departed = new Departed(join(runDir, 'departed'), (netns, addresses) =>
      this.#forget(netns, addresses),
    )
    mkdirSync(this.#dir, { recursive: true, mode: 0o755 })
    this.#host()
  }

  /**
   * A pod that may change its own namespace can make its port impossible. That
   * must not keep others from being made right, nor this one's node side, which
   * a pod that only renamed its interface goes on with: it is not looked into
   * then, and left out where that is not enough. Pods whose ports are all
   * `unchanged` are not looked into either, unless one lacks its node's side: that
   * is made together with the other.
   */
  replace(plan: NodePlan, unchanged: string[]): Promise<Report> {
    return this.#inTurn(async () => {
      this.#departed.recall()
      await Promise.allSettled(this.#deleting.values())
      const gone = new Set(plan.ports.map((port) => port.inside.netns))
      for (const netns of gone) if (isNamespace(netns)) gone.delete(netns)
      const orphans = plan.ports.filter((port) => gone.has(port.inside.netns)).map((port) => port.key)
      const { changes, missing } = this.#keepNamespaces(plan.namespaces)
      const ports = plan.ports.filter((port) => !gone.has(port.inside.netns))
      const without = this.#withoutNic(ports)
      const made = (trusted: Set<string>): Rendered =>
        this.#render(plan.namespaces, ports, { trusted, without, missing })
      const trusted = podsOf(plan.ports, unchanged)
      let rendered: Rendered
      try {
        rendered = made(trusted)
      } catch (error) {
        if (trusted.size === 0) throw error
        rendered = made(new Set())
      }
      const { refused, spoilt } = rendered
      return {
        changes: [...changes, ...rendered.changes],
        orphans,
        ...(spoilt.size > 0 ? { spoilt: [...spoilt.values()].map(({ message }) => message) } : {}),
        ...(refused.size > 0
          ? { refused: [...refused].map(([netns, { message }]) => ({ netns, why: message })) }
          : {}),
      }
    })
  }

  /** Why ports that lie on a NIC cannot be made, by pod: it is gone, and what lay on it went with it. All at once, as there may be many. */
  #withoutNic(ports: PortPlan[]): Map<string, Fault> {
    const found = new Map<string, Fault>()
    const lying = ports.flatMap((port) => ('parent' in port.link ? [{ port, parent: port.link.parent }] : []))
    if (lying.length === 0) return found
    const { route } = this.#host()
    const there = new Set(route.dump(rt.dumpLinks).map((message) => rt.seenLink(message).name))
    for (const { port, parent } of lying)
      if (!there.has(parent))
        found.set(
          port.inside.netns,
          new Fault('kernel', `${port.key}: find link ${parent}`, 'the host has none'),
        )
    return found
  }

  /** Pods that are `trusted`, or `without` their NIC, are not looked into; namespaces that are `missing` are left out. */
  #render(
    namespaces: NamespacePlan[],
    ports: PortPlan[],
    not: { trusted: Set<string>; without: Map<string, Fault>; missing: Map<string, Fault> },
  ): Rendered {
    const planned = new Set(namespaces.map((namespace) => namespace.netns))
    return this.#withPods(ports, (place) => {
      const spoilt = new Map(not.without)
      const sides = [...wantsOf(namespaces, ports).values()].flatMap((want): Side[] => {
        const { netns } = want
        if (not.trusted.has(netns) || not.missing.has(netns) || spoilt.has(netns)) return []
        const owned = netns === 'host' ? 'marked' : planned.has(netns) ? 'all' : 'ports'
        try {
          return [{ want, place: within({ want }, () => place(netns)), owned }]
        } catch (error) {
          // A pod's may have ended since it was looked for.
          if (!isFault(error) || owned !== 'ports') throw error
          spoilt.set(netns, error)
          return []
        }
      })
      for (const one of this.#places.values()) one.forget()
      return render(sides, this.#host(), { refused: not.missing, spoilt })
    })
  }

  attach(ports: PortPlan[]): Promise<{ key: string; mac: string }[]> {
    return this.#inTurn(async () => {
      for (const wait of this.#waits(ports)) await wait
      for (const { netns, inside } of ports)
        for (const wait of this.#departed.before(netns, addressesOf(inside))) await wait
      for (const netns of new Set(ports.map((port) => port.inside.netns)))
        if (!isNamespace(netns)) {
          const key = ports.find((port) => port.inside.netns === netns)?.key
          throw new Fault('missing', `attach ${key}`, `the pod's namespace ${netns} is gone`)
        }
      return this.#withPods(ports, (place) => {
        const made: PortPlan[] = []
        try {
          return this.#make(ports, place, made).map((mac, index) => ({ key: ports[index]!.key, mac }))
        } catch (error) {
          this.#undo(ports, made, place)
          throw error
        }
      })
    })
  }

  /** The MACs of the ports, once they are there; `made` has those whose links were not. */
  #make(ports: PortPlan[], place: (netns: string) => Place, made: PortPlan[]): string[] {
    try {
      return makePorts(ports, place, made)
    } catch (error) {
      if (!isFault(error, 'kernel') || !error.problem.startsWith('EEXIST')) throw error
      const nodes = new Set(ports.map((port) => port.netns))
      const sides = [...wantsOf([], ports).values()].map(
        (want): Side => ({
          want,
          place: place(want.netns),
          owned: nodes.has(want.netns) ? 'nothing' : 'ports',
        }),
      )
      const makes = (link: MadeLink) => (port: PortPlan) =>
        port.inside.netns === link.netns && port.inside.name === link.wanted.name
      const links: MadeLink[] = []
      try {
        const now = render(sides, this.#host(), { made: links }).links
        return ports.map(({ inside }) => now.get(inside.netns, inside.name)?.mac ?? inside.mac ?? '')
      } finally {
        for (const link of links) made.push(...ports.filter(makes(link)))
      }
    }
  }

  /** Resolves when the links are gone; what was attached after it does not wait for that. */
  async detach(ports: PortPlan[]): Promise<void> {
    const { gone } = await this.#inTurn(async () => ({ gone: this.#takeAway(ports) }))
    await gone
  }

  check(ports: PortPlan[]): Promise<string[]> {
    return this.#inTurn(async () => {
      await Promise.allSettled(this.#deleting.values())
      return ports.flatMap((port) => {
        if (!isNamespace(port.inside.netns))
          return [`${port.key}: the pod's namespace ${port.inside.netns} is gone`]
        try {
          return this.#withPods([port], (place) => {
            const sides = [...wantsOf([], [port]).values()].map(
              (want): Side => ({
                want,
                place: place(want.netns),
                owned: want.netns === port.netns ? 'nothing' : 'ports',
              }),
            )
            return render(sides, this.#host(), { dry: true }).changes.map(
              (line) => `${port.key}: ${difference(line)}`,
            )
          })
        } catch (error) {
          if (isFault(error)) return [`${port.key}: ${error.message}`]
          throw error
        }
      })
    })
  }

  nics(): Nic[] {
    return nicsOf(this.#host().route)
  }

  tunnels(): ForeignTunnel[] {
    return tunnelsOf(this.#host().route)
  }

  programsOn(ports: number[]): ForeignProgram[] {
    const sockets = udpSockets(this.#host().fd).filter(({ port }) => ports.includes(port))
    if (sockets.length === 0) return []
    // A VXLAN device's socket looks like any other, and leaves no room for another of its family.
    const tunnels = this.#tunnelSockets(new Set(sockets.map(({ port }) => port)))
    const others = sockets.filter(({ port, family }) => !tunnels.has(`${port} ${family}`))
    return [...Map.groupBy(others, ({ port }) => port)]
      .sort(([a], [b]) => a - b)
      .map(([port, some]) => {
        const name = holderOf(some.map(({ inode }) => inode))
        const families = [...new Set(some.flatMap((socket) => socket.takes))].sort()
        return { port, families, ...(name === undefined ? {} : { name }) }
      })
  }

  /** `<port> <family>` of VXLAN devices, Polynet's and others'. All of ours on a port are alike, so one of them is enough. */
  #tunnelSockets(ports: Set<number>): Set<string> {
    const found = new Set<string>()
    const missing = new Set(ports)
    for (const name of ['host', ...this.#namespaces()]) {
      if (missing.size === 0) break
      for (const { up, vxlan } of this.#place(name).route.dump(rt.dumpLinks).map(rt.seenLink)) {
        if (!vxlan || !up) continue
        missing.delete(vxlan.port)
        for (const family of familiesOf(vxlan)) found.add(`${vxlan.port} ${family}`)
      }
    }
    return found
  }

  describe(): Promise<string[]> {
    return this.#inTurn(async () => {
      await Promise.allSettled(this.#deleting.values())
      const lines = describePlace('host', this.#host())
      for (const name of this.#namespaces()) lines.push(...describePlace(name, this.#place(name)))
      return lines.sort()
    })
  }

  async close(): Promise<void> {
    await this.#inTurn(async () => {
      await Promise.allSettled(this.#deleting.values())
      await Promise.all(this.#departed.forgetAll())
      for (const place of this.#places.values()) place.close()
      this.#places.clear()
    })
  }

  // ── turns and places ──

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  #host(): Place {
    return this.#place('host')
  }

  /** The host's namespace or one of the networks'. */
  #place(name: string): Place {
    let place = this.#places.get(name)
    if (place) return place
    const path = name === 'host' ? this.#hostNetns : this.#path(name)
    if (!isNamespace(path)) throw new Fault('missing', `enter namespace ${name}`, `there is none at ${path}`)
    place = new Place(path)
    this.#places.set(name, place)
    return place
  }

  #path(name: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name))
      throw new Fault('invalid', 'enter a namespace', `${JSON.stringify(name)} is no name of one`)
    return join(this.#dir, name)
  }

  /** Opens the pods' namespaces for as long as `work` goes on, each once. */
  #withPods<T>(ports: PortPlan[], work: (place: (netns: string) => Place) => T): T {
    const pods = new Set(ports.map((port) => port.inside.netns))
    const open = new Map<string, Place>()
    try {
      return work((netns) => {
        if (!pods.has(netns)) return this.#place(netns)
        let place = open.get(netns)
        if (!place) {
          place = new Place(netns, mostInPod)
          open.set(netns, place)
        }
        return place
      })
    } finally {
      for (const place of open.values()) place.close()
    }
  }

  #namespaces(): string[] {
    return readdirSync(this.#dir)
      .filter((name) => isNamespace(join(this.#dir, name)))
      .sort()
  }

  /** Makes the namespaces that are missing, and removes those that are not planned; with which are missing still, and why. */
  #keepNamespaces(plans: NamespacePlan[]): { changes: string[]; missing: Map<string, Fault> } {
    const changes: string[] = []
    const missing = new Map<string, Fault>()
    const wanted = new Set(plans.map((plan) => plan.netns))
    for (const name of readdirSync(this.#dir).sort()) {
      if (wanted.has(name) && isNamespace(join(this.#dir, name))) continue
      this.#removeNamespace(name)
      if (!wanted.has(name)) changes.push(`- namespace ${name}`)
    }
    const there = new Set(readdirSync(this.#dir))
    for (const name of [...wanted].sort()) {
      if (name === 'host' || there.has(name)) continue
      try {
        createNamespace(this.#path(name))
        changes.push(`+ namespace ${name}`)
      } catch (error) {
        if (!isFault(error, 'kernel')) throw error
        missing.set(name, error)
      }
    }
    return { changes, missing }
  }

  /**
   * Its links go first and at once, so that others may take their names and
   * tunnels; the rest of a namespace the kernel clears away by itself. Many of
   * those at once would stall all network configuration of the node, so each
   * is let go a moment after the one before.
   */
  #removeNamespace(name: string): void {
    const path = join(this.#dir, name)
    const place = isNamespace(path) ? this.#place(name) : undefined
    if (place) {
      const links = place.route.dump(rt.dumpLinks).map(rt.seenLink)
      const names = links.filter((link) => !link.loopback && link.kind !== undefined).map((link) => link.name)
      if (names.length > 0) deleteLinks(place.route, names)
      this.#places.delete(name)
    }
    removeNamespace(path)
    if (!place) return
    this.#sweeping++
    setTimeout(() => {
      this.#sweeping--
      place.close()
    }, 100 * this.#sweeping).unref()
  }

  // ── taking ports away ──

  #undo(ports: PortPlan[], made: PortPlan[], place: (netns: string) => Place): void {
    for (const one of this.#places.values()) one.forget()
    const quietly = (act: () => void) => {
      try {
        act()
      } catch {
        // The failure that led here is the one to report; the next `replace` clears up.
      }
    }
    quietly(() => removeRules(ports))
    for (const port of ports) {
      const { netns, link, inside } = port
      quietly(() => removePortElements(place(netns), port.elements))
      if (link.kind === 'host-device')
        quietly(() => moveBack(place(inside.netns), place(netns), inside.name, link.device))
      else if (link.kind === 'veth') quietly(() => deleteLinks(place(netns).route, [link.name]))
      else if (made.includes(port)) quietly(() => deleteLinks(place(inside.netns).route, [inside.name]))
    }
  }

  /** Stops what the ports may send at once, and starts the deletion of their links. */
  #takeAway(ports: PortPlan[]): Promise<void> {
    const waits: Promise<void>[] = []
    const byNode = new Map<string, PortPlan[]>()
    for (const port of ports) {
      const list = byNode.get(port.netns) ?? []
      byNode.set(port.netns, list)
      list.push(port)
    }
    for (const [netns, some] of byNode) {
      if (netns !== 'host' && !isNamespace(this.#path(netns))) continue
      const place = this.#place(netns)
      removePortElements(
        place,
        some.flatMap((port) => port.elements),
      )
      for (const { link } of some) if (link.kind === 'veth') place.indexes.delete(link.name)
    }
    removeRules(ports)
    for (const port of ports) {
      const { link, inside, netns } = port
      if (link.kind === 'veth') {
        if (netns !== 'host' && !isNamespace(this.#path(netns))) continue
        waits.push(this.#sweep(netns, link.name))
        this.#departed.add(netns, addressesOf(inside))
      } else if (!isNamespace(inside.netns)) continue
      else if (link.kind === 'host-device') {
        this.#withPods([port], (place) =>
          moveBack(place(inside.netns), place(netns), inside.name, link.device),
        )
        waits.push(this.#underWay(`${inside.netns}/${inside.name}`, removeTables(inside)))
      } else waits.push(this.#sweep(inside.netns, inside.name, () => removeTables(inside)))
    }
    return Promise.all(waits).then(() => {})
  }

  /** The link's end, together with all that are asked for while the kernel is busy with others of that namespace. */
  #sweep(netns: string, name: string, after?: () => Promise<void>): Promise<void> {
    const key = `${netns}/${name}`
    const known = this.#deleting.get(key)
    if (known) return known
    let sweep = this.#sweeps.get(netns)
    if (!sweep) {
      const ours = netns === 'host' || !netns.startsWith('/')
      sweep = new Sweep(ours ? this.#place(netns) : new Place(netns), !ours, () => this.#sweeps.delete(netns))
      this.#sweeps.set(netns, sweep)
    }
    return this.#underWay(key, sweep.add(name).then(after))
  }

  /** Whoever wants to make what is being taken away waits for it. */
  #underWay(key: string, work: Promise<void>): Promise<void> {
    const gone = work.finally(() => this.#deleting.delete(key))
    gone.catch(() => {})
    this.#deleting.set(key, gone)
    return gone
  }

  /** The connections of these addresses, off this thread; a namespace that is gone has none. */
  async #forget(netns: string, addresses: string[]): Promise<void> {
    if (netns !== 'host' && !isNamespace(this.#path(netns))) return
    const { connections } = this.#place(netns)
    await this.#underWay(connectionsOf(netns), forgetConnections(connections, addresses))
  }

  /** Deletions that must be over before these ports can be made. */
  #waits(ports: PortPlan[]): Promise<unknown>[] {
    if (this.#deleting.size === 0) return []
    const keys = ports.flatMap(({ netns, link, inside }) => [
      connectionsOf(netns),
      ...(link.kind === 'veth' ? [`${netns}/${link.name}`] : []),
      `${inside.netns}/${inside.name}`,
    ])
    // A pod's end goes with the node's: same pod, same wait.
    return keys.flatMap((key) => this.#deleting.get(key)?.catch(() => {}) ?? [])
  }
}

const addressesOf = ({ addresses }: PortPlan['inside']): string[] => addresses.map(withoutLength)

/** What stands in `#deleting` for them; no link has such a name. */
const connectionsOf = (netns: string): string => `${netns}/connections of pods that are gone`

/** Namespaces of the pods all of whose ports are among these. */
function podsOf(ports: PortPlan[], keys: string[]): Set<string> {
  const among = new Set(keys)
  const pods = new Set(ports.map((port) => port.inside.netns))
  for (const port of ports) if (!among.has(port.key)) pods.delete(port.inside.netns)
  return pods
}

/** Source rules do not go with a link; a pod's namespace that lives on keeps none. */
function removeRules(ports: PortPlan[]): void {
  const byPod = Map.groupBy(
    ports.filter(({ inside }) => inside.rules?.length),
    ({ inside }) => inside.netns,
  )
  for (const [netns, some] of byPod) {
    if (!isNamespace(netns)) continue
    const place = new Place(netns)
    try {
      const batch = new Batch()
      for (const { inside } of some)
        for (const rule of inside.rules ?? []) rt.deleteRule(batch, `delete ${ruleLine(netns, rule)}`, rule)
      const refusal = place.route.try(batch).refusals.find(({ code }) => !gone.has(code))
      if (refusal) throw refused(refusal)
    } finally {
      place.close()
    }
  }
}

/** What enforced a port inside the pod's namespace, when its link is gone. */
async function removeTables(inside: PortPlan['inside']): Promise<void> {
  if (inside.tables.length === 0 || !isNamespace(inside.netns)) return
  const place = new Place(inside.netns)
  try {
    await withdrawTables(place, inside.tables)
  } finally {
    place.close()
  }
}

/** A `+`, `-` or `~` line as what is wrong now. */
function difference(line: string): string {
  const what = line.slice(2)
  if (line.startsWith('+ ')) return `${what} is missing`
  return line.startsWith('- ') ? `${what} should not be there` : `${what} is not so`
}

const NSFS = 0x6e736673

function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS
  } catch {
    return false
  }
}
