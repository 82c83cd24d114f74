import type { Node } from '../api/core.ts'
import type { NicMapping } from '../api/host-physical-network.ts'
import type { Network } from '../api/network.ts'
import { isNicResource, isWireLabel, nicResource, wireLabel } from '../api/node-reach.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import { isLabelKey } from '../lib/selector.ts'
import type { Journal } from './journal/journal.ts'
import { recordsOf } from './journal/record.ts'

/** What the scheduler reads on a Node: the wires that it reaches, and how many of its NICs pods can have as their own. */
export interface Reach {
  labels: Record<string, string>
  nics: Record<string, string>
}

/**
 * Pure: what the node reaches by these mappings. A NIC that a pod took with
 * it is not there any more and still counts (`taken`: the physical networks
 * of those), so that the scheduler finds it used up, and not gone. The NIC
 * that the node itself is reached by is no pod's to take.
 */
export function reachOf(node: Node, mappings: readonly NicMapping[], taken: ReadonlySet<string>): Reach {
  const own = new Set((node.status?.addresses ?? []).map((a) => a.address))
  const reach: Reach = { labels: {}, nics: {} }
  for (const { physicalNetwork, usable, address } of mappings) {
    if (!usable && !taken.has(physicalNetwork)) continue
    if (!isLabelKey(wireLabel(physicalNetwork))) continue
    reach.labels[wireLabel(physicalNetwork)] = 'true'
    if (address === undefined || !own.has(address)) reach.nics[nicResource(physicalNetwork)] = '1'
  }
  return reach
}

/** The physical networks whose NIC some pod of the node has as its own. */
export function takenBy(
  journal: Journal,
  networkOf: (ref: { namespace: string; name: string }) => Network | undefined,
): Set<string> {
  const taken = new Set<string>()
  for (const { attachments } of recordsOf(journal))
    for (const attachment of attachments) {
      if (attachment.kind !== 'polynet') continue
      const spec = networkOf(attachment.network)?.spec
      if (spec?.direct?.mode === 'host-device' && spec.physicalNetwork) taken.add(spec.physicalNetwork)
    }
  return taken
}

/** Makes the Node say what it reaches, when it says anything else. What others write there stays. */
export async function sayReach(kube: Kube, node: Node, { labels, nics }: Reach): Promise<void> {
  const ref = { name: node.metadata.name }
  const changed = difference(node.metadata.labels, labels, isWireLabel)
  if (changed)
    await kube.patch(resources.nodes, ref, { type: 'merge', body: { metadata: { labels: changed } } })
  const { capacity, allocatable } = node.status ?? {}
  const status = {
    ...withKey('capacity', difference(capacity, nics, isNicResource)),
    // A kubelet copies it from the capacity, in its own time.
    ...withKey('allocatable', difference(allocatable, nics, isNicResource)),
  }
  if (Object.keys(status).length === 0) return
  await kube.patch(resources.nodes, ref, { type: 'merge', subresource: 'status', body: { status } })
}

const withKey = (key: string, value: object | undefined) => (value ? { [key]: value } : {})

/** The merge patch that makes the keys of ours in `have` what `want` says; undefined where they are. */
function difference(
  have: Record<string, string> = {},
  want: Record<string, string>,
  ours: (key: string) => boolean,
): Record<string, string | null> | undefined {
  const gone = Object.keys(have).filter((key) => ours(key) && !Object.hasOwn(want, key))
  const changed = Object.entries(want).filter(([key, value]) => have[key] !== value)
  if (gone.length + changed.length === 0) return undefined
  return { ...Object.fromEntries(gone.map((key) => [key, null])), ...Object.fromEntries(changed) }
}
