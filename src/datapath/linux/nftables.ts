import { Fault } from '../../lib/fault.ts'
import type {
  Chain,
  Element,
  Field,
  NftSet,
  Rule,
  Statement,
  Table,
  Value,
  Verdict,
} from '../../plan/ruleset.ts'
import { prefixBytes } from './bytes.ts'
import { APPEND, Batch, CREATE, EXCL } from './netlink.ts'
import {
  type DataType,
  dataTypes,
  interval,
  keyBytes,
  keySize,
  keyType,
  maskBytes,
  merged,
  padded,
  valueBytes,
} from './nft-values.ts'

/**
 * Tables as netlink messages for nf_tables (linux/netfilter/nf_tables.h): the
 * byte code that nft(8) would compile the same text to, so that `nft list
 * ruleset` reads it back. All messages of one transaction take effect at once
 * or not at all.
 */

const NFTABLES = 10 << 8
export const NEWTABLE = NFTABLES | 0
export const GETTABLE = NFTABLES | 1
const DELTABLE = NFTABLES | 2
const NEWCHAIN = NFTABLES | 3
export const GETCHAIN = NFTABLES | 4
const NEWRULE = NFTABLES | 6
export const GETRULE = NFTABLES | 7
const NEWSET = NFTABLES | 9
export const GETSET = NFTABLES | 10
const NEWSETELEM = NFTABLES | 12
export const GETSETELEM = NFTABLES | 13
const DELSETELEM = NFTABLES | 14

export const families = { inet: 1, arp: 3, netdev: 5, bridge: 7 } as const
type Family = Table['family']

const SET = { anonymous: 1, constant: 2, interval: 4, map: 8, timeout: 16, eval: 32 } as const
const VERDICT_TYPE = 0xffffff00
const INTERVAL_END = 1
const perMessage = 500

export function nftMessage(batch: Batch, type: number, flags: number, family: number, what: string): Batch {
  return batch.message(type, flags, what).u8(family).u8(0).u16(0)
}

/** A transaction around what `fill` adds. */
export function transaction(fill: (batch: Batch) => void): { batch: Batch; answered: number } | undefined {
  const batch = new Batch()
  batch.message(16, 0, 'begin a ruleset').u8(0).u8(0).u8(0).u8(10)
  fill(batch)
  // The last of the messages is asked for an answer, since older kernels do not answer to the end of a batch.
  const answered = batch.count - 1
  if (answered === 0) return undefined
  batch.message(17, 0, 'commit a ruleset').u8(0).u8(0).u8(0).u8(10)
  return { batch, answered }
}

export function removeTable(batch: Batch, family: Family, name: string): void {
  const what = `remove table ${family} ${name}`
  // Made first, so that its absence is no error.
  nftMessage(batch, NEWTABLE, CREATE, families[family], what).attributeText(1, name)
  nftMessage(batch, DELTABLE, 0, families[family], what).attributeText(1, name)
}

/** The whole table anew, whatever it was; `note` is its comment. */
export function replaceTable(batch: Batch, table: Table, note: string): void {
  removeTable(batch, table.family, table.name)
  addTable(batch, table, note)
}

/** A table that is not there: refused (EEXIST) if it is. Does not wait for packets on their way, as removing one does. */
export function addTable(batch: Batch, table: Table, note: string): void {
  const family = families[table.family]
  const what = `make table ${table.family} ${table.name}`
  nftMessage(batch, NEWTABLE, CREATE | EXCL, family, what)
    .attributeText(1, table.name)
    .attribute(6, comment(note))
  const ids = { next: 1 }
  for (const set of table.sets) newSet(batch, table, set, ids.next++)
  for (const chain of table.chains) newChain(batch, table, chain)
  // Behind the chains, which elements may jump to.
  for (const set of table.sets)
    addElements(
      batch,
      table.family,
      table.name,
      set.name,
      typesOfSet(set),
      set.interval === true,
      set.elements,
    )
  for (const chain of table.chains) for (const rule of chain.rules) newRule(batch, table, chain, rule, ids)
}

export const typesOfSet = (set: NftSet): DataType[] => set.key.map((field) => dataTypes[field])

function comment(text: string): Buffer {
  const bytes = Buffer.from(text).subarray(0, 127)
  return Buffer.concat([Buffer.from([0, bytes.length + 1]), bytes, Buffer.from([0])])
}

function newSet(batch: Batch, table: Table, set: NftSet, id: number): void {
  const types = typesOfSet(set)
  const { dynamic } = set
  const flags =
    (set.interval ? SET.interval : 0) | (set.map ? SET.map : 0) | (dynamic ? SET.eval | SET.timeout : 0)
  nftMessage(batch, NEWSET, CREATE, families[table.family], `make set ${set.name} of table ${table.name}`)
  batch.attributeText(1, table.name).attributeText(2, set.name).attribute32be(10, id)
  setKey(batch, types, flags)
  if (set.map) batch.attribute32be(6, VERDICT_TYPE)
  if (dynamic) {
    batch.nest(9, () => batch.attribute32be(1, dynamic.size))
    batch.attribute64be(11, dynamic.timeoutS * 1000)
  }
}

function setKey(batch: Batch, types: DataType[], flags: number): void {
  batch.attribute32be(3, flags).attribute32be(4, keyType(types)).attribute32be(5, keySize(types))
  // What nft(8) needs to print the key: NFTNL_UDATA_SET_KEYBYTEORDER, 1 the host's, 2 the network's.
  const order = types.length === 1 && types[0]!.host ? 1 : 2
  batch.attribute(13, Buffer.from([0, 4, order, 0, 0, 0]))
}

/** Elements that are there already stay. */
export function addElements(
  batch: Batch,
  family: Family,
  table: string,
  set: string,
  types: DataType[],
  isInterval: boolean,
  elements: Element[],
  id?: number,
): void {
  for (let from = 0; from < elements.length; from += perMessage) {
    const some = elements.slice(from, from + perMessage)
    const what =
      some.length === 1
        ? `add element ${some[0]!.key.join(' . ')} to set ${set}`
        : `add ${some.length} elements to set ${set}`
    nftMessage(batch, NEWSETELEM, CREATE, families[family], what)
    elementList(batch, table, set, types, isInterval, some, id)
  }
}

/** Refused as a whole (ENOENT) when one of them is not there. */
export function removeElements(
  batch: Batch,
  family: Family,
  table: string,
  set: string,
  types: DataType[],
  isInterval: boolean,
  elements: Element[],
): void {
  for (let from = 0; from < elements.length; from += perMessage) {
    nftMessage(batch, DELSETELEM, 0, families[family], `remove elements of set ${set}`)
    elementList(batch, table, set, types, isInterval, elements.slice(from, from + perMessage))
  }
}

function elementList(
  batch: Batch,
  table: string,
  set: string,
  types: DataType[],
  isInterval: boolean,
  elements: Element[],
  id?: number,
): void {
  batch.attributeText(1, table).attributeText(2, set)
  if (id !== undefined) batch.attribute32be(4, id)
  batch.nest(3, () => {
    for (const element of elements) {
      if (!isInterval) setElement(batch, keyBytes(types, element.key), 0, element.verdict)
      else {
        const { start, end } = interval(types[0]!, element.key[0]!)
        setElement(batch, start, 0, element.verdict)
        if (end) setElement(batch, end, INTERVAL_END)
      }
    }
  })
}

function setElement(batch: Batch, key: Buffer, flags: number, verdict?: Verdict): void {
  batch.nest(1, () => {
    batch.nest(1, () => batch.attribute(1, key))
    if (flags !== 0) batch.attribute32be(3, flags)
    if (verdict !== undefined) batch.nest(2, () => verdictData(batch, verdict))
  })
}

function verdictData(batch: Batch, verdict: Verdict): void {
  batch.nest(2, () => {
    if (typeof verdict === 'string') batch.attribute32be(1, { drop: 0, accept: 1, return: -5 }[verdict])
    else if ('jump' in verdict) batch.attribute32be(1, -3).attributeText(2, verdict.jump)
    else batch.attribute32be(1, -4).attributeText(2, verdict.goto)
  })
}

const hooks: Record<Family, Record<string, number>> = {
  inet: { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 5 },
  bridge: { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 },
  netdev: { ingress: 0, egress: 1 },
  arp: { input: 0, output: 1, forward: 2 },
}

function newChain(batch: Batch, table: Table, { name, base }: Chain): void {
  nftMessage(batch, NEWCHAIN, CREATE, families[table.family], `make chain ${name} of table ${table.name}`)
  batch.attributeText(1, table.name).attributeText(3, name)
  if (!base) return
  const hook = hooks[table.family][base.hook]
  if (hook === undefined)
    throw new Fault('invalid', `make chain ${name}`, `family ${table.family} has no hook ${base.hook}`)
  batch.nest(4, () => {
    batch.attribute32be(1, hook).attribute32be(2, base.priority)
    const devices = base.devices ?? []
    if (devices.length === 1) batch.attributeText(3, devices[0]!)
    else if (devices.length > 1)
      batch.nest(4, () => {
        for (const device of devices) batch.attributeText(1, device)
      })
  })
  batch.attribute32be(5, base.policy === 'accept' ? 1 : 0).attributeText(7, base.type)
}

// ── rules ──

const REG_1 = 1
const REG32_00 = 8

function newRule(batch: Batch, table: Table, chain: Chain, rule: Rule, ids: { next: number }): void {
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
  | 'state'
  | 'ctmark'
  | 'fib'
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
  'th sport': { payload: TRANSPORT, offset: 0 },
  'th dport': { payload: TRANSPORT, offset: 2 },
  'ct state': 'state',
  'ct mark': 'ctmark',
  'fib daddr type': 'fib',
}

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
    if (!Array.isArray(values) || (statement.match === 'ct state' && 'is' in statement)) return undefined
    const { family, name } = this.#table
    const type = dataTypes[statement.match]
    const ranges = values.some(
      (value) => typeof value === 'string' && /[/-]/.test(value) && type.symbols === undefined,
    )
    const id = this.#ids.next++
    const batch = this.#batch
    nftMessage(batch, NEWSET, CREATE, families[family], `make a set of ${statement.match}`)
    batch.attributeText(1, name).attributeText(2, '__set%d').attribute32be(10, id)
    setKey(batch, [type], SET.anonymous | SET.constant | (ranges ? SET.interval : 0))
    if (!ranges) {
      const elements = values.map((value) => ({ key: [value] }))
      addElements(batch, family, name, '__set%d', [type], false, elements, id)
      return id
    }
    nftMessage(batch, NEWSETELEM, CREATE, families[family], `fill a set of ${statement.match}`)
    batch.attributeText(1, name).attributeText(2, '__set%d').attribute32be(4, id)
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
      this.#load(s.key)
      this.#expression('dynset', () => {
        this.#batch.attributeText(1, s.update).attribute32be(3, 1).attribute32be(4, REG_1)
        this.#batch.nest(7, () => {
          this.#batch.attributeText(1, 'limit')
          this.#batch.nest(2, () => this.#limit(s.limitOver))
        })
      })
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
      this.#lookup('__set%d', { id: set, inverted: operator === NEQ })
    } else if (field === 'ct state' && operator === EQ) {
      // States are bits; any of them will do.
      const bits = Buffer.alloc(4)
      for (const one of Array.isArray(value) ? value : [value])
        valueBytes(type, one).forEach((byte, i) => {
          bits[i] = bits[i]! | byte
        })
      this.#mask(bits)
      this.#compare(NEQ, Buffer.alloc(4))
    } else this.#compareWith(field, type, value as Value, operator)
    if (operator === EQ && !Array.isArray(value)) this.#learn(field, value)
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
    if (typeof place === 'string' || 'meta' in place) return
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
    if (place === 'state') this.#expression('ct', () => batch.attribute32be(1, register).attribute32be(2, 0))
    else if (place === 'ctmark')
      this.#expression('ct', () => batch.attribute32be(1, register).attribute32be(2, 3))
    else if (place === 'fib')
      this.#expression('fib', () => batch.attribute32be(1, register).attribute32be(2, 3).attribute32be(3, 2))
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
