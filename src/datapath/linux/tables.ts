import { createHash } from 'node:crypto'
import { Fault, isFault } from '../../lib/fault.ts'
import type { PortElement } from '../../plan/node-plan.ts'
import type { Element, Table, Value, Verdict } from '../../plan/ruleset.ts'
import { elementLine } from '../lines.ts'
import { tableLine } from './lines.ts'
import { attribute, attributeList, attributes, Batch, DUMP, refused, textOf } from './netlink.ts'
import * as sets from './nft-sets.ts'
import { type DataType, elementId, keyValues, typesOf } from './nft-values.ts'
import * as nft from './nftables.ts'
import type { Place } from './place.ts'

/**
 * nftables of a namespace: what is there, and making it as wanted. A table
 * carries a digest of its sets, chains and rules as its comment; as long as
 * that and the number of rules are right, only elements are added and taken
 * away, and a packet never meets half a ruleset.
 */

export interface SeenTable {
  family: Table['family']
  name: string
  note: string
  chains: string[]
  rules: number
  sets: SeenSet[]
}

export interface SeenSet {
  name: string
  /** Absent: of a type that Polynet does not make. */
  types?: DataType[]
  interval: boolean
  /** Filled by packets: its elements are not looked at. */
  dynamic: boolean
  elements: Map<string, Element>
}

const familyNames = new Map<number, Table['family']>(
  Object.entries(sets.families).map(([name, code]) => [code, name as Table['family']]),
)

/** The comment that a table of such sets, chains and rules carries. */
function noteOf(table: Table): string {
  const frame = { ...table, sets: table.sets.map((set) => ({ ...set, elements: [] })) }
  return `polynet ${createHash('sha256').update(JSON.stringify(frame)).digest('hex').slice(0, 16)}`
}

/** The tables of a namespace whose name `mine` takes, sorted. */
export function seenTables(place: Place, mine: (name: string) => boolean): SeenTable[] {
  const tables: SeenTable[] = []
  const dump = (type: number, family: number, table?: string, set?: string) =>
    place.nft.dump(() => {
      const batch = sets.nftMessage(new Batch(), type, DUMP, family, 'list the ruleset')
      if (table !== undefined) batch.attributeText(1, table)
      if (set !== undefined) batch.attributeText(2, set)
      return batch
    })
  for (const { payload } of dump(sets.GETTABLE, 0)) {
    const family = familyNames.get(payload[0] ?? 0)
    const found = attributes(payload, 4)
    const name = textOf(found.get(1) ?? Buffer.alloc(0))
    if (!family || !mine(name)) continue
    const note = found.get(6)
    tables.push({ family, name, note: note ? textOf(note.subarray(2)) : '', chains: [], rules: 0, sets: [] })
  }
  for (const table of tables) {
    const code = sets.families[table.family]
    const of = (payload: Buffer) => {
      const found = attributes(payload, 4)
      return textOf(found.get(1) ?? Buffer.alloc(0)) === table.name ? found : undefined
    }
    for (const { payload } of dump(sets.GETCHAIN, code)) {
      const chain = of(payload)?.get(3)
      if (chain) table.chains.push(textOf(chain))
    }
    for (const { payload } of dump(sets.GETRULE, code, table.name)) if (of(payload)) table.rules++
    for (const { payload } of dump(sets.GETSET, code, table.name)) {
      const found = of(payload)
      const flags = found?.get(3)?.readUInt32BE(0) ?? 0
      if (!found || flags & 1) continue
      const set: SeenSet = {
        name: textOf(found.get(2) ?? Buffer.alloc(0)),
        types: typesOf(found.get(4)?.readUInt32BE(0) ?? 0),
        interval: (flags & 4) !== 0,
        dynamic: (flags & 32) !== 0,
        elements: new Map(),
      }
      table.sets.push(set)
      if (set.dynamic || !set.types) continue
      readElements(
        set,
        dump(sets.GETSETELEM, code, table.name, set.name).map(({ payload }) => payload),
      )
    }
  }
  const key = (table: SeenTable) => `${table.family} ${table.name}`
  return tables.sort((a, b) => (key(a) < key(b) ? -1 : 1))
}

function readElements(set: SeenSet, payloads: Buffer[]): void {
  const types = set.types!
  const bounds: { key: Buffer; end: boolean; verdict?: Verdict }[] = []
  for (const payload of payloads)
    for (const { value } of attributeList(attribute(payload, 3, 4) ?? Buffer.alloc(0))) {
      const found = attributes(value)
      const key = attribute(found.get(1) ?? Buffer.alloc(0), 1)
      if (!key) continue
      const data = found.get(2)
      const end = ((found.get(3)?.readUInt32BE(0) ?? 0) & 1) !== 0
      bounds.push({ key, end, ...(data ? { verdict: verdictOf(data) } : {}) })
    }
  if (!set.interval) {
    for (const { key, verdict } of bounds) {
      const element: Element = { key: keyValues(types, key), ...(verdict === undefined ? {} : { verdict }) }
      set.elements.set(key.toString('hex'), element)
    }
    return
  }
  bounds.sort((a, b) => Buffer.compare(a.key, b.key) || Number(b.end) - Number(a.end))
  bounds.forEach((bound, i) => {
    if (bound.end) return
    const next = bounds[i + 1]
    const end = next?.end ? next.key : undefined
    const last = end ? before(end) : Buffer.alloc(bound.key.length, 255)
    const element: Element = {
      key: [rangeText(types, bound.key, last)],
      ...(bound.verdict === undefined ? {} : { verdict: bound.verdict }),
    }
    set.elements.set(`${bound.key.toString('hex')}-${end?.toString('hex') ?? ''}`, element)
  })
}

/** One value, a prefix where the range is one, else `first-last`. */
function rangeText(types: DataType[], first: Buffer, last: Buffer): Value {
  const [from, to] = [keyValues(types, first)[0]!, keyValues(types, last)[0]!]
  if (from === to) return from
  if (types[0]!.size < 4) return `${from}-${to}`
  const bits = (bytes: Buffer) => [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  const [a, b] = [bits(first), bits(last)]
  const length = [...a].findIndex((bit, i) => bit !== b[i])
  return /^0*$/.test(a.slice(length)) && /^1*$/.test(b.slice(length)) ? `${from}/${length}` : `${from}-${to}`
}

function before(end: Buffer): Buffer {
  const bytes = Buffer.from(end)
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = (bytes[i]! - 1) & 255
    if (bytes[i] !== 255) break
  }
  return bytes
}

function verdictOf(data: Buffer): Verdict {
  const verdict = attributes(attribute(data, 2) ?? Buffer.alloc(0))
  const chain = verdict.get(2)
  const target = chain ? textOf(chain) : ''
  const code = verdict.get(1)?.readInt32BE(0) ?? 0
  if (code === -3) return { jump: target }
  if (code === -4) return { goto: target }
  return code === 1 ? 'accept' : code === -5 ? 'return' : 'drop'
}

/** Commits what `fill` adds: all or nothing. */
function commit(place: Place, fill: (batch: Batch) => void): void {
  const batch = nft.transaction(fill)
  if (!batch) return
  const { refusals } = place.nft.try(batch)
  if (refusals[0]) throw refused(refusals[0])
}

/** The table's set as it should be filled: its own elements and those of ports. */
function filled(
  table: Table,
  elements: { family: string; set: string; key: Element['key']; verdict?: Verdict }[],
): Table {
  return {
    ...table,
    sets: table.sets.map((set) => {
      const more = elements.filter((e) => e.family === table.family && e.set === set.name)
      return more.length === 0 ? set : { ...set, elements: [...set.elements, ...more] }
    }),
  }
}

/**
 * Makes `tables` as wanted, ports' `elements` in the sets of table `polynet`,
 * and removes others that `mine` takes; the changes. `dry`: says what it would
 * do and does nothing.
 */
export function renderTables(
  place: Place,
  netns: string,
  want: { tables: Table[]; elements: PortElement[] },
  mine: (name: string) => boolean,
  dry = false,
): string[] {
  const tables = want.tables.map((table) => (table.name === 'polynet' ? filled(table, want.elements) : table))
  const changes: string[] = []
  const wanted = new Set(tables.map((table) => `${table.family} ${table.name}`))
  const names = new Set(tables.map((table) => table.name))
  const seen = new Map(
    seenTables(place, (name) => mine(name) || names.has(name)).map((table) => [
      `${table.family} ${table.name}`,
      table,
    ]),
  )
  const fill = (batch: Batch) => {
    for (const [key, table] of seen) {
      if (wanted.has(key) || !mine(table.name)) continue
      nft.removeTable(batch, table.family, table.name)
      changes.push(`- ${tableLine(netns, table.family, table.name)}`)
    }
    for (const table of tables) {
      const is = seen.get(`${table.family} ${table.name}`)
      const rules = table.chains.reduce((sum, chain) => sum + chain.rules.length, 0)
      const note = noteOf(table)
      if (!is || is.note !== note || is.rules !== rules || is.chains.length !== table.chains.length) {
        if (is) nft.replaceTable(batch, table, note)
        else nft.addTable(batch, table, note)
        changes.push(`${is ? '~' : '+'} ${tableLine(netns, table.family, table.name)}`)
      } else for (const set of table.sets) if (!set.dynamic) refill(batch, netns, table, set, is, changes)
    }
  }
  if (dry) fill(new Batch())
  else commit(place, fill)
  return changes
}

/** Whether it can be made only when its devices are there. */
export const hangsOnDevices = (table: Table): boolean =>
  table.chains.some((chain) => chain.base?.devices !== undefined)

/** Tables in a namespace that has none of them yet. */
export function addTables(place: Place, tables: Table[]): void {
  if (tables.length === 0) return
  commit(place, (batch) => {
    for (const table of tables) nft.addTable(batch, table, noteOf(table))
  })
}

/** Removes tables without blocking this thread: the kernel waits for packets on their way. Those that are gone do not matter. */
export async function withdrawTables(place: Place, tables: Table[]): Promise<void> {
  const batch = nft.transaction((batch) => {
    for (const table of tables) nft.removeTable(batch, table.family, table.name)
  })
  if (!batch) return
  const { refusals } = await place.nft.tryAsync(batch)
  if (refusals[0]) throw refused(refusals[0])
}

/** Elements of the sets of table `polynet`; those that are there already stay. */
export function addPortElements(place: Place, elements: PortElement[]): void {
  commit(place, (batch) => {
    for (const e of elements) sets.addElements(batch, setIn(place, e), [e])
  })
}

/** Takes them away; those that are gone already, with their set or table or without, do not matter. */
export function removePortElements(place: Place, elements: PortElement[]): void {
  try {
    commit(place, (batch) => {
      for (const e of elements) sets.removeElements(batch, setIn(place, e), [e])
    })
  } catch (error) {
    if (!isFault(error, 'kernel') || !error.problem.startsWith('ENOENT')) throw error
    if (elements.length > 1) for (const e of elements) removePortElements(place, [e])
  }
}

/** Which of the elements are not in the kernel, a line each. */
export function missingElements(place: Place, netns: string, elements: PortElement[]): string[] {
  if (elements.length === 0) return []
  const tables = seenTables(place, (name) => name === 'polynet')
  return elements.flatMap((e) => {
    const set = tables.find((table) => table.family === e.family)?.sets.find((one) => one.name === e.set)
    const seen = set?.types && set.elements.get(elementId(set.types, set.interval, e))
    return seen && JSON.stringify(seen.verdict) === JSON.stringify(e.verdict)
      ? []
      : [elementLine(netns, e.family, 'polynet', e.set, e)]
  })
}

/** The set of table `polynet` that an element is of. */
const setIn = (place: Place, { family, set }: PortElement): sets.SetOfTable => ({
  family,
  table: 'polynet',
  name: set,
  ...setType(place, family, set),
})

/** How the kernel's set is keyed. Throws a `kernel` fault (ENOENT) when it is not there. */
function setType(place: Place, family: Table['family'], set: string): sets.SetType {
  const key = `${family} ${set}`
  const known = place.sets.get(key)
  if (known) return known
  const batch = sets.nftMessage(
    new Batch(),
    sets.GETSET,
    0,
    sets.families[family],
    `find set ${set} of table polynet`,
  )
  batch.attributeText(1, 'polynet').attributeText(2, set)
  const { messages, refusals } = place.nft.try(batch)
  const found = messages[0] && attributes(messages[0].payload, 4)
  const types = found && typesOf(found.get(4)?.readUInt32BE(0) ?? 0)
  if (!found || !types) throw refused(refusals[0] ?? { index: 0, what: batch.what(0), code: 2, text: '' })
  const made = { types, interval: ((found.get(3)?.readUInt32BE(0) ?? 0) & sets.SET.interval) !== 0 }
  place.sets.set(key, made)
  return made
}

function refill(
  batch: Batch,
  netns: string,
  table: Table,
  set: Table['sets'][number],
  is: SeenTable,
  changes: string[],
): void {
  const known = sets.setOf(table, set)
  const there = is.sets.find((one) => one.name === set.name)
  if (!there)
    throw new Fault('kernel', `fill set ${set.name}`, `table ${table.name} lost it; remove the table`)
  const missing = new Map<string, Element>()
  const stale = new Map(there.elements)
  for (const element of set.elements) {
    const id = elementId(known.types, known.interval, element)
    const seen = there.elements.get(id)
    if (seen && JSON.stringify(seen.verdict) === JSON.stringify(element.verdict)) stale.delete(id)
    else missing.set(id, element)
  }
  const line = (element: Element) => elementLine(netns, table.family, table.name, set.name, element)
  sets.removeElements(batch, known, [...stale.values()])
  sets.addElements(batch, known, [...missing.values()])
  changes.push(
    ...[...stale.values()].map((e) => `- ${line(e)}`),
    ...[...missing.values()].map((e) => `+ ${line(e)}`),
  )
}
