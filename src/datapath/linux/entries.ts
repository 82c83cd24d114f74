import { addressLine, forwardingLine, neighbourLine, routeLine, ruleLine } from '../lines.ts'
import { adjust } from './links.ts'
import { Batch, type Netlink, refused } from './netlink.ts'
import * as rt from './route.ts'
import { gone, type Job, named, type Side } from './side.ts'

const perBatch = 400

/** What is on the links of one side: their own settings, addresses, forwarding entries, neighbours, routes. */
export function configure(side: Side, job: Job): void {
  const { want, place, owned } = side
  const { netns } = want
  const batch = new Batch()
  const keys = new Map(want.links.map((link) => [link.name, named(link)]))
  const index = (link: string): number => {
    if (job.dry) return 0
    const found = job.links.get(netns, link)?.index
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

  const addresses = new Map(want.addresses.map((a) => [addressLine(netns, a), a]))
  const stale: { line: string; remove: (batch: Batch) => void }[] = []
  if (addresses.size > 0 || want.links.length > 0 || owned === 'all' || owned === 'marked') {
    const names = linkNames(side, job)
    for (const seen of place.route.dump(rt.dumpAddresses).map(rt.seenAddress)) {
      const link = names.get(seen.index)
      const line = addressLine(netns, { link: link ?? '', address: seen.address })
      if (addresses.delete(line) || !mayClear(link) || kernelMade(seen, link)) continue
      rt.deleteAddress(batch, line, seen.index, seen.address)
      job.changes.push(`- ${line}`)
    }
  }
  for (const [line, a] of addresses) {
    rt.newAddress(batch, adding(a.link, line), index(a.link), a.address)
    job.changes.push(`+ ${line}`)
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
    const link = seen?.route.blackhole ? 'lo' : seen && names.get(seen.index)
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

  // Each interface has priorities of its own, so those of the others stay.
  const rules = new Map(want.rules.map((rule) => [ruleLine(netns, rule), rule]))
  const priorities = new Set(want.rules.map(({ priority }) => priority))
  const seenRules =
    priorities.size === 0
      ? []
      : family.flatMap((f) => place.route.dump(() => rt.dumpRules(f)).map(rt.seenRule))
  for (const rule of seenRules) {
    if (!rule || !priorities.has(rule.priority)) continue
    const line = ruleLine(netns, rule)
    if (rules.delete(line)) continue
    job.changes.push(`- ${line}`)
    stale.push({ line, remove: (b) => rt.deleteRule(b, line, rule) })
  }
  for (const [line, rule] of rules) {
    entries.write((b) => rt.newRule(b, `add ${line}`, rule))
    job.changes.push(`+ ${line}`)
  }
  entries.finish()
  for (const { remove } of stale) entries.write(remove)
  entries.finish()
}

/** What an entry replaces: the kernel holds one per key. */
const routeKey = (r: { to: string; metric?: number; table?: number }): string =>
  `${r.to} ${r.metric ?? 0} ${r.table ?? 0}`
const forwardingKey = (f: { link: string; mac: string; endpoint?: string }): string =>
  f.mac === '00:00:00:00:00:00'
    ? `${f.link} ${f.mac} ${f.endpoint}`
    : `${f.link} ${f.mac} ${f.endpoint === undefined}`

function kernelMade(seen: rt.SeenAddress, link: string | undefined): boolean {
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
