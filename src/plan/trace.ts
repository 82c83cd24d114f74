import { lastOf, parseAddress, parsePrefix } from '../lib/ip.ts'
import {
  type Chain,
  type Element,
  type Field,
  type NftSet,
  type Rule,
  type Statement,
  share,
  shares,
  type Table,
  type Value,
  type Verdict,
} from './ruleset.ts'

/**
 * A packet as a rule sees it. What is absent does not match: as in the kernel,
 * a rule that looks at a header which the packet does not have is passed over,
 * also when it asks for "not".
 */
export interface Packet {
  iifname?: string
  oifname?: string
  ether?: { saddr: string; daddr: string }
  arp?: Arp
  ip?: { saddr: string; daddr: string; ttl?: number }
  /** `tcp`, `udp`, `icmp`, `icmpv6` or a number. */
  l4proto?: Value
  sport?: number
  dport?: number
  /** Of ICMP or ICMPv6, as nft writes it: `echo-request`, `nd-neighbor-solicit`. */
  icmpType?: Value
  /** Of a VXLAN packet. */
  vni?: number
  /** Of neighbour discovery: whose MAC is asked for, or told. */
  target?: string
  ctState?: 'new' | 'established' | 'related' | 'invalid' | 'untracked'
  /** Whether its connection is known from a packet before: `new` are all until there was an answer. */
  ctConfirmed?: boolean
  ctMark?: number
  mark?: number
  /** How many were dealt out to shares before it. */
  dealt?: number
  /** What the namespace's routes say of the destination; absent: `unicast`. */
  daddrType?: 'local' | 'unicast' | 'broadcast' | 'multicast'
}

export interface Arp {
  operation: 'request' | 'reply'
  senderMac: string
  senderIp: string
  targetMac?: string
  targetIp: string
}

/** Where in the packet's way the rules are asked. */
export interface Hook {
  family: Table['family']
  hook: NonNullable<Chain['base']>['hook']
  /** For ingress and egress: the device whose chains are asked. */
  device?: string
}

/** What rules remember from packet to packet. Kept by the caller, one per namespace; `nowMs` is the caller's clock. */
export interface TraceState {
  nowMs: number
  buckets: Map<string, Bucket>
  /** Connections that were counted, by what they were counted for. */
  held: Map<string, Set<string>>
  /** Whether a connection (`connectionOf`) is still tracked. */
  isOpen: (connection: string) => boolean
  /** Packets that were dealt out to shares. */
  dealt: number
}

interface Bucket {
  tokens: number
  atMs: number
}

/** Without `isOpen`, connections stay open. */
export const freshState = (nowMs = 0, isOpen: TraceState['isOpen'] = () => true): TraceState => ({
  nowMs,
  buckets: new Map(),
  held: new Map(),
  isOpen,
  dealt: 0,
})

/** What tells the packet's connection from others, in the direction that the packet goes. */
export const connectionOf = ({ l4proto, ip, sport, dport }: Packet): string =>
  `${l4proto} ${ip?.saddr} ${sport ?? 0} ${ip?.daddr} ${dport ?? 0}`

export interface Trace {
  verdict: 'accept' | 'drop'
  /** Each rule that matched and each chain that ended, a line each. */
  path: string[]
  /** Where it was dropped: `table inet polynet chain from-pods: not its address`. */
  reason?: string
  /** What the packet carries on: a mark that was set, and what a nat or raw rule asked for. */
  mark?: number
  masquerade?: true
  notrack?: true
}

/**
 * What `tables` do to `packet` at `hook`, and which rules decided. Base chains
 * are asked in the order of their priority; the first drop is final, an accept
 * only ends its own chain. Without `state` no rate is ever exceeded.
 */
export function trace(tables: Table[], packet: Packet, hook: Hook, state?: TraceState): Trace {
  const walk: Walk = { packet: { ...packet }, hook, state, result: { verdict: 'accept', path: [] } }
  for (const { table, chain } of baseChains(tables, hook)) {
    const base = chain.base as NonNullable<Chain['base']>
    const verdict = run(walk, table, chain, 0) ?? base.policy
    if (verdict !== 'drop') continue
    walk.result.verdict = 'drop'
    walk.result.reason ??= say(table, chain, 'policy drop', walk)
    break
  }
  return walk.result
}

interface Walk {
  packet: Packet
  hook: Hook
  state?: TraceState
  result: Trace
}

function baseChains(tables: Table[], { family, hook, device }: Hook): { table: Table; chain: Chain }[] {
  const found: { table: Table; chain: Chain; priority: number }[] = []
  for (const table of tables) {
    if (table.family !== family) continue
    for (const chain of table.chains) {
      if (chain.base?.hook !== hook) continue
      if (device !== undefined && !chain.base.devices?.includes(device)) continue
      found.push({ table, chain, priority: chain.base.priority })
    }
  }
  return found.sort((a, b) => a.priority - b.priority)
}

/** Undefined: the chain's end was reached, or a return. */
function run(walk: Walk, table: Table, chain: Chain, depth: number): 'accept' | 'drop' | undefined {
  if (depth > 16)
    throw new Error(`table ${table.family} ${table.name} chain ${chain.name}: jumps more than 16 deep`)
  for (const rule of chain.rules) {
    const verdict = decide(walk, table, chain, rule)
    if (verdict === undefined) continue
    const where = say(table, chain, textOf(rule, verdict), walk)
    if (verdict === 'drop') walk.result.reason = where
    if (verdict === 'accept' || verdict === 'drop') return verdict
    if (verdict === 'return') return undefined
    const next = chainNamed(table, 'jump' in verdict ? verdict.jump : verdict.goto)
    const inner = run(walk, table, next, depth + 1)
    if (inner || 'goto' in verdict) return inner
  }
  return undefined
}

function decide(walk: Walk, table: Table, chain: Chain, rule: Rule): Verdict | undefined {
  for (const statement of rule.do) {
    const outcome = step(walk, table, chain, rule, statement)
    if (outcome === false) return undefined
    if (outcome !== true) return outcome
  }
  return undefined
}

/** True: go on with the rule; false: it does not match; a verdict: done. */
function step(walk: Walk, table: Table, chain: Chain, rule: Rule, s: Statement): boolean | Verdict {
  const { packet, hook, result, state } = walk
  if ('match' in s) {
    const value = fieldOf(packet, s.match, hook)
    if (value === undefined) return false
    const wanted = 'is' in s ? s.is : s.not
    const equal = (Array.isArray(wanted) ? wanted : [wanted]).some((w) => covers(s.match, w, value))
    return equal === 'is' in s
  }
  if ('lookup' in s) {
    const found = find(setNamed(table, 'in' in s ? s.in : s.notIn), s.lookup, packet, hook)
    return found !== undefined && (found !== null) === 'in' in s
  }
  if ('vmap' in s) return find(setNamed(table, s.map), s.vmap, packet, hook)?.verdict ?? false
  if ('update' in s) {
    const key = keyOf(s.key, packet, hook)
    if (key === undefined) return false
    return over(state, `${table.family} ${table.name} @${s.update}`, s.limitOver, {
      key,
      set: setNamed(table, s.update),
    })
  }
  if ('add' in s) return overCount(walk, table, s)
  if ('limitOver' in s)
    return over(
      state,
      `${table.family} ${table.name} ${chain.name} ${chain.rules.indexOf(rule)}`,
      s.limitOver,
    )
  if ('verdict' in s) return s.verdict
  if ('setMark' in s) {
    packet.mark = s.setMark
    result.mark = s.setMark
  } else if ('masquerade' in s) {
    result.masquerade = true
    return 'accept'
  } else if ('notrack' in s) {
    packet.ctState = 'untracked'
    result.notrack = true
  }
  return true
}

function chainNamed(table: Table, name: string): Chain {
  const chain = table.chains.find((c) => c.name === name)
  if (!chain) throw new Error(`table ${table.family} ${table.name} has no chain ${name}`)
  return chain
}

function setNamed(table: Table, name: string): NftSet {
  const set = table.sets.find((s) => s.name === name)
  if (!set) throw new Error(`table ${table.family} ${table.name} has no set ${name}`)
  return set
}

function say(table: Table, chain: Chain, what: string, walk: Walk): string {
  const line = `table ${table.family} ${table.name} chain ${chain.name}: ${what}`
  walk.result.path.push(line)
  return line
}

function textOf(rule: Rule, verdict: Verdict): string {
  const name =
    typeof verdict === 'string'
      ? verdict
      : 'jump' in verdict
        ? `jump ${verdict.jump}`
        : `goto ${verdict.goto}`
  if (verdict === 'drop' && rule.comment) return rule.comment
  return rule.comment ? `${name} (${rule.comment})` : name
}

/** A token bucket as nft's: full at first, `burst` packets deep. */
function over(
  state: TraceState | undefined,
  name: string,
  limit: { rate: number; per: 'second' | 'minute'; burst: number },
  dynamic?: { key: string; set: NftSet },
): boolean {
  if (!state) return false
  const id = dynamic ? `${name} ${dynamic.key}` : name
  let bucket = state.buckets.get(id)
  if (dynamic && bucket && state.nowMs - bucket.atMs >= (dynamic.set.dynamic?.timeoutS ?? Infinity) * 1000)
    bucket = undefined
  if (!bucket) {
    // A full dynamic set takes no more keys; the rule then does not match (nft_dynset breaks).
    if (dynamic && !state.buckets.has(id) && isFull(state, name, dynamic.set)) return false
    bucket = { tokens: limit.burst, atMs: state.nowMs }
    state.buckets.set(id, bucket)
  }
  const perMs = limit.rate / (limit.per === 'second' ? 1000 : 60_000)
  bucket.tokens = Math.min(limit.burst, bucket.tokens + (state.nowMs - bucket.atMs) * perMs)
  bucket.atMs = state.nowMs
  if (bucket.tokens < 1) return true
  bucket.tokens--
  return false
}

/** As nf_conncount: those that are over are taken off the list when the next one comes. */
function overCount(
  { packet, hook, state }: Walk,
  table: Table,
  { add, key: fields, countOver }: Extract<Statement, { add: string }>,
): boolean {
  if (!state) return false
  const key = keyOf(fields, { ...packet, dealt: state.dealt++ }, hook)
  if (key === undefined || packet.ctState === undefined || packet.ctState === 'untracked') return false
  const id = `${table.family} ${table.name} @${add} ${key}`
  const held = state.held.get(id) ?? new Set()
  const own = connectionOf(packet)
  for (const connection of held) if (connection !== own && !state.isOpen(connection)) held.delete(connection)
  state.held.set(id, held.add(own))
  return held.size > countOver
}

function isFull(state: TraceState, name: string, { dynamic }: NftSet): boolean {
  if (!dynamic) return false
  let held = 0
  for (const [id, bucket] of state.buckets) {
    if (!id.startsWith(`${name} `)) continue
    if (state.nowMs - bucket.atMs >= (dynamic.timeoutS ?? Infinity) * 1000) state.buckets.delete(id)
    else held++
  }
  return held >= dynamic.size
}

/** The element that has the packet's key; null when none has, undefined when the packet has no such key. */
function find(set: NftSet, fields: Field[], packet: Packet, hook: Hook): Element | null | undefined {
  const key = keyOf(fields, packet, hook)
  if (key === undefined) return undefined
  const index = indexOf(set)
  return (
    (set.interval
      ? index.interval(fieldOf(packet, fields[0] as Field, hook) as Value)
      : index.exact.get(key)) ?? null
  )
}

function keyOf(fields: Field[], packet: Packet, hook: Hook): string | undefined {
  const parts: Value[] = []
  for (const field of fields) {
    const value = fieldOf(packet, field, hook)
    if (value === undefined) return undefined
    parts.push(canonical(field, value))
  }
  return parts.join(' . ')
}

interface Index {
  exact: Map<string, Element>
  interval(value: Value): Element | undefined
}

/** Built when a packet first needs it; a set whose elements change is another object. */
const indexes = new WeakMap<NftSet, Index>()

function indexOf(set: NftSet): Index {
  let index = indexes.get(set)
  if (index) return index
  const exact = new Map<string, Element>()
  const ranges: { from: bigint; to: bigint; element: Element }[] = []
  for (const element of set.elements)
    if (set.interval) {
      const range = rangeOf(element.key[0] as Value)
      if (range) ranges.push({ ...range, element })
    } else exact.set(element.key.map((v, i) => canonical(set.key[i] as Field, v)).join(' . '), element)
  const interval = (value: Value): Element | undefined => {
    const at = rangeOf(value)
    return at && ranges.find((r) => at.from >= r.from && at.from <= r.to)?.element
  }
  index = { exact, interval }
  indexes.set(set, index)
  return index
}

/** First and last of a prefix, range, address or number, with the families kept apart. */
function rangeOf(value: Value): { from: bigint; to: bigint } | undefined {
  if (typeof value === 'number') return { from: BigInt(value), to: BigInt(value) }
  const dash = value.indexOf('-')
  if (dash > 0) {
    const from = rangeOf(value.slice(0, dash))
    const to = rangeOf(value.slice(dash + 1))
    return from && to && { from: from.from, to: to.to }
  }
  if (/^[0-9]+$/.test(value)) return rangeOf(Number(value))
  const prefix = parsePrefix(value)
  const family = prefix ?? parseAddress(value)
  if (!family) return undefined
  const base = BigInt(family.family) << 128n
  return { from: base + family.value, to: base + (prefix ? lastOf(prefix).value : family.value) }
}

/** Equal, or of an address: inside the prefix. Ranges and wildcards are for sets and for nobody. */
function covers(field: Field, wanted: Value, value: Value): boolean {
  if (canonical(field, wanted) === canonical(field, value)) return true
  if (typeof wanted !== 'string' || !wanted.includes('/')) return false
  const outer = rangeOf(wanted)
  const inner = rangeOf(value)
  return outer !== undefined && inner !== undefined && inner.from >= outer.from && inner.to <= outer.to
}

const protocols: Record<string, number> = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  gre: 47,
  icmpv6: 58,
  'ipv6-icmp': 58,
  sctp: 132,
}
const etherTypes: Record<string, number> = { ip: 0x800, arp: 0x806, vlan: 0x8100, ip6: 0x86dd }

/** Numbers and the names that nft has for them are the same value. */
function canonical(field: Field, value: Value): Value {
  if (field === 'meta l4proto') return protocols[value] ?? Number(value)
  if (field === 'ether type') return etherTypes[value] ?? Number(value)
  if (field === 'meta pkttype' && value === 'unicast') return 'host'
  return value
}

function fieldOf(packet: Packet, field: Field, hook: Hook): Value | undefined {
  const { ether, arp, ip } = packet
  const v6 = ip?.saddr.includes(':')
  switch (field) {
    case 'iifname':
      // No device is the empty name (nft_meta_store_ifname), which "not" matches.
      return packet.iifname ?? ''
    case 'oifname':
      return packet.oifname ?? ''
    case 'meta nfproto':
      return hook.family === 'inet' ? ip && (v6 ? 'ipv6' : 'ipv4') : hook.family
    case 'meta l4proto':
      return packet.l4proto
    case 'meta pkttype':
      return ether && castOf(ether.daddr)
    case 'mark':
      return packet.mark ?? 0
    case 'ether saddr':
      return ether?.saddr
    case 'ether daddr':
      return ether?.daddr
    case 'ether type':
      return ether && (arp ? 'arp' : ip ? (v6 ? 'ip6' : 'ip') : undefined)
    case 'arp operation':
      return arp?.operation
    case 'arp saddr ether':
      return arp?.senderMac
    case 'arp saddr ip':
      return arp?.senderIp
    case 'ip saddr':
      return v6 ? undefined : ip?.saddr
    case 'ip daddr':
      return v6 ? undefined : ip?.daddr
    case 'ip6 saddr':
      return v6 ? ip?.saddr : undefined
    case 'ip6 daddr':
      return v6 ? ip?.daddr : undefined
    case 'icmp type':
      return v6 ? undefined : packet.icmpType
    case 'icmpv6 type':
      return v6 ? packet.icmpType : undefined
    case 'icmpv6 taddr':
      return packet.target
    case 'th sport':
      return packet.sport
    case 'th dport':
      return packet.dport
    case '@th,96,16':
      return packet.vni === undefined ? undefined : packet.vni >> 8
    case 'ct state':
      return packet.ctState
    case 'ct status':
      if (packet.ctState === undefined || packet.ctState === 'untracked') return undefined
      return packet.ctConfirmed ? 'confirmed' : 'unconfirmed'
    case 'ct mark':
      return packet.ctMark ?? 0
    case share:
      return (packet.dealt ?? 0) % shares
    case 'fib daddr type':
      return ip && (packet.daddrType ?? 'unicast')
  }
}

const castOf = (mac: string): string =>
  mac === 'ff:ff:ff:ff:ff:ff' ? 'broadcast' : Number.parseInt(mac.slice(0, 2), 16) & 1 ? 'multicast' : 'host'
