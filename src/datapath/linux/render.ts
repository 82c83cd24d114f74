import { Fault } from '../../lib/fault.ts'
import type { Table } from '../../plan/ruleset.ts'
import { addressLine, forwardingLine, linkLine, neighbourLine, routeLine, sysctlLine } from './lines.ts'
import { Batch, type Netlink, refused } from './netlink.ts'
import type { Place } from './place.ts'
import * as rt from './route.ts'
import { addPortElements, addTables, missingElements, renderTables } from './tables.ts'
import type { Want, WantedLink } from './want.ts'

/**
 * Makes network namespaces as they are wanted. With `fresh` sides nothing is
 * looked at first: that is what an attachment does. Otherwise what is there
 * is listed, and only the difference is written.
 */
export interface Side {
  want: Want
  place: Place
  /**
   * What may be removed when it is not wanted: `all` (a namespace of ours),
   * `marked` (the host's: what carries Polynet's mark), `ports` (a pod's: what
   * is on our links), `nothing`; `fresh` also means that nothing is there yet.
   */
  owned: 'all' | 'marked' | 'ports' | 'nothing' | 'fresh'
}

export interface Rendered {
  changes: string[]
  /** Links of wanted names, as they are now: `<netns>/<name>`. */
  links: Map<string, rt.SeenLink>
}

const perBatch = 400
/** Deleting what is gone: ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL. */
const gone = new Set([2, 3, 19, 99])

/**
 * `host` is the place whose NICs carry tunnels. Throws the first refusal; what
 * was done till then stays, and `made` has the links that it created. `dry`:
 * only says what it would change.
 */
export function render(
  sides: Side[],
  host: Place,
  options: { dry?: boolean; made?: MadeLink[] } = {},
): Rendered {
  const bySide = new Map(sides.map((side) => [side.want.netns, side]))
  const links = new Map<string, rt.SeenLink>()
  const changes: string[] = []
  const dry = options.dry === true
  const job: Job = { sides, bySide, host, links, changes, dry, made: options.made ?? [] }

  const lookAround = () => {
    for (const side of sides) if (side.owned !== 'fresh') look(side, links)
  }
  lookAround()
  for (const side of sides)
    within(side, () => {
      writeSysctls(side, job, false)
      enforce(side, job, false)
    })
  if (removeLinks(job) && !dry) {
    links.clear()
    lookAround()
  }
  createLinks(job)
  for (const side of sides)
    within(side, () => {
      writeSysctls(side, job, true)
      enforce(side, job, true)
      configure(side, job)
    })
  return { changes, links }
}

/** Faults in a pod's namespace lead with the key of its port, so that the caller knows whose they are. */
function within(side: Side, act: () => void): void {
  try {
    act()
  } catch (error) {
    const { netns, links } = side.want
    const key = netns.startsWith('/') ? links.find((link) => link.port !== undefined)?.port : undefined
    if (
      !(error instanceof Fault) ||
      key === undefined ||
      links.some((l) => error.doing.startsWith(`${l.port}: `))
    )
      throw error
    throw new Fault(error.kind, `${key}: ${error.doing}`, error.problem, error)
  }
}

export interface MadeLink {
  netns: string
  wanted: WantedLink
}

interface Job {
  sides: Side[]
  bySide: Map<string, Side>
  host: Place
  links: Map<string, rt.SeenLink>
  changes: string[]
  dry: boolean
  made: MadeLink[]
}

const keyOf = (netns: string, name: string): string => `${netns}/${name}`

function look(side: Side, links: Map<string, rt.SeenLink>): void {
  side.place.indexes.clear()
  for (const message of side.place.route.dump(rt.dumpLinks)) {
    const link = rt.seenLink(message)
    side.place.indexes.set(link.name, link.index)
    links.set(keyOf(side.want.netns, link.name), link)
  }
}

const perLink = /^(?:ipv4|ipv6)\/(?:conf|neigh)\/([^/]+)\//

/** Settings of wanted links can be written only when these are there. */
function writeSysctls(side: Side, job: Job, ofLinks: boolean): void {
  const { netns, sysctls, links } = side.want
  const all = Object.entries(sysctls)
  if (all.length === 0) return
  const names = new Set(links.map((link) => link.name))
  const settings = all.filter(([name]) => {
    const link = perLink.exec(name)?.[1] ?? ''
    return names.has(link) === ofLinks && (!job.dry || !ofLinks || job.links.has(keyOf(netns, link)))
  })
  for (const name of side.place.sysctls(
    settings,
    job.dry ? 'dry' : side.owned === 'fresh' ? 'all' : 'differing',
  ))
    job.changes.push(`~ ${sysctlLine(netns, name, sysctls[name]!)}`)
}

/** Tables that hang on a device come when that is there and not up yet, all others before any link. */
function enforce(side: Side, job: Job, onDevices: boolean): void {
  const { want, place, owned } = side
  const hanging = (table: Table) => table.chains.some((chain) => chain.base?.devices !== undefined)
  const tables = want.tables.filter((table) => hanging(table) === onDevices)
  const known = want.tables.some((table) => table.name === 'polynet' && !hanging(table))
  const elements = onDevices ? [] : want.elements
  if (owned === 'fresh') {
    addTables(place, tables)
    if (elements.length > 0) addPortElements(place, elements)
    return
  }
  const later = new Set(want.tables.filter(hanging).map((table) => table.name))
  const mine = (name: string): boolean => {
    if (onDevices || later.has(name)) return false
    return owned === 'all' || (owned !== 'nothing' && name.startsWith('polynet'))
  }
  const looksAtTables = tables.length > 0 || (!onDevices && owned !== 'nothing')
  if (looksAtTables)
    job.changes.push(
      ...renderTables(place, want.netns, { tables, elements: known ? elements : [] }, mine, job.dry),
    )
  if (known || elements.length === 0) return
  for (const line of missingElements(place, want.netns, elements)) job.changes.push(`+ ${line}`)
  if (!job.dry) addPortElements(place, elements)
}

// ── links ──

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
      const other = job.links.get(keyOf(end.netns, end.name))
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

/** Deletes what is wrong or not wanted; whether there was anything. */
function removeLinks(job: Job): boolean {
  let any = false
  for (const side of job.sides) {
    if (side.owned === 'fresh') continue
    const { want, place, owned } = side
    const wanted = new Map(want.links.map((link) => [link.name, link]))
    const doomed: string[] = []
    for (const [key, seen] of job.links) {
      if (key !== keyOf(want.netns, seen.name)) continue
      const w = wanted.get(seen.name)
      const unwanted = w ? !fits(job, w, seen) : mayDelete(owned, seen)
      if (!unwanted) continue
      if (w && (seen.kind === undefined || (owned === 'ports' && !seen.alias.startsWith('polynet'))))
        throw new Fault(
          'kernel',
          `${named(w)}make link ${seen.name} in ${want.netns}`,
          'a device of that name is there already; rename it',
        )
      doomed.push(seen.name)
      job.changes.push(`- ${linkLine(want.netns, seen.name)}`)
    }
    if (doomed.length === 0) continue
    any = true
    if (job.dry) for (const name of doomed) job.links.delete(keyOf(want.netns, name))
    else within(side, () => deleteLinks(place.route, doomed))
  }
  return any
}

/** The port's key in front of a message about one of its links. */
const named = (link: WantedLink | undefined): string => (link?.port === undefined ? '' : `${link.port}: `)

function mayDelete(owned: Side['owned'], seen: rt.SeenLink): boolean {
  if (seen.loopback || seen.kind === undefined) return false
  return owned === 'all' || (owned === 'marked' && seen.name.startsWith('pn'))
}

/** Deletes links by one message, since each waits for the kernel's grace period. Those that are gone do not matter. */
export function deleteLinks(route: Netlink, names: string[]): void {
  for (const refusal of route.try(doom(names)).refusals) if (!gone.has(refusal.code)) throw refused(refusal)
}

/** All of `names` into the group that is deleted, and its deletion. */
export function doom(names: string[]): Batch {
  const batch = new Batch()
  for (const name of names) rt.setLink(batch, `delete link ${name}`, { name, group: rt.doomedGroup })
  rt.deleteGroup(batch, `delete links ${names.join(' ')}`, rt.doomedGroup)
  return batch
}

function createLinks(job: Job): void {
  const missing = job.sides.flatMap((side) =>
    side.want.links
      .filter((w) => !job.links.has(keyOf(side.want.netns, w.name)))
      .map((wanted) => ({ side, wanted })),
  )
  // A bridge before what becomes its port.
  const bridges = missing.filter(({ wanted }) => wanted.origin.kind === 'bridge')
  const others = missing.filter(({ wanted }) => wanted.origin.kind !== 'bridge')
  create(job, bridges)
  create(job, others)
}

function create(job: Job, missing: { side: Side; wanted: WantedLink }[]): void {
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
  for (const { side, wanted } of missing) {
    make(job, side, wanted, batchOf)
    if (wanted.origin.kind !== 'existing') job.changes.push(`+ ${linkLine(side.want.netns, wanted.name)}`)
  }
  const failed = [...batches].flatMap(([place, batch]) => place.route.try(batch).refusals)
  const refusedOnes = new Set(failed.map((refusal) => refusal.what))
  for (const { side, wanted } of missing)
    if (!refusedOnes.has(creating(side, wanted))) job.made.push({ netns: side.want.netns, wanted })
  if (failed[0]) throw refused(failed[0])
  const questions = new Map<Side, Batch>()
  for (const { side, wanted } of missing) {
    const known = side.owned === 'fresh' ? asMade(side, wanted) : undefined
    if (known) {
      job.links.set(keyOf(side.want.netns, wanted.name), known)
      continue
    }
    let batch = questions.get(side)
    if (!batch) {
      batch = new Batch()
      questions.set(side, batch)
    }
    rt.getLink(batch, `${named(wanted)}find link ${wanted.name} in ${side.want.netns}`, wanted.name)
  }
  for (const [side, batch] of questions)
    for (const message of side.place.route.send(batch)) {
      const link = rt.seenLink(message)
      side.place.indexes.set(link.name, link.index)
      job.links.set(keyOf(side.want.netns, link.name), link)
    }
}

/** What the kernel would say of a link that was made with everything said: saves asking. */
function asMade(
  side: Side,
  { name, mac, mtu, noarp, bridge, origin, port }: WantedLink,
): rt.SeenLink | undefined {
  if (port === undefined || mac === undefined || mtu === undefined) return undefined
  if (origin.kind !== 'veth' && origin.kind !== 'peer') return undefined
  return {
    index: side.place.newIndex(name),
    name,
    kind: 'veth',
    loopback: false,
    mac,
    mtu,
    up: origin.kind === 'veth',
    noarp: noarp === true,
    master: bridge === undefined ? 0 : side.place.index(bridge),
    group: 0,
    alias: '',
    link: 0,
    elsewhere: true,
    isolated: false,
  }
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
    const parent = from.index(origin.parent)
    rt.newUpper(batchOf(from), what, { name, mac, mtu, parent, netns: into(from) }, origin.link)
  } else if (origin.kind === 'moved') move(placeOf(job, origin.from), place, origin.device, name)
}

/** A NIC goes into a pod; its alias says where it came from and what it was like, for the way back. */
function move(from: Place, to: Place, device: string, name: string): void {
  const what = `move device ${device} into ${to.path}`
  const question = new Batch()
  rt.getLink(question, what, device)
  const seen = from.route.send(question).map(rt.seenLink)[0]
  if (!seen) throw new Fault('kernel', what, 'it is not there')
  const batch = new Batch()
  rt.setLink(batch, what, { index: seen.index, alias: `polynet ${device} ${seen.mac} ${seen.mtu}` })
  rt.setLink(batch, what, { index: seen.index, name, netns: to.fd, up: false })
  from.route.send(batch)
  from.indexes.delete(device)
}

/** The device of a `moved` link goes home: name, MAC and MTU as they were. Absent: nothing happens. */
export function moveBack(from: Place, home: Place, name: string): void {
  const what = `move device ${name} back from ${from.path}`
  const question = new Batch()
  rt.getLink(question, what, name)
  const { messages, refusals } = from.route.try(question)
  if (refusals.some((refusal) => gone.has(refusal.code))) return
  const seen = messages.map(rt.seenLink)[0]
  const was = seen && /^polynet (\S+) (\S+) (\d+)$/.exec(seen.alias)
  if (!seen || !was) return
  const [, device = name, mac, mtu] = was
  const batch = new Batch()
  rt.setLink(batch, what, { index: seen.index, up: false })
  rt.setLink(batch, what, { index: seen.index, mac, mtu: Number(mtu), alias: '' })
  rt.setLink(batch, what, { index: seen.index, name: device, netns: home.fd })
  from.route.send(batch)
}

// ── what is on links ──

function configure(side: Side, job: Job): void {
  const { want, place, owned } = side
  const { netns } = want
  const fresh = owned === 'fresh'
  const batch = new Batch()
  const keys = new Map(want.links.map((link) => [link.name, named(link)]))
  const index = (link: string): number => {
    if (job.dry) return 0
    const found = job.links.get(keyOf(netns, link))?.index
    return found ?? place.index(link)
  }
  const adding = (link: string, line: string): string => `${keys.get(link) ?? ''}add ${line}`
  for (const link of want.links) adjust(side, job, link, batch)

  const ours = new Set(want.links.map((link) => link.name))
  const mayClear = (link: string | undefined): link is string =>
    link !== undefined &&
    (owned === 'all' ||
      (owned === 'marked' && link.startsWith('pn')) ||
      (owned === 'ports' && ours.has(link)))

  const addresses = new Map(want.addresses.map((a) => [addressLine(netns, a.link, a.address), a]))
  const stale: { line: string; remove: (batch: Batch) => void }[] = []
  if (!fresh && (addresses.size > 0 || want.links.length > 0 || owned === 'all' || owned === 'marked')) {
    const names = linkNames(side, job)
    for (const seen of place.route.dump(rt.dumpAddresses).map(rt.seenAddress)) {
      const link = names.get(seen.index)
      const line = addressLine(netns, link ?? '', seen.address)
      if (addresses.delete(line) || !mayClear(link) || kernelMade(seen, link)) continue
      rt.deleteAddress(batch, line, seen.index, seen.address)
      job.changes.push(`- ${line}`)
    }
  }
  for (const [line, a] of addresses) {
    rt.newAddress(batch, adding(a.link, line), index(a.link), a.address)
    if (!fresh) job.changes.push(`+ ${line}`)
  }
  if (fresh) {
    for (const f of want.forwarding)
      rt.newForwarding(batch, adding(f.link, forwardingLine(netns, f)), index(f.link), f)
    for (const n of want.neighbours)
      rt.newNeighbour(batch, adding(n.link, neighbourLine(netns, n)), index(n.link), n)
    for (const r of want.routes) rt.newRoute(batch, adding(r.link, routeLine(netns, r)), index(r.link), r)
    place.route.send(batch)
    return
  }
  if (!job.dry) place.route.send(batch)

  const names = linkNames(side, job)
  const entries = new Writer(place.route, job.dry)
  const family = [rt.AF_INET, rt.AF_INET6]

  const forwarding = new Map(want.forwarding.map((f) => [forwardingLine(netns, f), f]))
  const forwardingKeys = new Set(want.forwarding.map(forwardingKey))
  for (const message of place.route.dump(() => rt.dumpNeighbours(rt.AF_BRIDGE))) {
    const seen = rt.seenForwarding(message)
    const link = seen && names.get(seen.index)
    if (!seen || link === undefined) continue
    const f = { link, mac: seen.mac, endpoint: seen.endpoint }
    const line = forwardingLine(netns, f)
    if (forwarding.delete(line) || !mayClear(link)) continue
    job.changes.push(`- ${line}`)
    if (!forwardingKeys.has(forwardingKey(f)))
      stale.push({ line, remove: (b) => rt.deleteForwarding(b, line, seen.index, f) })
  }
  for (const [line, f] of forwarding) {
    entries.write((b) => rt.newForwarding(b, adding(f.link, line), index(f.link), f))
    job.changes.push(`+ ${line}`)
  }

  const neighbours = new Map(want.neighbours.map((n) => [neighbourLine(netns, n), n]))
  const neighbourKeys = new Set(want.neighbours.map((n) => `${n.link} ${n.address}`))
  for (const message of family.flatMap((f) => place.route.dump(() => rt.dumpNeighbours(f)))) {
    const seen = rt.seenNeighbour(message)
    const link = seen && names.get(seen.index)
    if (!seen || link === undefined) continue
    const n = { link, address: seen.address, mac: seen.mac }
    const line = neighbourLine(netns, n)
    if (neighbours.delete(line) || !mayClear(link)) continue
    job.changes.push(`- ${line}`)
    if (!neighbourKeys.has(`${link} ${n.address}`))
      stale.push({ line, remove: (b) => rt.deleteNeighbour(b, line, seen.index, n) })
  }
  for (const [line, n] of neighbours) {
    entries.write((b) => rt.newNeighbour(b, adding(n.link, line), index(n.link), n))
    job.changes.push(`+ ${line}`)
  }

  const routes = new Map(want.routes.map((r) => [routeLine(netns, r), r]))
  const routeKeys = new Set(want.routes.map(routeKey))
  for (const message of family.flatMap((f) => place.route.dump(() => rt.dumpRoutes(f)))) {
    const seen = rt.seenRoute(message)
    const link = seen && names.get(seen.index)
    if (!seen || link === undefined) continue
    const r = { ...seen.route, link }
    const line = routeLine(netns, r)
    if (routes.delete(line)) continue
    const mine = owned === 'all' || (seen.protocol === rt.ours && (owned === 'marked' || mayClear(link)))
    if (!mine) continue
    job.changes.push(`- ${line}`)
    if (!routeKeys.has(routeKey(r)))
      stale.push({ line, remove: (b) => rt.deleteRoute(b, line, seen.index, r) })
  }
  for (const [line, r] of routes) {
    entries.write((b) => rt.newRoute(b, adding(r.link, line), index(r.link), r))
    job.changes.push(`+ ${line}`)
  }
  entries.finish()
  for (const { remove } of stale) entries.write(remove)
  entries.finish()
}

/** What an entry replaces: the kernel holds one per key. */
const routeKey = (r: { to: string; metric?: number }): string => `${r.to} ${r.metric ?? 0}`
const forwardingKey = (f: { link: string; mac: string; endpoint?: string }): string =>
  f.mac === '00:00:00:00:00:00'
    ? `${f.link} ${f.mac} ${f.endpoint}`
    : `${f.link} ${f.mac} ${f.endpoint === undefined}`

function kernelMade(seen: rt.SeenAddress, link: string | undefined): boolean {
  if (link === 'lo' && (seen.address === '127.0.0.1/8' || seen.address === '::1/128')) return true
  return seen.address.startsWith('fe80:') && seen.protocol !== rt.ours
}

function linkNames(side: Side, job: Job): Map<number, string> {
  const prefix = `${side.want.netns}/`
  const names = new Map<number, string>()
  for (const [key, link] of job.links)
    if (key.startsWith(prefix) && key === prefix + link.name) names.set(link.index, link.name)
  return names
}

/** Brings one link's own settings in line, upper state last. */
function adjust(side: Side, job: Job, wanted: WantedLink, batch: Batch): void {
  const { netns } = side.want
  const seen = job.links.get(keyOf(netns, wanted.name))
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
  if (wanted.mtu !== undefined && wanted.mtu !== seen.mtu) differs(`mtu ${wanted.mtu}`, { mtu: wanted.mtu })
  if (wanted.noarp !== undefined && wanted.noarp !== seen.noarp)
    differs(wanted.noarp ? 'noarp' : 'arp', { noarp: wanted.noarp })
  if (wanted.origin.kind !== 'existing' && wanted.origin.kind !== 'moved') {
    const master = wanted.bridge === undefined ? 0 : side.place.index(wanted.bridge)
    if (master !== seen.master) differs(`master ${wanted.bridge ?? 'none'}`, { master })
  }
  if (!seen.up) differs('up', { up: true })
  // Tells a pod's links of ours from those of others.
  const mark = (wanted.origin.kind === 'peer' || wanted.origin.kind === 'upper') && wanted.port !== undefined
  if (mark && seen.alias === '') message.alias = 'polynet'
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

/** Sends what is written to it in batches; refusals of deletions of what is gone do not count. */
class Writer {
  readonly #route: Netlink
  readonly #dry: boolean
  #batch = new Batch()

  constructor(route: Netlink, dry: boolean) {
    this.#route = route
    this.#dry = dry
  }

  write(add: (batch: Batch) => void): void {
    add(this.#batch)
    if (this.#batch.count >= perBatch) this.finish()
  }

  finish(): void {
    const batch = this.#batch
    this.#batch = new Batch()
    if (this.#dry) return
    for (const refusal of this.#route.try(batch).refusals)
      if (refusal.what.includes('add ') || !gone.has(refusal.code)) throw refused(refusal)
  }
}
