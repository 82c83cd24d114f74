import { Fault } from '../lib/fault.ts'
import {
  areBits,
  type Chain,
  type Element,
  type Field,
  type NftSet,
  type Rule,
  type Statement,
  share,
  type Table,
  type Value,
  type Verdict,
} from './ruleset.ts'

/**
 * The table as `nft -f` takes it and `nft list ruleset` prints it, but for
 * what nft rewrites (the order of a set's elements, names of priorities).
 * Throws an `invalid` fault when a name or value is no single word of nft's:
 * such a value could write rules of its own.
 */
export function nftText(table: Table): string {
  const parts = [...table.sets.map(setText), ...table.chains.map(chainText)]
  return `table ${table.family} ${word(table.name)} {\n${parts.join('\n')}}\n`
}

function setText(set: NftSet): string {
  const lines = [`type ${set.key.map((f) => types[f]).join(' . ')}${set.map ? ' : verdict' : ''}`]
  if (set.dynamic) {
    const { size, timeoutS } = set.dynamic
    lines.push(`size ${size}`)
    if (timeoutS === undefined) lines.push('flags dynamic')
    else lines.push('flags dynamic,timeout', `timeout ${timeoutS}s`)
  } else if (set.interval) lines.push('flags interval')
  if (set.elements.length > 0)
    lines.push(`elements = { ${set.elements.map((e) => elementText(set.key, e)).join(', ')} }`)
  return block(`${set.map ? 'map' : 'set'} ${word(set.name)}`, lines)
}

function chainText(chain: Chain): string {
  const lines = chain.rules.map(ruleText)
  if (chain.base) {
    const { type, hook, priority, policy, devices } = chain.base
    const on = devices ? ` devices = { ${devices.map(quoted).join(', ')} }` : ''
    lines.unshift(`type ${type} hook ${hook}${on} priority ${priority}; policy ${policy};`)
  }
  return block(`chain ${word(chain.name)}`, lines)
}

const block = (head: string, lines: string[]): string =>
  `\t${head} {\n${lines.map((l) => `\t\t${l}\n`).join('')}\t}\n`

/** One element as nft writes it: `"pn1" . 0a:58:0a:01:00:05 . 10.1.0.5`. */
function elementText(key: Field[], { key: parts, verdict }: Element): string {
  const text = parts.map((part, i) => valueText(key[i] as Field, part)).join(' . ')
  return verdict === undefined ? text : `${text} : ${verdictText(verdict)}`
}

/** One rule as nft writes it. */
export function ruleText(rule: Rule): string {
  const text = rule.do.map(statementText).join(' ')
  return rule.comment === undefined ? text : `${text} comment ${quoted(rule.comment.replaceAll('"', "'"))}`
}

function statementText(s: Statement): string {
  if ('match' in s)
    return 'is' in s
      ? matchText(s.match, '', s.is)
      : matchText(s.match, areBits(s.match, true) ? '! ' : '!= ', s.not)
  if ('lookup' in s)
    return 'in' in s ? `${keyText(s.lookup)} @${word(s.in)}` : `${keyText(s.lookup)} != @${word(s.notIn)}`
  if ('vmap' in s) return `${keyText(s.vmap)} vmap @${word(s.map)}`
  if ('update' in s) return `update @${word(s.update)} { ${keyText(s.key)} ${limitText(s.limitOver)} }`
  if ('limitOver' in s) return limitText(s.limitOver)
  if ('add' in s) return `add @${word(s.add)} { ${keyText(s.key)} ct count over ${s.countOver} }`
  if ('counter' in s) return 'counter'
  if ('verdict' in s) return verdictText(s.verdict)
  if ('masquerade' in s) return 'masquerade'
  if ('notrack' in s) return 'notrack'
  return `meta mark set ${hex(s.setMark)}`
}

function matchText(field: Field, operator: string, value: Value | Value[]): string {
  if (!Array.isArray(value)) return `${fieldText(field)} ${operator}${valueText(field, value)}`
  const texts = value.map((v) => valueText(field, v))
  if (areBits(field, operator !== '')) return `${field} ${operator}${texts.join(',')}`
  return `${fieldText(field)} ${operator}{ ${texts.join(', ')} }`
}

const limitText = (limit: { rate: number; per: string; burst: number }): string =>
  `limit rate over ${limit.rate}/${limit.per} burst ${limit.burst} packets`

export const verdictText = (verdict: Verdict): string =>
  typeof verdict === 'string'
    ? verdict
    : 'jump' in verdict
      ? `jump ${word(verdict.jump)}`
      : `goto ${word(verdict.goto)}`

const keyText = (fields: Field[]): string => fields.map(fieldText).join(' . ')

const fieldText = (field: Field): string => (field === 'mark' ? 'meta mark' : field)

function valueText(field: Field, value: Value): string {
  if (field === 'iifname' || field === 'oifname') return quoted(word(String(value)))
  if (typeof value === 'string') return word(value)
  return field === 'mark' || field === 'ct mark' || field === 'ether type' ? hex(value) : String(value)
}

const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`

const quoted = (text: string): string => `"${text}"`

function word(text: string): string {
  if (/^[A-Za-z0-9_.:/*-]+$/.test(text)) return text
  throw new Fault(
    'invalid',
    'write a ruleset',
    `${JSON.stringify(text)} is no name or value that nft has; leave it out`,
  )
}

/** nft's names for what the fields hold. */
const types: Record<Field, string> = {
  iifname: 'ifname',
  oifname: 'ifname',
  'meta nfproto': 'nf_proto',
  'meta l4proto': 'inet_proto',
  'meta pkttype': 'pkt_type',
  mark: 'mark',
  'ether saddr': 'ether_addr',
  'ether daddr': 'ether_addr',
  'ether type': 'ether_type',
  'arp operation': 'arp_op',
  'arp saddr ether': 'ether_addr',
  'arp saddr ip': 'ipv4_addr',
  'ip saddr': 'ipv4_addr',
  'ip daddr': 'ipv4_addr',
  'ip6 saddr': 'ipv6_addr',
  'ip6 daddr': 'ipv6_addr',
  'icmp type': 'icmp_type',
  'icmpv6 type': 'icmpv6_type',
  'icmpv6 taddr': 'ipv6_addr',
  'th sport': 'inet_service',
  'th dport': 'inet_service',
  '@th,96,16': 'integer',
  'ct state': 'ct_state',
  'ct status': 'ct_status',
  'ct mark': 'mark',
  'fib daddr type': 'fib_addrtype',
  // nft has no name for mere numbers.
  [share]: 'mark',
}
