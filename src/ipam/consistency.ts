import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import {
  contains,
  formatPrefix,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
  withoutLength,
} from '../lib/ip.ts'

/** What one node's journal says of addresses (`readRecords` in agent), in the few words needed here. */
export interface NodeHoldings {
  node: string
  nodeUID: string
  /** By name, the blocks that it takes for its own. */
  blocks: Map<
    string,
    { cidr: string; networkUID: string; nodeUID: string; holder?: string; returning?: boolean }
  >
  leases: {
    owner: { pod: string; containerID: string; interface: string; journaled?: true }
    network: string
    addresses: { address: string; block: string }[]
  }[]
}

/**
 * Everything about a cluster's addresses that must never be, a sentence each;
 * nothing when all is well. It holds at any
 * instant for blocks and journals; attachments (where given) lag behind, so
 * they are compared once everything has settled.
 */
export function consistency(
  blocks: AddressBlock[],
  journals: NodeHoldings[],
  attachments?: AttachmentSlice[],
): string[] {
  return [
    ...overlappingBlocks(blocks),
    ...journals.flatMap((journal) => strayLeases(blocks, journal)),
    ...doubleLeases(journals),
    ...(attachments ? differingAttachments(journals, attachments) : []),
  ]
}

function overlappingBlocks(blocks: AddressBlock[]): string[] {
  const problems: string[] = []
  for (const group of Map.groupBy(blocks, (b) => b.spec.networkUID).values()) {
    const sorted = group
      .flatMap((block) => {
        const prefix = parsePrefix(block.spec.cidr)
        return prefix ? [{ block, prefix }] : []
      })
      .sort((a, b) => compare(a.prefix, b.prefix))
    // Neighbours suffice: prefixes that overlap contain each other.
    for (const [i, { block, prefix }] of sorted.entries()) {
      const before = sorted[i - 1]
      if (before && overlaps(before.prefix, prefix))
        problems.push(
          `network ${block.metadata.namespace}/${block.spec.network}: ${formatPrefix(before.prefix)} of node ${before.block.spec.node} overlaps ${formatPrefix(prefix)} of node ${block.spec.node}`,
        )
    }
  }
  return problems
}

const compare = (a: Prefix, b: Prefix): number =>
  a.family - b.family || (a.value < b.value ? -1 : a.value > b.value ? 1 : a.length - b.length)

function strayLeases(blocks: AddressBlock[], { node, nodeUID, leases }: NodeHoldings): string[] {
  const byName = new Map(blocks.map((b) => [b.metadata.name, b]))
  return leases.flatMap(({ owner, network, addresses }) =>
    addresses.flatMap(({ address, block: name }) => {
      const who = `pod ${owner.pod} on node ${node} holds ${address} of ${network}`
      const block = byName.get(name)
      if (!block) return [`${who}, but its block ${name} does not exist`]
      if (block.spec.nodeUID !== nodeUID) return [`${who}, but its block is node ${block.spec.node}'s`]
      const prefix = parsePrefix(block.spec.cidr)
      const parsed = parseAddress(withoutLength(address))
      return prefix && parsed && contains(prefix, parsed) ? [] : [`${who}, which is not in its block ${name}`]
    }),
  )
}

function doubleLeases(journals: NodeHoldings[]): string[] {
  const seen = new Map<string, string>()
  const problems: string[] = []
  for (const { node, blocks, leases } of journals)
    for (const { owner, network, addresses } of leases)
      for (const { address, block } of addresses) {
        const key = `${blocks.get(block)?.networkUID ?? network} ${withoutLength(address)}`
        const who = `pod ${owner.pod} (${owner.containerID.slice(0, 12)}/${owner.interface}) on node ${node}`
        const other = seen.get(key)
        if (other) problems.push(`${address} of ${network} is held twice: by ${other} and by ${who}`)
        seen.set(key, who)
      }
  return problems
}

function differingAttachments(journals: NodeHoldings[], slices: AttachmentSlice[]): string[] {
  const attached = new Map<string, string>()
  for (const slice of slices)
    for (const a of slice.attachments)
      for (const ip of a.ips)
        attached.set(
          `${slice.node} ${a.containerID}/${a.interface} ${ip}`,
          `pod ${a.podNamespace}/${a.pod} on node ${slice.node} is attached with ${ip}`,
        )
  const problems: string[] = []
  const held = new Set<string>()
  for (const { node, leases } of journals)
    for (const { owner, network, addresses } of leases)
      for (const { address } of addresses) {
        const key = `${node} ${owner.containerID}/${owner.interface} ${withoutLength(address)}`
        held.add(key)
        if (!attached.has(key))
          problems.push(
            `pod ${owner.pod} on node ${node} holds ${address} of ${network} but is not attached with it`,
          )
      }
  for (const [key, who] of attached) if (!held.has(key)) problems.push(`${who}, which it does not hold`)
  return problems
}

/** What is leased to nodes though nothing of it is held: after everybody released and rested there must be none. */
export const leaks = (blocks: AddressBlock[], journals: NodeHoldings[]): string[] => {
  const used = new Set(journals.flatMap((j) => j.leases.flatMap((l) => l.addresses.map((a) => a.block))))
  return blocks
    .filter(
      (b) => !used.has(b.metadata.name) && (b.spec.holder === undefined || b.spec.holder.startsWith('pod ')),
    )
    .map(
      (b) =>
        `block ${b.spec.cidr} of ${b.metadata.namespace}/${b.spec.network} is leased to node ${b.spec.node}, where nobody uses it`,
    )
}
