import type { Link, NamespacePlan, PortLink, PortPlan } from '../../plan/node-plan.ts'
import type { Table } from '../../plan/ruleset.ts'
import { ruleText } from '../../plan/ruleset-text.ts'
import {
  addressLine,
  elementLine,
  forwardingLine,
  namespaceLine,
  neighbourLine,
  routeLine,
  ruleLine,
  sysctlLine,
} from '../lines.ts'

/**
 * Every object of a plan as one line of text, its namespace second. Two
 * objects are the same if and only if their lines are, so lines are what
 * `describe` prints, what `replace` reports and what a lost object is known by.
 */
export function namespaceLines(plan: NamespacePlan): string[] {
  const at = plan.netns
  return [
    ...(at === 'host' ? [] : [namespaceLine(at)]),
    ...sysctlLines(at, plan.sysctls),
    ...plan.links.filter((l) => l.kind !== 'existing').map((l) => linkLine(at, l)),
    ...plan.addresses.map((a) => addressLine(at, a)),
    ...plan.routes.map((r) => routeLine(at, r)),
    ...plan.neighbours.map((n) => neighbourLine(at, n)),
    ...plan.forwarding.map((f) => forwardingLine(at, f)),
    ...plan.tables.flatMap((t) => tableLines(at, t)),
  ]
}

/** What goes away with the port's link: both ends and all that hangs on them. */
function portLinkLines({ netns, link, inside, ...port }: PortPlan): string[] {
  const pod = inside.netns
  const mac = inside.mac === undefined ? '' : ` mac ${inside.mac}`
  return [
    ...(link.kind === 'veth' ? [nodeSideLine(netns, link)] : []),
    `link ${pod} ${inside.name} ${insideOf(link)}${mac} mtu ${inside.mtu}`,
    ...inside.addresses.map((address) => addressLine(pod, { link: inside.name, address })),
    ...inside.routes.map((r) => routeLine(pod, r)),
    ...(inside.rules ?? []).map((r) => ruleLine(pod, r)),
    ...inside.neighbours.map((n) => neighbourLine(pod, n)),
    ...sysctlLines(pod, inside.sysctls),
    ...inside.tables.flatMap((t) => tableLines(pod, t)),
    ...port.routes.map((r) => routeLine(netns, r)),
    ...port.neighbours.map((n) => neighbourLine(netns, n)),
    ...port.forwarding.map((f) => forwardingLine(netns, f)),
  ]
}

/** What stays when a port's link goes away by itself. */
export const portElementLines = ({ netns, elements }: PortPlan): string[] =>
  elements.map((e) => elementLine(netns, e.family, 'polynet', e.set, e))

export const portLines = (port: PortPlan): string[] => [...portLinkLines(port), ...portElementLines(port)]

/** The host's own settings stay as they are when a plan no longer asks for them. */
const sysctlLines = (at: string, sysctls: Record<string, string>): string[] =>
  at === 'host' ? [] : Object.entries(sysctls).map(([key, value]) => sysctlLine(at, key, value))

export function linkLine(at: string, link: Link): string {
  const head = `link ${at} ${link.name} ${link.kind}`
  if (link.kind === 'existing') return head
  const mac = link.mac === undefined ? '' : ` mac ${link.mac}`
  const bridge = link.kind !== 'bridge' && link.bridge !== undefined ? ` bridge ${link.bridge}` : ''
  const tail = `${mac} mtu ${link.mtu}${bridge}`
  if (link.kind === 'bridge') return head + tail
  if (link.kind === 'veth')
    return `${head} peer ${link.peer.netns} ${link.peer.name} ${link.peer.mac ?? ''}${tail}`
  return `${head} vni ${link.vni} port ${link.port} local ${link.local} underlay ${link.underlay}${tail}`
}

const nodeSideLine = (at: string, link: PortLink & { kind: 'veth' }): string =>
  `link ${at} ${link.name} veth mac ${link.mac}${link.noarp ? ' noarp' : ''}${
    link.bridge === undefined ? '' : ` bridge ${link.bridge}`
  }${link.isolated ? ' isolated' : ''}`

const insideOf = (link: PortLink): string => {
  if (link.kind === 'veth') return 'veth'
  if (link.kind === 'host-device') return `host-device ${link.device}`
  return `${link.kind} ${link.parent} ${link.kind === 'vlan' ? link.id : link.mode}`
}

export function tableLines(at: string, table: Table): string[] {
  const head = `${at} ${table.family} ${table.name}`
  const lines = [`table ${head}`]
  for (const set of table.sets) {
    const { name, key, map, interval, dynamic } = set
    const kind = `${map ?? ''}${interval ? ' interval' : ''}${dynamic ? ` dynamic ${JSON.stringify(dynamic)}` : ''}`
    lines.push(`set ${head} ${name}: ${key.join(' . ')} ${kind}`.trimEnd())
    for (const element of set.elements) lines.push(elementLine(at, table.family, table.name, name, element))
  }
  for (const { name, base, rules } of table.chains) {
    const on = base?.devices ? ` devices ${base.devices.join(' ')}` : ''
    const hook = base
      ? ` ${base.type} hook ${base.hook}${on} priority ${base.priority} policy ${base.policy}`
      : ''
    lines.push(`chain ${head} ${name}:${hook}`)
    rules.forEach((rule, i) => {
      lines.push(`rule ${head} ${name} ${i}: ${ruleText(rule)}`)
    })
  }
  return lines
}

/** What `after` has and `before` lacks, and the other way round; both lists may share objects, which costs nothing. */
export function difference<T>(
  before: T[],
  after: T[],
  line: (item: T) => string,
): { gone: string[]; added: string[] } {
  if (before === after) return { gone: [], added: [] }
  let start = 0
  const shorter = Math.min(before.length, after.length)
  while (start < shorter && same(before[start], after[start])) start++
  let tail = 0
  while (tail < shorter - start && same(before.at(-1 - tail), after.at(-1 - tail))) tail++
  const old = new Set(before.slice(start, before.length - tail).map(line))
  const now = new Set(after.slice(start, after.length - tail).map(line))
  return { gone: [...old].filter((l) => !now.has(l)), added: [...now].filter((l) => !old.has(l)) }
}

/** Equal by value, one level deep; unequal where it is not sure. */
function same(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || !a || !b) return false
  const keys = Object.keys(a) as never[]
  return keys.length === Object.keys(b).length && keys.every((k) => a[k] === b[k])
}
