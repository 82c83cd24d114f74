import { Fault } from '../../lib/fault.ts'
import type { Chain, Table } from '../../plan/ruleset.ts'
import { Batch, CREATE, EXCL } from './netlink.ts'
import { newRule } from './nft-rules.ts'
import {
  addElements,
  comment,
  DELTABLE,
  families,
  NEWCHAIN,
  NEWTABLE,
  newSet,
  nftMessage,
  setOf,
} from './nft-sets.ts'

/**
 * Tables as netlink messages for nf_tables (linux/netfilter/nf_tables.h): the
 * byte code that nft(8) would compile the same text to, so that `nft list
 * ruleset` reads it back. All messages of one transaction take effect at once
 * or not at all.
 */

type Family = Table['family']

/** A transaction around what `fill` adds. */
export function transaction(fill: (batch: Batch) => void): Batch | undefined {
  const batch = new Batch()
  batch.message(16, 0, 'begin a ruleset').u8(0).u8(0).u8(0).u8(10)
  fill(batch)
  if (batch.count === 1) return undefined
  batch.message(17, 0, 'commit a ruleset').u8(0).u8(0).u8(0).u8(10)
  return batch
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
  for (const set of table.sets) addElements(batch, setOf(table, set), set.elements)
  for (const chain of table.chains) for (const rule of chain.rules) newRule(batch, table, chain, rule, ids)
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
