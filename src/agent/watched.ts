import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type * as core from '../api/core.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { KubeObject } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { resources } from '../api/resources.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'

/**
 * What this node's agent keeps in view: its own pods, the networks, and, of
 * the namespaces whose networks are rendered here, the blocks and slices.
 */
export interface Watched {
  pods: Mirror<core.Pod>
  node: Mirror<core.Node>
  namespaces: Mirror<core.Namespace>
  networks: Mirror<Network>
  physicalNetworks: Mirror<PhysicalNetwork>
  host: Mirror<HostPhysicalNetwork>
  definitions: Mirror<core.NetworkAttachmentDefinition>
  /** Resolves when everything above, and what `render` asked for till now, was listed once. */
  synced(): Promise<void>
  /** Keeps blocks and slices of these namespaces in view, and of no others. */
  render(namespaces: Set<string>): void
  blocksOf(network: Network): AddressBlock[]
  slicesOf(network: Network): AttachmentSlice[]
  /** Calls back on any change but of pods. Returns how to stop. */
  onChange(changed: () => void): () => void
  close(): void
}

export function watch(deps: { kube: Kube; clock: Clock; log: Log; node: string }): Watched {
  const { kube, clock, log } = deps
  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }
  const heard = <T extends KubeObject>(m: Mirror<T>): Mirror<T> => {
    m.onChange(changed)
    return m
  }
  const byName = { fields: `metadata.name=${deps.node}` }
  const pods = mirror(kube, resources.pods, { fields: `spec.nodeName=${deps.node}` }, { clock, log })
  const node = heard(mirror(kube, resources.nodes, byName, { clock, log }))
  const namespaces = heard(mirror(kube, resources.namespaces, {}, { clock, log }))
  const networks = heard(mirror(kube, resources.networks, {}, { clock, log }))
  const physicalNetworks = heard(mirror(kube, resources.physicalNetworks, {}, { clock, log }))
  const host = heard(mirror(kube, resources.hostPhysicalNetworks, byName, { clock, log }))
  const definitions = heard(mirror(kube, resources.networkAttachmentDefinitions, {}, { clock, log }))
  const always: Mirror<KubeObject>[] = [pods, node, namespaces, networks, physicalNetworks, host, definitions]
  const rendered = new Map<string, { blocks: Mirror<AddressBlock>; slices: Mirror<AttachmentSlice> }>()

  return {
    pods,
    node,
    namespaces,
    networks,
    physicalNetworks,
    host,
    definitions,
    async synced() {
      await Promise.all([
        ...always.map((m) => m.synced),
        ...[...rendered.values()].flatMap((r) => [r.blocks.synced, r.slices.synced]),
      ])
    },
    render(wanted) {
      for (const namespace of wanted) {
        if (rendered.has(namespace)) continue
        rendered.set(namespace, {
          blocks: heard(mirror(kube, resources.addressBlocks, { namespace }, { clock, log })),
          slices: heard(mirror(kube, resources.attachmentSlices, { namespace }, { clock, log })),
        })
      }
      for (const [namespace, mirrors] of rendered) {
        if (wanted.has(namespace)) continue
        rendered.delete(namespace)
        mirrors.blocks.close()
        mirrors.slices.close()
      }
    },
    blocksOf(network) {
      const uid = network.metadata.uid
      const blocks = rendered.get(network.metadata.namespace ?? '')?.blocks.list() ?? []
      return blocks.filter((b) => b.spec.networkUID === uid)
    },
    slicesOf(network) {
      const slices = rendered.get(network.metadata.namespace ?? '')?.slices.list() ?? []
      return slices.filter((s) => s.network === network.metadata.name)
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      for (const m of always) m.close()
      for (const r of rendered.values()) {
        r.blocks.close()
        r.slices.close()
      }
    },
  }
}
