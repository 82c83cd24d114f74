import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { IPAMClaim, Node, Pod } from '../api/core.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import type { Network } from '../api/network.ts'

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

const outOfService = 'node.kubernetes.io/out-of-service'

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
    return node === undefined || (node.spec.taints ?? []).some((t) => t.key === outOfService)
  })
}

/** Tells whether a holder is still there, or can be waited for. */
function holdersOf(around: BlockSurroundings): (block: AddressBlock, holder: string) => boolean {
  const named = (objects: KubeObject[]) =>
    new Set(objects.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`))
  const claims = named(around.claims)
  const pods = around.pods && named(around.pods)
  const networks = new Set(around.networks.map((n) => n.metadata.uid))
  const attached = new Set(
    (around.slices ?? []).flatMap((s) =>
      s.attachments.flatMap((a) => a.ips.map((ip) => `${s.metadata.namespace}/${s.network} ${ip}`)),
    ),
  )
  const shallBe = (name: string): boolean =>
    (around.statefulSets ?? []).some(({ metadata, spec }) => {
      const start = spec.ordinals?.start ?? 0
      const prefix = `${metadata.namespace}/${metadata.name}-`
      const ordinal = Number(name.slice(prefix.length))
      return name.startsWith(prefix) && ordinal >= start && ordinal < start + (spec.replicas ?? 1)
    })

  return ({ metadata, spec }, holder) => {
    const [kind, name = ''] = holder.split(' ')
    const ip = spec.cidr.split('/', 1)[0]
    if (attached.has(`${metadata.namespace}/${spec.network} ${ip}`)) return true
    // Pools that are no Networks have identifiers of another form.
    if (isUID(spec.networkUID) && !networks.has(spec.networkUID)) return false
    if (kind === 'claim') return claims.has(name)
    if (kind === 'statefulset-pod' && pods && around.statefulSets) return pods.has(name) || shallBe(name)
    return true
  }
}

const isUID = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
