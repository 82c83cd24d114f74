import {
  areBits,
  type Chain,
  type Field,
  type Rule,
  type Statement,
  share,
  shares,
  type Table,
  type Value,
} from '../../plan/ruleset.ts'
import { prefixBytes } from './bytes.ts'
import { APPEND, type Batch, CREATE } from './netlink.ts'
import {
  addElements,
  comment,
  families,
  INTERVAL_END,
  NEWRULE,
  NEWSET,
  NEWSETELEM,
  nftMessage,
  SET,
  setElement,
  setKey,
  verdictData,
} from './nft-sets.ts'
import { type DataType, dataTypes, interval, maskBytes, merged, padded, valueBytes } from './nft-values.ts'

/** Rules as nf_tables' expressions: registers are loaded and compared, one expression behind the other. */

const REG_1 = 1
const REG32_00 = 8

export function newRule(batch: Batch, table: Table, chain: Chain, rule: Rule, ids: { next: number }): void {
  const code = new RuleCode(batch, table, ids)
  const what = `add rule to chain ${chain.name} of table ${table.name}`
  // Anonymous sets come before the rule that looks things up in them.
  const prepared = rule.do.map((statement) => code.prepare(statement))
  nftMessage(batch, NEWRULE, CREATE | APPEND, families[table.family], what)
  batch.attributeText(1, table.name).attributeText(2, chain.name)
  batch.nest(4, () => {
    rule.do.forEach((statement, i) => {
      code.statement(statement, prepared[i])
    })
  })
  if (rule.comment !== undefined) batch.attribute(7, comment(rule.comment))
}

const META = {
  protocol: 1,
  mark: 3,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  nfproto: 15,
  l4proto: 16,
  pkttype: 19,
} as const
const LINK = 0
const NETWORK = 1
const TRANSPORT = 2
const EQ = 0
const NEQ = 1

type Layer3 = 'ip' | 'ip6' | 'arp'
const etherTypes = { ip: [0x08, 0x00], arp: [0x08, 0x06], ip6: [0x86, 0xdd] } as const

/** Where a field is. Of the network layer and above: what the packet must be for it to be there. */
const places: Record<
  Field,
  | { meta: number }
  | { payload: number; offset: number; of?: Layer3; layer4?: number }
  | { ct: number }
  | 'fib'
  | 'share'
> = {
  iifname: { meta: META.iifname },
  oifname: { meta: META.oifname },
  'meta nfproto': { meta: META.nfproto },
  'meta l4proto': { meta: META.l4proto },
  'meta pkttype': { meta: META.pkttype },
  mark: { meta: META.mark },
  'ether saddr': { payload: LINK, offset: 6 },
  'ether daddr': { payload: LINK, offset: 0 },
  'ether type': { payload: LINK, offset: 12 },
  'arp operation': { payload: NETWORK, offset: 6, of: 'arp' },
  'arp saddr ether': { payload: NETWORK, offset: 8, of: 'arp' },
  'arp saddr ip': { payload: NETWORK, offset: 14, of: 'arp' },
  'ip saddr': { payload: NETWORK, offset: 12, of: 'ip' },
  'ip daddr': { payload: NETWORK, offset: 16, of: 'ip' },
  'ip6 saddr': { payload: NETWORK, offset: 8, of: 'ip6' },
  'ip6 daddr': { payload: NETWORK, offset: 24, of: 'ip6' },
  'icmp type': { payload: TRANSPORT, offset: 0, of: 'ip', layer4: 1 },
  'icmpv6 type': { payload: TRANSPORT, offset: 0, of: 'ip6', layer4: 58 },
  'icmpv6 taddr': { payload: TRANSPORT, offset: 8, of: 'ip6', layer4: 58 },
  'th sport': { payload: TRANSPORT, offset: 0 },
  'th dport': { payload: TRANSPORT, offset: 2 },
  '@th,96,16': { payload: TRANSPORT, offset: 12 },
  'ct state': { ct: 0 },
  'ct status': { ct: 2 },
  'ct mark': { ct: 3 },
  'fib daddr type': 'fib',
  [share]: 'share',
}

/** What a packet does to a set (NFT_DYNSET_OP_…, nf_tables.h). */
const [ADD, UPDATE] = [0, 1]

/** The name of a set that has none: the kernel gives it a number. */
const anonymous = '__set%d'

/** One rule's expressions, and what is known of the packet by the time each runs. */
class RuleCode {
  readonly #batch: Batch
  readonly #table: Table
  readonly #ids: { next: number }
  #ether: boolean
  #layer3: Layer3 | undefined
  #layer4: number | undefined

  constructor(batch: Batch, table: Table, ids: { next: number }) {
    this.#batch = batch
    this.#table = table
    this.#ids = ids
    this.#ether = table.family === 'bridge'
    this.#layer3 = table.family === 'arp' ? 'arp' : undefined
  }

  /** The anonymous set that a statement compares with, if it does. */
  prepare(statement: Statement): number | undefined {
    if (!('match' in statement)) return undefined
    const values = 'is' in statement ? statement.is : statement.not
    if (!Array.isArray(values) || areBits(statement.match, 'not' in statement)) return undefined
    const { family, name: table } = this.#table
    const type = dataTypes[statement.match]
    const ranges = values.some(
      (value) => typeof value === 'string' && /[/-]/.test(value) && type.symbols === undefined,
    )
    const id = this.#ids.next++
    const batch = this.#batch
    nftMessage(batch, NEWSET, CREATE, families[family], `make a set of ${statement.match}`)
    batch.attributeText(1, table).attributeText(2, anonymous).attribute32be(10, id)
    setKey(batch, [type], SET.anonymous | SET.constant | (ranges ? SET.interval : 0))
    if (!ranges) {
      const elements = values.map((value) => ({ key: [value] }))
      addElements(batch, { family, table, name: anonymous, id, types: [type], interval: false }, elements)
      return id
    }
    nftMessage(batch, NEWSETELEM, CREATE, families[family], `fill a set of ${statement.match}`)
    batch.attributeText(1, table).attributeText(2, anonymous).attribute32be(4, id)
    batch.nest(3, () => {
      for (const { start, end } of merged(values.map((value) => interval(type, value)))) {
        setElement(batch, start, 0)
        if (end) setElement(batch, end, INTERVAL_END)
      }
    })
    return id
  }

  statement(s: Statement, set: number | undefined): void {
    if ('match' in s) {
      if ('is' in s) this.#match(s.match, s.is, EQ, set)
      else this.#match(s.match, s.not, NEQ, set)
    } else if ('lookup' in s) {
      this.#load(s.lookup)
      if ('in' in s) this.#lookup(s.in)
      else this.#lookup(s.notIn, { inverted: true })
    } else if ('vmap' in s) {
      this.#load(s.vmap)
      this.#lookup(s.map, { verdict: true })
    } else if ('update' in s) {
      this.#dynset(s.update, UPDATE, s.key, 'limit', () => this.#limit(s.limitOver))
    } else if ('add' in s) {
      this.#dynset(s.add, ADD, s.key, 'connlimit', () =>
        this.#batch.attribute32be(1, s.countOver).attribute32be(2, 1),
      )
    } else if ('limitOver' in s) this.#expression('limit', () => this.#limit(s.limitOver))
    else if ('counter' in s)
      this.#expression('counter', () => this.#batch.attribute64be(1, 0).attribute64be(2, 0))
    else if ('verdict' in s)
      this.#expression('immediate', () => {
        this.#batch.attribute32be(1, 0).nest(2, () => verdictData(this.#batch, s.verdict))
      })
    else if ('masquerade' in s) this.#expression('masq', () => {})
    else if ('notrack' in s) this.#expression('notrack', () => {})
    else {
      this.#immediate(valueBytes(dataTypes.mark, s.setMark))
      this.#expression('meta', () => this.#batch.attribute32be(2, META.mark).attribute32be(3, REG_1))
    }
  }

  #match(field: Field, value: Value | Value[], operator: number, set: number | undefined): void {
    const type = dataTypes[field]
    this.#load([field])
    if (set !== undefined) {
      this.#lookup(anonymous, { id: set, inverted: operator === NEQ })
    } else if (areBits(field, operator === NEQ)) {
      // Any of them will do, or none of them may be set.
      const bits = Buffer.alloc(4)
      for (const one of Array.isArray(value) ? value : [value])
        valueBytes(type, one).forEach((byte, i) => {
          bits[i] = bits[i]! | byte
        })
      this.#mask(bits)
      this.#compare(operator === EQ ? NEQ : EQ, Buffer.alloc(4))
    } else this.#compareWith(field, type, value as Value, operator)
    if (operator === EQ && !Array.isArray(value)) this.#learn(field, value)
  }

  /** Finds or makes the key's element in a set, and asks what is counted there. */
  #dynset(set: string, operation: number, key: Field[], counter: string, fill: () => void): void {
    this.#load(key)
    this.#expression('dynset', () => {
      this.#batch.attributeText(1, set).attribute32be(3, operation).attribute32be(4, REG_1)
      this.#batch.nest(7, () => {
        this.#batch.attributeText(1, counter)
        this.#batch.nest(2, fill)
      })
    })
  }

  #compareWith(field: Field, type: DataType, value: Value, operator: number): void {
    const text = String(value)
    if ((field === 'iifname' || field === 'oifname') && text.endsWith('*')) {
      this.#compare(operator, Buffer.from(text.slice(0, -1)))
    } else if (typeof value === 'string' && text.includes('/')) {
      const { bytes, length } = prefixBytes(text)
      const mask = maskBytes(type.size, length)
      this.#mask(mask)
      this.#compare(operator, Buffer.from(bytes.map((byte, i) => byte & mask[i]!)))
    } else this.#compare(operator, valueBytes(type, value))
  }

  /** A match that passed says what the packet is, and need not be asked again. */
  #learn(field: Field, value: Value): void {
    if (field === 'ether type')
      this.#layer3 = (['ip', 'ip6', 'arp'] as const).find((known) => known === value)
    else if (field === 'meta nfproto')
      this.#layer3 = value === 'ipv4' ? 'ip' : value === 'ipv6' ? 'ip6' : undefined
    else if (field === 'meta l4proto') this.#layer4 = valueBytes(dataTypes['meta l4proto'], value)[0]
  }

  /** The fields into registers, one behind the other, after asking whether the packet has them. */
  #load(fields: Field[]): void {
    const withEther = fields.some((field) => field.startsWith('ether '))
    for (const field of fields) this.#require(field, withEther)
    let offset = 0
    for (const field of fields) {
      this.#loadOne(field, fields.length === 1 ? REG_1 : REG32_00 + offset / 4)
      offset += padded(dataTypes[field].size)
    }
  }

  #require(field: Field, withEther: boolean): void {
    const place = places[field]
    if (typeof place === 'string' || 'meta' in place || 'ct' in place) return
    if (place.payload === LINK) this.#requireEther()
    if (place.of !== undefined && this.#layer3 !== place.of) {
      const { family } = this.#table
      if (withEther || (family === 'bridge' && (place.of === 'arp' || place.layer4 !== undefined))) {
        this.#requireEther()
        this.#payload(LINK, 12, 2, REG_1)
        this.#compare(EQ, Buffer.from(etherTypes[place.of]))
      } else if (family === 'inet') {
        this.#meta(META.nfproto, REG_1)
        this.#compare(EQ, Buffer.from([place.of === 'ip' ? 2 : 10]))
      } else {
        this.#meta(META.protocol, REG_1)
        this.#compare(EQ, Buffer.from(etherTypes[place.of]))
      }
      this.#layer3 = place.of
    }
    if (place.layer4 !== undefined && this.#layer4 !== place.layer4) {
      this.#meta(META.l4proto, REG_1)
      this.#compare(EQ, Buffer.from([place.layer4]))
      this.#layer4 = place.layer4
    }
  }

  #requireEther(): void {
    if (this.#ether) return
    this.#meta(META.iiftype, REG_1)
    this.#compare(EQ, Buffer.from([1, 0]))
    this.#ether = true
  }

  #loadOne(field: Field, register: number): void {
    const place = places[field]
    const batch = this.#batch
    if (place === 'share')
      this.#expression('numgen', () =>
        batch.attribute32be(1, register).attribute32be(2, shares).attribute32be(3, 0),
      )
    else if (place === 'fib')
      this.#expression('fib', () => batch.attribute32be(1, register).attribute32be(2, 3).attribute32be(3, 2))
    else if ('ct' in place)
      this.#expression('ct', () => batch.attribute32be(1, register).attribute32be(2, place.ct))
    else if ('meta' in place) this.#meta(place.meta, register)
    else this.#payload(place.payload, place.offset, dataTypes[field].size, register)
  }

  #expression(name: string, data: () => void): void {
    this.#batch.nest(1, () => {
      this.#batch.attributeText(1, name).nest(2, data)
    })
  }

  #meta(key: number, register: number): void {
    this.#expression('meta', () => this.#batch.attribute32be(2, key).attribute32be(1, register))
  }

  #payload(base: number, offset: number, length: number, register: number): void {
    this.#expression('payload', () =>
      this.#batch
        .attribute32be(1, register)
        .attribute32be(2, base)
        .attribute32be(3, offset)
        .attribute32be(4, length),
    )
  }

  #compare(operator: number, bytes: Uint8Array): void {
    this.#expression('cmp', () => {
      this.#batch
        .attribute32be(1, REG_1)
        .attribute32be(2, operator)
        .nest(3, () => this.#batch.attribute(1, bytes))
    })
  }

  #mask(mask: Buffer): void {
    const zeros = Buffer.alloc(mask.length)
    this.#expression('bitwise', () => {
      this.#batch.attribute32be(1, REG_1).attribute32be(2, REG_1).attribute32be(3, mask.length)
      this.#batch.nest(4, () => this.#batch.attribute(1, mask)).nest(5, () => this.#batch.attribute(1, zeros))
    })
  }

  #immediate(bytes: Uint8Array): void {
    this.#expression('immediate', () => {
      this.#batch.attribute32be(1, REG_1).nest(2, () => this.#batch.attribute(1, bytes))
    })
  }

  #lookup(set: string, options: { id?: number; inverted?: boolean; verdict?: boolean } = {}): void {
    this.#expression('lookup', () => {
      this.#batch.attributeText(1, set).attribute32be(2, REG_1)
      if (options.verdict) this.#batch.attribute32be(3, 0)
      if (options.id !== undefined) this.#batch.attribute32be(4, options.id)
      if (options.inverted) this.#batch.attribute32be(5, 1)
    })
  }

  #limit({ rate, per, burst }: { rate: number; per: 'second' | 'minute'; burst: number }): void {
    this.#batch.attribute64be(1, rate).attribute64be(2, per === 'second' ? 1 : 60)
    this.#batch.attribute32be(3, burst).attribute32be(4, 0).attribute32be(5, 1)
  }
}
