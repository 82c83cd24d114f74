import type { Forwarding, Neighbour, Route, SourceRule } from '../../plan/node-plan.ts'
import { addressLine, forwardingLine, neighbourLine, routeLine, ruleLine } from '../lines.ts'
import { adjust } from './links.ts'
import { Batch, type Netlink, refused } from './netlink.ts'
import * as rt from './route.ts'
import { gone, type Job, named, type Side } from './side.ts'

const perBatch = 400

/** What is on the links of one side: their own settings, addresses, forwarding entries, neighbours, routes. */
export function configure(side: Side, job: Job): void {
  const links = linksOf(side, job)
  configureLinks(side, job, links)
  const names = linkNames(side, job)
  const writer = new Writer(side.place.route, job.dry)
  const stale = [
    bring(forwardingOn(side, links, names), job, writer),
    bring(neighboursOn(side, links, names), job, writer),
    bring(routesOn(side, links, names), job, writer),
  ].flat()
  writer.finish()
  stale.push(...bring(rulesOn(side), job, writer))
  writer.finish()
  for (const remove of stale) writer.write(remove)
  writer.finish()
}

/** What is asked of a side's links by name. */
interface OfLinks {
  index(link: string): number
  /** What a message is for that adds something to a link: the port's key is in front of it. */
  adding(link: string, line: string): string
  /** Whether what is on the link goes when nobody wants it. */
  mayClear(link: string): boolean
}

function linksOf({ want, place, owned }: Side, job: Job): OfLinks {
  const keys = new Map(want.links.map((link) => [link.name, named(link)]))
  return {
    index: (link) => (job.dry ? 0 : (job.links.get(want.netns, link)?.index ?? place.index(link))),
    adding: (link, line) => `${keys.get(link) ?? ''}add ${line}`,
    mayClear: (link) =>
      owned === 'all' ||
      (owned === 'marked' && link.startsWith('pn')) ||
      (owned === 'ports' && keys.has(link)),
  }
}

/** Their own settings, and their addresses, in one batch: those that are not wanted go before others come. */
function configureLinks(side: Side, job: Job, links: OfLinks): void {
  const { want, place, owned } = side
  const { netns } = want
  const batch = new Batch()
  for (const link of want.links) adjust(side, job, link, batch)
  const missing = new Map(want.addresses.map((a) => [addressLine(netns, a), a]))
  if (missing.size > 0 || want.links.length > 0 || owned === 'all' || owned === 'marked') {
    const names = linkNames(side, job)
    for (const seen of place.route.dump(rt.dumpAddresses).map(rt.seenAddress)) {
      const link = names.get(seen.index)
      const line = addressLine(netns, { link: link ?? '', address: seen.address })
      if (missing.delete(line) || link === undefined || !links.mayClear(link) || kernelMade(seen, link))
        continue
      rt.deleteAddress(batch, line, seen.index, seen.address)
      job.changes.push(`- ${line}`)
    }
  }
  for (const [line, a] of missing) {
    rt.newAddress(batch, links.adding(a.link, line), links.index(a.link), a.address)
    job.changes.push(`+ ${line}`)
  }
  if (!job.dry) place.route.send(batch)
}

/** Entries of one kind: those wanted, those there, and how the kernel is told. */
interface Entries<T> {
  wanted: T[]
  /** The same for the same entry. */
  line(entry: T): string
  /** The kernel holds one for each: another one replaces it. */
  key(entry: T): string
  /** `mine`: goes when nobody wants it. */
  there: { entry: T; index: number; mine: boolean }[]
  add(batch: Batch, line: string, entry: T): void
  remove(batch: Batch, line: string, entry: T, index: number): void
}

/** Writes the entries that are missing; how to remove those that nobody wants and that none of these has replaced. */
function bring<T>(entries: Entries<T>, job: Job, writer: Writer): ((batch: Batch) => void)[] {
  const { wanted, line, key, there, add, remove } = entries
  const missing = new Map(wanted.map((entry) => [line(entry), entry]))
  const keys = new Set(wanted.map(key))
  const stale: ((batch: Batch) => void)[] = []
  for (const { entry, index, mine } of there) {
    const text = line(entry)
    if (missing.delete(text) || !mine) continue
    job.changes.push(`- ${text}`)
    if (!keys.has(key(entry))) stale.push((batch) => remove(batch, text, entry, index))
  }
  for (const [text, entry] of missing) {
    writer.write((batch) => add(batch, text, entry))
    job.changes.push(`+ ${text}`)
  }
  return stale
}

type Names = ReadonlyMap<number, string>

const inet = [rt.AF_INET, rt.AF_INET6]

function forwardingOn({ want, place }: Side, links: OfLinks, names: Names): Entries<Forwarding> {
  const messages = place.route.dump(() => rt.dumpNeighbours(rt.AF_BRIDGE))
  return {
    wanted: want.forwarding,
    line: (f) => forwardingLine(want.netns, f),
    key: (f) =>
      f.mac === '00:00:00:00:00:00'
        ? `${f.link} ${f.mac} ${f.endpoint}`
        : `${f.link} ${f.mac} ${f.endpoint === undefined}`,
    there: messages.flatMap((message) => {
      const seen = rt.seenForwarding(message)
      const link = seen && names.get(seen.index)
      if (!seen || link === undefined) return []
      const entry = { link, mac: seen.mac, endpoint: seen.endpoint }
      return [{ entry, index: seen.index, mine: links.mayClear(link) }]
    }),
    add: (batch, line, f) => rt.newForwarding(batch, links.adding(f.link, line), links.index(f.link), f),
    remove: (batch, line, f, index) => rt.deleteForwarding(batch, line, index, f),
  }
}

function neighboursOn({ want, place }: Side, links: OfLinks, names: Names): Entries<Neighbour> {
  const messages = inet.flatMap((family) => place.route.dump(() => rt.dumpNeighbours(family)))
  return {
    wanted: want.neighbours,
    line: (n) => neighbourLine(want.netns, n),
    key: (n) => `${n.link} ${n.address}`,
    there: messages.flatMap((message) => {
      const seen = rt.seenNeighbour(message)
      const link = seen && names.get(seen.index)
      if (!seen || link === undefined) return []
      const entry = { link, address: seen.address, mac: seen.mac }
      return [{ entry, index: seen.index, mine: links.mayClear(link) }]
    }),
    add: (batch, line, n) => rt.newNeighbour(batch, links.adding(n.link, line), links.index(n.link), n),
    remove: (batch, line, n, index) => rt.deleteNeighbour(batch, line, index, n),
  }
}

function routesOn({ want, place, owned }: Side, links: OfLinks, names: Names): Entries<Route> {
  // A router's, on the host or in a pod, may be a million.
  const protocol = owned === 'all' ? 0 : rt.ours
  const messages = inet.flatMap((family) => place.route.dump(() => rt.dumpRoutes(family, protocol)))
  return {
    wanted: want.routes,
    line: (r) => routeLine(want.netns, r),
    key: (r) => `${r.to} ${r.metric ?? 0} ${r.table ?? 0}`,
    there: messages.flatMap((message) => {
      const seen = rt.seenRoute(message)
      const link = seen?.route.blackhole ? 'lo' : seen && names.get(seen.index)
      if (!seen || link === undefined) return []
      const marked = seen.protocol === rt.ours && (owned === 'marked' || links.mayClear(link))
      return [{ entry: { ...seen.route, link }, index: seen.index, mine: owned === 'all' || marked }]
    }),
    add: (batch, line, r) => rt.newRoute(batch, links.adding(r.link, line), links.index(r.link), r),
    remove: (batch, line, r, index) => rt.deleteRoute(batch, line, index, r),
  }
}

/** Each interface has priorities of its own, so those of the others stay. */
function rulesOn({ want, place }: Side): Entries<SourceRule> {
  const line = (rule: SourceRule) => ruleLine(want.netns, rule)
  const priorities = new Set(want.rules.map(({ priority }) => priority))
  const messages =
    priorities.size === 0 ? [] : inet.flatMap((family) => place.route.dump(() => rt.dumpRules(family)))
  return {
    wanted: want.rules,
    line,
    // Any number of the same priority.
    key: line,
    there: messages.flatMap((message) => {
      const entry = rt.seenRule(message)
      return entry && priorities.has(entry.priority) ? [{ entry, index: 0, mine: true }] : []
    }),
    add: (batch, text, rule) => rt.newRule(batch, `add ${text}`, rule),
    remove: (batch, text, rule) => rt.deleteRule(batch, text, rule),
  }
}

function kernelMade(seen: rt.SeenAddress, link: string): boolean {
  if (link === 'lo' && (seen.address === '127.0.0.1/8' || seen.address === '::1/128')) return true
  return seen.address.startsWith('fe80:') && seen.protocol !== rt.ours
}

function linkNames(side: Side, job: Job): Map<number, string> {
  const names = new Map<number, string>()
  for (const [name, link] of job.links.of(side.want.netns))
    if (name === link.name) names.set(link.index, name)
  return names
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
