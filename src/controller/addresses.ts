import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { IPAMClaim, Node, Pod } from '../api/core.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import { isOutOfService } from '../api/out-of-service.ts'
import { resources } from '../api/resources.ts'
import { isUID } from '../ipam/block.ts'
import { found } from '../kube/found.ts'
import type { Kube } from '../kube/port.ts'
import { isFault } from '../lib/fault.ts'
import { withoutLength } from '../lib/ip.ts'

/** What decides whether a block still belongs to somebody. */
export interface BlockSurroundings {
  nodes: Node[]
  blocks: AddressBlock[]
  networks: Network[]
  claims: IPAMClaim[]
  /** Where given, an address that is attached somewhere is never taken for given up. */
  slices?: AttachmentSlice[]
  /** Only where both are given, addresses that were kept for pods of StatefulSets are given up. */
  pods?: Pod[]
  statefulSets?: StatefulSet[]
  /** `<namespace>/<name>` of pods that nothing is kept for, though a StatefulSet wants them. */
  longGone?: Set<string>
}

/** apps/v1 StatefulSet, as far as it says which pods there shall be. */
export interface StatefulSet extends KubeObject {
  spec: { replicas?: number; ordinals?: { start?: number } }
}

export const statefulSets: Resource<StatefulSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'StatefulSet',
  plural: 'statefulsets',
  namespaced: true,
}

/**
 * The blocks that nobody can be using any more: those of nodes that are
 * deleted (a Node that came back has another UID) or that an administrator
 * declared out of service, and single addresses kept for a holder that is
 * gone. A node that is only not ready keeps its blocks: its pods run on. An
 * address kept for a claim outlives its node: the claim's next pod takes it
 * along.
 */
export function staleBlocks(around: BlockSurroundings): AddressBlock[] {
  const nodes = new Map(around.nodes.map((n) => [n.metadata.uid, n]))
  const isHeld = holdersOf(around)
  return around.blocks.filter((block) => {
    const { nodeUID, holder } = block.spec
    if (holder !== undefined && !holder.startsWith('pod ')) return !isHeld(block, holder)
    const node = nodes.get(nodeUID)
    return node === undefined || isOutOfService(node)
  })
}

/** Tells whether a holder is still there, or can be waited for. */
function holdersOf(around: BlockSurroundings): (block: AddressBlock, holder: string) => boolean {
  const named = (objects: KubeObject[]) =>
    new Set(objects.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`))
  const claims = named(around.claims)
  const pods = around.pods && named(around.pods)
  const networks = new Set(around.networks.map((n) => n.metadata.uid))
  /** Looked for when the first is asked for: there are as many as pods. */
  let attached: Set<string> | undefined
  const isAttached = (address: string): boolean => {
    attached ??= new Set(
      (around.slices ?? []).flatMap((s) =>
        s.attachments.flatMap((a) => a.ips.map((ip) => `${s.metadata.namespace}/${s.network} ${ip}`)),
      ),
    )
    return attached.has(address)
  }
  const shallBe = (name: string): boolean =>
    (around.statefulSets ?? []).some(({ metadata, spec }) => {
      const start = spec.ordinals?.start ?? 0
      const prefix = `${metadata.namespace}/${metadata.name}-`
      const ordinal = Number(name.slice(prefix.length))
      return name.startsWith(prefix) && ordinal >= start && ordinal < start + (spec.replicas ?? 1)
    })

  return ({ metadata, spec }, holder) => {
    const [kind, name = ''] = holder.split(' ')
    const ip = withoutLength(spec.cidr)
    if (isAttached(`${metadata.namespace}/${spec.network} ${ip}`)) return true
    // Pools that are no Networks have identifiers of another form.
    if (isUID(spec.networkUID) && !networks.has(spec.networkUID)) return false
    if (kind === 'claim') return claims.has(name)
    if (kind === 'statefulset-pod' && pods && around.statefulSets)
      return pods.has(name) || (shallBe(name) && !around.longGone?.has(name))
    return true
  }
}

/**
 * Removes the blocks that are stale also by what the API server says this
 * moment: what a watch shows of nodes and claims may lag behind what it shows
 * of blocks, and a new node's first block must not be taken for a lost one's.
 * Returns those that were removed.
 */
export async function removeStaleBlocks(kube: Kube, around: BlockSurroundings): Promise<AddressBlock[]> {
  const nodes = new Map<string, Node | undefined>()
  const removed: AddressBlock[] = []
  for (const block of staleBlocks(around)) {
    const { node, holder } = block.spec
    if (!nodes.has(node)) nodes.set(node, await found(kube, resources.nodes, { name: node }))
    const claim = holder?.startsWith('claim ')
      ? await found(kube, resources.ipamClaims, refOf(holder))
      : undefined
    const now = {
      ...around,
      nodes: [nodes.get(node) ?? []].flat(),
      claims: [claim ?? []].flat(),
      blocks: [block],
    }
    if (staleBlocks(now).length === 0) continue
    const { namespace, name, uid, resourceVersion } = block.metadata
    try {
      // Not one that has moved to another node meanwhile.
      await kube.delete(resources.addressBlocks, { namespace, name }, { uid, resourceVersion })
      removed.push(block)
    } catch (error) {
      if (!isFault(error, 'missing', 'conflict')) throw error
    }
  }
  return removed
}

function refOf(holder: string): { namespace: string; name: string } {
  const [namespace = '', name = ''] = (holder.split(' ')[1] ?? '').split('/')
  return { namespace, name }
}
