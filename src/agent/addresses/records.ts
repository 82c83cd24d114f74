import type { AddressBlock } from '../../api/address-block.ts'
import type { NodeHoldings } from '../../ipam/consistency.ts'
import type { Owner } from '../../ipam/port.ts'
import { withoutLength } from '../../lib/ip.ts'
import type { Journal } from '../journal/journal.ts'

/** How all keys of addresses in the journal begin. */
export const ours = 'ipam/'

/** What the journal says of addresses, key by key; everything else in it is somebody else's. */
export const keys = {
  node: 'ipam/node',
  block: (name: string) => `ipam/block/${name}`,
  lease: (owner: Owner, networkUID: string) => `ipam/lease/${ownerKey(owner)}/${networkUID}`,
  rest: (block: string, address: string) => `ipam/rest/${block}/${address}`,
}

/** A container ID is unique on its node, so who asks without the pod's UID is known too. */
export const ownerKey = (owner: Pick<Owner, 'containerID' | 'interface'>): string =>
  `${owner.containerID}/${owner.interface}`

/** Whose blocks these are. */
export interface NodeRecord {
  name: string
  uid: string
}

/** A block that this node has, as far as it must know it while the API server is away. */
export interface BlockRecord {
  namespace: string
  network: string
  /** What the block is named after. */
  networkUID: string
  /** The UID of the network it is leased from, where that is another. */
  pool?: string
  cidr: string
  nodeUID: string
  /** The object's. */
  uid: string
  endpoint?: string
  holder?: string
  /** On its way back: nothing is leased from it any more. */
  returning?: boolean
  /** Which node has it though pods here hold addresses in it: nothing is leased from it any more. */
  taken?: string
}

export interface LeaseRecord {
  owner: Owner
  /** `<namespace>/<name>`. */
  network: string
  networkUID: string
  addresses: { address: string; gateway?: string; block: string }[]
}

export const recordOf = (block: AddressBlock, pool = block.spec.networkUID): BlockRecord => ({
  namespace: block.metadata.namespace ?? '',
  network: block.spec.network,
  networkUID: block.spec.networkUID,
  ...(pool === block.spec.networkUID ? {} : { pool }),
  cidr: block.spec.cidr,
  nodeUID: block.spec.nodeUID,
  uid: block.metadata.uid ?? '',
  ...(block.spec.endpoint === undefined ? {} : { endpoint: block.spec.endpoint }),
  ...(block.spec.holder === undefined ? {} : { holder: block.spec.holder }),
})

export interface Records {
  node?: NodeRecord
  blocks: Map<string, BlockRecord>
  /** By key. */
  leases: Map<string, LeaseRecord>
  rests: { block: string; address: string; until: number }[]
}

function readRecords(entries: ReadonlyMap<string, unknown>): Records {
  const records: Records = { blocks: new Map(), leases: new Map(), rests: [] }
  for (const [key, value] of entries) {
    const [area, kind, name = '', address = ''] = key.split('/')
    if (area !== 'ipam') continue
    if (kind === 'node') records.node = value as NodeRecord
    else if (kind === 'block') records.blocks.set(name, value as BlockRecord)
    else if (kind === 'lease') records.leases.set(key, value as LeaseRecord)
    else if (kind === 'rest') records.rests.push({ block: name, address, until: value as number })
  }
  records.rests.sort((a, b) => a.until - b.until)
  return records
}

/**
 * What the journal holds, after a boot carried over: blocks are still the
 * node's, the leases of its containers are void and their addresses rest.
 * The changes that say so are to be written before anything else. Nothing
 * rests for longer than till `restUntil`: where it would, the clock was ahead.
 */
export function carryOver(
  journal: Journal,
  restUntil: number,
): { records: Records; changes: Map<string, unknown> } {
  const changes = new Map<string, unknown>()
  const before = readRecords(journal.previousBoot)
  if (before.node && journal.get(keys.node) === undefined) changes.set(keys.node, before.node)
  for (const [name, block] of before.blocks)
    if (journal.get(keys.block(name)) === undefined) changes.set(keys.block(name), block)
  for (const lease of before.leases.values())
    for (const { block, address } of lease.addresses)
      if (before.blocks.get(block)?.holder === undefined)
        changes.set(keys.rest(block, withoutLength(address)), restUntil)
  for (const { block, address, until } of before.rests)
    changes.set(keys.rest(block, address), Math.min(until, restUntil))
  const records = readRecords(new Map([...journal.entries(), ...changes]))
  for (const rest of records.rests) rest.until = Math.min(rest.until, restUntil)
  return { records, changes }
}

/** Whether the block is one address for a holder that may come to another node: a claim, a StatefulSet's pod. */
export const isKeptBlock = (block: { holder?: string } | undefined): boolean =>
  block?.holder !== undefined && !block.holder.startsWith('pod ')

/** The same, as the check of a whole cluster's addresses takes it. */
export function holdingsOf(entries: ReadonlyMap<string, unknown>): NodeHoldings {
  const { node, blocks, leases } = readRecords(entries)
  return { node: node?.name ?? '', nodeUID: node?.uid ?? '', blocks, leases: [...leases.values()] }
}
