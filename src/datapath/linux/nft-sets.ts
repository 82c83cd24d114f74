import type { Element, NftSet, Table, Verdict } from '../../plan/ruleset.ts'
import { type Batch, CREATE, type What } from './netlink.ts'
import { type DataType, dataTypes, interval, keyBytes, keySize, keyType } from './nft-values.ts'

/** nf_tables' messages (linux/netfilter/nf_tables.h), and those for sets and their elements. */

const NFTABLES = 10 << 8
export const NEWTABLE = NFTABLES | 0
export const GETTABLE = NFTABLES | 1
export const DELTABLE = NFTABLES | 2
export const NEWCHAIN = NFTABLES | 3
export const GETCHAIN = NFTABLES | 4
export const NEWRULE = NFTABLES | 6
export const GETRULE = NFTABLES | 7
export const NEWSET = NFTABLES | 9
export const GETSET = NFTABLES | 10
export const NEWSETELEM = NFTABLES | 12
export const GETSETELEM = NFTABLES | 13
const DELSETELEM = NFTABLES | 14

export const families = { inet: 1, arp: 3, netdev: 5, bridge: 7 } as const
type Family = Table['family']

export const SET = { anonymous: 1, constant: 2, interval: 4, map: 8, timeout: 16, eval: 32 } as const
const VERDICT_TYPE = 0xffffff00
export const INTERVAL_END = 1
const perMessage = 500

export function nftMessage(batch: Batch, type: number, flags: number, family: number, what: What): Batch {
  return batch.message(type, flags, what).u8(family).u8(0).u16(0)
}

export const typesOfSet = (set: NftSet): DataType[] => set.key.map((field) => dataTypes[field])

export function comment(text: string): Buffer {
  const bytes = Buffer.from(text).subarray(0, 127)
  return Buffer.concat([Buffer.from([0, bytes.length + 1]), bytes, Buffer.from([0])])
}

export function newSet(batch: Batch, table: Table, set: NftSet, id: number): void {
  const types = typesOfSet(set)
  const { dynamic } = set
  const flags =
    (set.interval ? SET.interval : 0) |
    (set.map ? SET.map : 0) |
    (dynamic ? SET.eval : 0) |
    (dynamic?.timeoutS === undefined ? 0 : SET.timeout)
  nftMessage(batch, NEWSET, CREATE, families[table.family], `make set ${set.name} of table ${table.name}`)
  batch.attributeText(1, table.name).attributeText(2, set.name).attribute32be(10, id)
  setKey(batch, types, flags)
  if (set.map) batch.attribute32be(6, VERDICT_TYPE)
  if (dynamic) {
    batch.nest(9, () => batch.attribute32be(1, dynamic.size))
    if (dynamic.timeoutS !== undefined) batch.attribute64be(11, dynamic.timeoutS * 1000)
  }
}

export function setKey(batch: Batch, types: DataType[], flags: number): void {
  batch.attribute32be(3, flags).attribute32be(4, keyType(types)).attribute32be(5, keySize(types))
  // What nft(8) needs to print the key: NFTNL_UDATA_SET_KEYBYTEORDER, 1 the host's, 2 the network's.
  const order = types.length === 1 && types[0]!.host ? 1 : 2
  batch.attribute(13, Buffer.from([0, 4, order, 0, 0, 0]))
}

/** How a set's elements are written. */
export interface SetType {
  types: DataType[]
  interval: boolean
}

/** A set that elements go into, or out of. */
export interface SetOfTable extends SetType {
  family: Family
  table: string
  name: string
  /** Of one that the same batch makes. */
  id?: number
}

/** A set of a table, as it is planned. */
export const setOf = ({ family, name: table }: Table, set: NftSet): SetOfTable => ({
  family,
  table,
  name: set.name,
  types: typesOfSet(set),
  interval: set.interval === true,
})

/** Elements that are there already stay. */
export function addElements(batch: Batch, set: SetOfTable, elements: Element[]): void {
  for (let from = 0; from < elements.length; from += perMessage) {
    const some = elements.slice(from, from + perMessage)
    const what = () =>
      some.length === 1
        ? `add element ${some[0]!.key.join(' . ')} to set ${set.name}`
        : `add ${some.length} elements to set ${set.name}`
    nftMessage(batch, NEWSETELEM, CREATE, families[set.family], what)
    elementList(batch, set, some)
  }
}

/** Refused as a whole (ENOENT) when one of them is not there. */
export function removeElements(batch: Batch, set: SetOfTable, elements: Element[]): void {
  for (let from = 0; from < elements.length; from += perMessage) {
    nftMessage(batch, DELSETELEM, 0, families[set.family], `remove elements of set ${set.name}`)
    elementList(batch, set, elements.slice(from, from + perMessage))
  }
}

function elementList(
  batch: Batch,
  { table, name, id, types, interval: ranges }: SetOfTable,
  elements: Element[],
): void {
  batch.attributeText(1, table).attributeText(2, name)
  if (id !== undefined) batch.attribute32be(4, id)
  batch.nest(3, () => {
    for (const element of elements) {
      if (!ranges) setElement(batch, keyBytes(types, element.key), 0, element.verdict)
      else {
        const { start, end } = interval(types[0]!, element.key[0]!)
        setElement(batch, start, 0, element.verdict)
        if (end) setElement(batch, end, INTERVAL_END)
      }
    }
  })
}

export function setElement(batch: Batch, key: Buffer, flags: number, verdict?: Verdict): void {
  batch.nest(1, () => {
    batch.nest(1, () => batch.attribute(1, key))
    if (flags !== 0) batch.attribute32be(3, flags)
    if (verdict !== undefined) batch.nest(2, () => verdictData(batch, verdict))
  })
}

export function verdictData(batch: Batch, verdict: Verdict): void {
  batch.nest(2, () => {
    if (typeof verdict === 'string') batch.attribute32be(1, { drop: 0, accept: 1, return: -5 }[verdict])
    else if ('jump' in verdict) batch.attribute32be(1, -3).attributeText(2, verdict.jump)
    else batch.attribute32be(1, -4).attributeText(2, verdict.goto)
  })
}
