import { Fault } from '../../lib/fault.ts'
import { familyOf } from '../../lib/ip.ts'
import { linkLine } from './lines.ts'
import { Batch, type Netlink, type Refusal, refused } from './netlink.ts'
import type { Place } from './place.ts'
import * as rt from './route.ts'
import { gone, isLeft, type Job, leave, named, onEach, type Side } from './side.ts'
import type { Origin, WantedLink } from './want.ts'

/** Links of a rendering: which are wrong, and making those that are missing. */

function placeOf(job: Job, netns: string): Place {
  return job.bySide.get(netns)?.place ?? job.host
}

/** Whether the link that is there is of the kind and on the ground that the wanted one would be made. */
function fits(job: Job, wanted: WantedLink, seen: rt.SeenLink): boolean {
  const { origin } = wanted
  switch (origin.kind) {
    case 'existing':
      return true
    case 'bridge':
      return seen.kind === 'bridge'
    case 'vxlan': {
      const { vni, port, local, underlay } = origin.vxlan
      const is = seen.vxlan
      return (
        is !== undefined &&
        is.vni === vni &&
        is.port === port &&
        is.local === local &&
        is.underlay === job.host.index(underlay)
      )
    }
    case 'veth':
    case 'peer': {
      const end = origin.kind === 'veth' ? origin.peer : origin.of
      // Its other end is in a pod that is not looked into.
      if (!job.bySide.has(end.netns)) return seen.kind === 'veth' && seen.elsewhere
      const other = job.links.get(end.netns, end.name)
      return (
        seen.kind === 'veth' &&
        other?.kind === 'veth' &&
        other.link === seen.index &&
        seen.link === other.index
      )
    }
    case 'upper':
      return rt.isUpper(seen, origin.link) && seen.link === placeOf(job, origin.from).index(origin.parent)
    case 'moved':
      return seen.alias.startsWith(`polynet ${origin.device} `)
  }
}

/** Deletes what is wrong or not wanted; whether there was anything. Throws before the first deletion when it may not. */
export function removeLinks(job: Job): boolean {
  // Other ends of what is left for this are not wrong.
  onEach(job, (side) => doomedOf(job, side))
  const doomed = new Map([...job.bySide.values()].map((side) => [side, doomedOf(job, side)]))
  onEach(job, (side) => {
    const names = doomed.get(side) ?? []
    const { netns } = side.want
    job.changes.push(...names.map((name) => `- ${linkLine(netns, name)}`))
    if (names.length === 0) return
    if (job.dry) for (const name of names) job.links.delete(netns, name)
    else deleteLinks(side.place.route, names)
  })
  return doomed.values().some((names) => names.length > 0)
}

function doomedOf(job: Job, { want, owned }: Side): string[] {
  const wanted = new Map(want.links.map((link) => [link.name, link]))
  const names: string[] = []
  for (const [name, seen] of job.links.of(want.netns)) {
    if (name !== seen.name) continue
    const w = wanted.get(seen.name)
    const unwanted = w ? !fits(job, w, seen) : mayDelete(owned, seen)
    if (!unwanted) continue
    if (w && (seen.kind === undefined || (owned === 'ports' && !isMarked(seen))))
      throw new Fault(
        'kernel',
        `${named(w)}make link ${seen.name} in ${want.netns}`,
        'a device of that name is there already; rename it',
      )
    names.push(seen.name)
  }
  return names
}

/** A NIC that was moved has its mark in the alias. */
const isMarked = ({ group, alias }: rt.SeenLink): boolean =>
  group === rt.portGroup || alias.startsWith('polynet')

function mayDelete(owned: Side['owned'], seen: rt.SeenLink): boolean {
  if (seen.loopback || seen.kind === undefined) return false
  return owned === 'all' || (owned === 'marked' && seen.name.startsWith('pn'))
}

/** Deletes links by one message, since each waits for the kernel's grace period. Those that are gone do not matter. */
export function deleteLinks(route: Netlink, names: string[]): void {
  let { refusals } = route.try(doom(names))
  if (isCrowded(refusals)) refusals = route.try(oneByOne(names)).refusals
  for (const refusal of refusals) if (!gone.has(refusal.code)) throw refused(refusal)
}

/** All of `names` into the group that is deleted, and its deletion. */
export function doom(names: string[]): Batch {
  const batch = new Batch()
  for (const name of names) rt.setLink(batch, `delete link ${name}`, { name, group: rt.doomedGroup })
  rt.deleteGroup(batch, `delete links ${names.join(' ')}`, rt.doomedGroup)
  return batch
}

const EOPNOTSUPP = 95

/** Whether a link that nobody can delete (`lo`, a NIC) is in that group, where a pod has put it: then no other of it is deleted. */
export const isCrowded = (refusals: Refusal[]): boolean => refusals.some(({ code }) => code === EOPNOTSUPP)

export function oneByOne(names: string[]): Batch {
  const batch = new Batch()
  for (const name of names) rt.deleteLink(batch, `delete link ${name}`, name)
  return batch
}

export function createLinks(job: Job): void {
  // A bridge before what becomes its port.
  create(job, ({ kind }) => kind === 'bridge')
  create(job, ({ kind }) => kind !== 'bridge')
}

function create(job: Job, isTurn: (origin: Origin) => boolean): void {
  const missing = [...job.bySide.values()].flatMap((side) =>
    side.want.links
      .filter(({ origin, name }) => isTurn(origin) && !job.links.get(side.want.netns, name))
      .map((wanted) => ({ side, wanted })),
  )
  if (missing.length === 0) return
  if (job.dry) {
    for (const { side, wanted } of missing) job.changes.push(`+ ${linkLine(side.want.netns, wanted.name)}`)
    return
  }
  const batches = new Map<Place, Batch>()
  const batchOf = (place: Place): Batch => {
    let batch = batches.get(place)
    if (!batch) {
      batch = new Batch()
      batches.set(place, batch)
    }
    return batch
  }
  const isOut = ({ side, wanted }: { side: Side; wanted: WantedLink }) =>
    !job.bySide.has(side.want.netns) || isLeft(job, side.want.netns, wanted)
  const asked: typeof missing = []
  for (const one of missing) {
    if (isOut(one)) continue
    const { side, wanted } = one
    try {
      make(job, side, wanted, batchOf)
      asked.push(one)
      if (wanted.origin.kind !== 'existing') job.changes.push(`+ ${linkLine(side.want.netns, wanted.name)}`)
    } catch (error) {
      leave(job, side, error)
    }
  }
  const failed = [...batches].flatMap(([place, batch]) => place.route.try(batch).refusals)
  const refusals = new Map(failed.map((refusal) => [refusal.what, refusal]))
  for (const { side, wanted } of asked)
    if (!refusals.has(creating(side, wanted))) job.made.push({ netns: side.want.netns, wanted })
  for (const one of asked) {
    const refusal = refusals.get(creating(one.side, one.wanted))
    if (refusal && !isOut(one)) leave(job, one.side, whyNot(refusal, one.wanted))
  }
  const bySide = Map.groupBy(asked, ({ side }) => side)
  onEach(job, (side) => {
    const { netns } = side.want
    const batch = new Batch()
    for (const { wanted } of bySide.get(side) ?? [])
      if (!isLeft(job, netns, wanted))
        rt.getLink(batch, `${named(wanted)}find link ${wanted.name} in ${netns}`, wanted.name)
    if (batch.count === 0) return
    for (const message of side.place.route.send(batch)) {
      const link = rt.seenLink(message)
      side.place.indexes.set(link.name, link.index)
      job.links.set(netns, link.name, link)
    }
  })
}

const EADDRINUSE = 98

/** The fault of the first refusal; of a tunnel whose port is taken with what to look for, since the kernel does not say who has it. */
function whyNot(refusal: Refusal, { origin }: WantedLink): Fault {
  const fault = refused(refusal)
  if (refusal.code !== EADDRINUSE || origin.kind !== 'vxlan') return fault
  const { port } = origin.vxlan
  const why = `another program has UDP port ${port} of this node; find it (ss -lunp sport = :${port}; ip -d link show type vxlan, in every network namespace) and stop it`
  return new Fault(fault.kind, fault.doing, `${fault.problem}; ${why}`)
}

const creating = (side: Side, wanted: WantedLink): string =>
  `${named(wanted)}create link ${wanted.name} in ${side.want.netns}`

function make(job: Job, side: Side, wanted: WantedLink, batchOf: (place: Place) => Batch): void {
  const { place } = side
  const { origin, name, mac, mtu, noarp } = wanted
  const what = creating(side, wanted)
  const master = wanted.bridge === undefined ? undefined : place.index(wanted.bridge)
  const message: rt.LinkMessage = { name, mac, mtu, noarp, master, up: true }
  const into = (from: Place) => (from === place ? undefined : place.fd)
  if (origin.kind === 'bridge') rt.newBridge(batchOf(place), what, message)
  else if (origin.kind === 'vxlan') {
    const underlay = job.host.index(origin.vxlan.underlay)
    rt.newVxlan(batchOf(job.host), what, { ...message, netns: into(job.host) }, origin.vxlan, underlay)
  } else if (origin.kind === 'veth') {
    const other = job.bySide.get(origin.peer.netns)
    const peer = other?.want.links.find((link) => link.name === origin.peer.name)
    if (!other || !peer)
      throw new Fault('invalid', what, `the plan lacks its peer's namespace ${origin.peer.netns}`)
    const netns = other.place === place ? undefined : other.place.fd
    rt.newVeth(batchOf(place), what, message, { name: peer.name, mac: peer.mac, mtu: peer.mtu, netns })
  } else if (origin.kind === 'upper') {
    const from = placeOf(job, origin.from)
    const parent = about(wanted, () => from.index(origin.parent))
    rt.newUpper(batchOf(from), what, { name, mac, mtu, parent, netns: into(from) }, origin.link)
  } else if (origin.kind === 'moved')
    about(wanted, () => move(placeOf(job, origin.from), place, origin.device, name))
}

/** What `act` returns; a fault about a NIC leads with the port that wants it. */
function about<T>(wanted: WantedLink, act: () => T): T {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    throw new Fault(error.kind, `${named(wanted)}${error.doing}`, error.problem, error)
  }
}

/** A NIC goes into a pod; its alias says where it came from and what it was like, for the way back. */
export function move(from: Place, to: Place, device: string, name: string): void {
  const what = `move device ${device} into ${to.path}`
  const question = new Batch()
  rt.getLink(question, what, device)
  const seen = from.route.send(question).map(rt.seenLink)[0]
  if (!seen) throw new Fault('kernel', what, 'it is not there')
  const batch = new Batch()
  const alias = `polynet ${device} ${seen.mac} ${seen.mtu} ${seen.up ? 'up' : 'down'}`
  rt.setLink(batch, what, { index: seen.index, alias })
  rt.setLink(batch, what, { index: seen.index, name, netns: to.fd, up: false })
  from.route.send(batch)
  from.indexes.delete(device)
}

/** What the alias of a NIC that went into a pod says it was. The pod may have written something else. */
function asItWas({
  alias,
}: rt.SeenLink): { name: string; mac: string; mtu: number; up: boolean } | undefined {
  const [, name = '', mac = '', mtu, up] = /^polynet (\S{1,15}) (\S+) (\d+)(?: (up|down))?$/.exec(alias) ?? []
  return mtu === undefined || name.startsWith('pn')
    ? undefined
    : { name, mac, mtu: Number(mtu), up: up === 'up' }
}

/**
 * The device of a `moved` link goes home: MAC, MTU and state as its alias says they were, under the name that it had
 * there, whatever the pod has made of the alias. Absent: nothing happens.
 */
export function moveBack(from: Place, home: Place, name: string, device: string): void {
  const what = `move device ${name} back from ${from.path}`
  const question = new Batch()
  rt.getLink(question, what, name)
  const { messages, refusals } = from.route.try(question)
  if (refusals.some((refusal) => gone.has(refusal.code))) return
  const seen = messages.map(rt.seenLink)[0]
  // One that a pod made in its place is no hardware and says nothing.
  if (!seen || (seen.kind !== undefined && !seen.alias.startsWith('polynet '))) return
  const { mac, mtu, up } = asItWas(seen) ?? { mac: undefined, mtu: undefined, up: true }
  const batch = new Batch()
  rt.setLink(batch, what, { index: seen.index, up: false })
  rt.setLink(batch, what, { index: seen.index, mac, mtu, alias: '', group: 0 })
  rt.setLink(batch, what, { index: seen.index, name: device, netns: home.fd, up })
  from.route.send(batch)
}

/**
 * A pod's namespace that ends gives its NIC back by itself, under the pod's
 * name for it (or `dev7`, where the host has one of that name) and with the
 * pod's MAC and MTU. Makes those in the host's namespace what they were;
 * whether there were any. One whose name somebody else has by now stays as it is.
 */
export function takeHome(job: Job): boolean {
  const there = job.links.of('host')
  let any = false
  for (const seen of there.values()) {
    const was = asItWas(seen)
    if (!was || (was.name !== seen.name && there.has(was.name))) continue
    const batch = new Batch()
    const { index, name } = seen
    rt.setLink(batch, `take device ${name} home`, { index, up: false })
    rt.setLink(batch, `take device ${name} home`, { index, name: was.name, mac: was.mac, mtu: was.mtu })
    rt.setLink(batch, `take device ${name} home`, { index, alias: '', group: 0, up: was.up })
    if (!job.dry && job.host.route.try(batch).refusals.length > 0) continue
    job.changes.push(`~ ${linkLine('host', was.name, [`was ${name}`])}`)
    any = true
  }
  return any
}

/** What a tunnel adds to a packet, by the family of its addresses. */
const tunnelBytes = { 4: 50, 6: 70 } as const

/**
 * The MTU that the link is to have. A tunnel has no more than its NIC leaves
 * it: the kernel makes it so, and refuses to change that. A network's MTU is
 * fixed, and a node may come later whose NIC has less.
 */
function mtuFor(job: Job, { origin, mtu }: WantedLink, seen: rt.SeenLink): number | undefined {
  if (mtu === undefined || mtu <= seen.mtu || origin.kind !== 'vxlan') return mtu
  const { underlay, local } = origin.vxlan
  const nic = job.host.link(underlay, `find link ${underlay}`)
  return Math.min(mtu, Math.max(seen.mtu, nic.mtu - tunnelBytes[familyOf(local)]))
}

/** Brings one link's own settings in line, upper state last. */
export function adjust(side: Side, job: Job, wanted: WantedLink, batch: Batch): void {
  const { netns } = side.want
  const seen = job.links.get(netns, wanted.name)
  if (!seen && job.dry) return
  if (!seen)
    throw new Fault(
      'kernel',
      `${named(wanted)}set up link ${wanted.name} in ${netns}`,
      'there is no such link',
    )
  const message: rt.LinkMessage = { index: seen.index }
  const details: string[] = []
  const differs = (text: string, set: Partial<rt.LinkMessage>): void => {
    Object.assign(message, set)
    details.push(text)
  }
  if (wanted.mac !== undefined && wanted.mac !== seen.mac) differs(`mac ${wanted.mac}`, { mac: wanted.mac })
  const mtu = mtuFor(job, wanted, seen)
  if (mtu !== undefined && mtu !== seen.mtu) differs(`mtu ${mtu}`, { mtu })
  if (wanted.noarp !== undefined && wanted.noarp !== seen.noarp)
    differs(wanted.noarp ? 'noarp' : 'arp', { noarp: wanted.noarp })
  if (wanted.origin.kind !== 'existing' && wanted.origin.kind !== 'moved') {
    const master = wanted.bridge === undefined ? 0 : side.place.index(wanted.bridge)
    if (master !== seen.master) differs(`master ${wanted.bridge ?? 'none'}`, { master })
  }
  if (!seen.up) differs('up', { up: true })
  // Tells a pod's links of ours from those of others.
  const mark = (wanted.origin.kind === 'peer' || wanted.origin.kind === 'upper') && wanted.port !== undefined
  if (mark && !isMarked(seen)) message.group = rt.portGroup
  if (details.length > 0) {
    rt.setLink(batch, `${named(wanted)}set link ${wanted.name} in ${netns}: ${details.join(' ')}`, message)
    Object.assign(seen, { mac: message.mac ?? seen.mac, mtu: message.mtu ?? seen.mtu, up: true })
  }
  if (wanted.bridge !== undefined && (wanted.isolated ?? false) !== seen.isolated) {
    const isolated = wanted.isolated ?? false
    rt.setBridgePort(batch, `set bridge port ${wanted.name} in ${netns}`, seen.index, isolated)
    details.push(isolated ? 'isolated' : 'not isolated')
  }
  if (details.length > 0 && !job.changes.includes(`+ ${linkLine(netns, wanted.name)}`))
    job.changes.push(`~ ${linkLine(netns, wanted.name, details)}`)
}
