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
 * What this node's agent keeps in view: its own pods, the networks, the
 * blocks of the namespaces whose networks are rendered here, and the slices
 * of those with Layer2 networks: routes follow from blocks, but a bridge's
 * forwarding from who is where.
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
  /** Keeps in view what these networks are rendered from, and of no other namespaces. */
  render(networks: Network[]): void
  blocksOf(network: Network): AddressBlock[]
  slicesOf(network: Network): AttachmentSlice[]
  /** Calls back on any change but of pods and of this node's own slices. Returns how to stop. */
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
  const blocks = new Map<string, Mirror<AddressBlock>>()
  const slices = new Map<string, Mirror<AttachmentSlice>>()
  const slicesIn = (namespace: string) => {
    const m = mirror(kube, resources.attachmentSlices, { namespace }, { clock, log })
    m.onChange(({ object }) => {
      if (object.node !== deps.node) changed()
    })
    return m
  }

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
        ...[...blocks.values(), ...slices.values()].map((m) => m.synced),
      ])
    },
    render(wanted) {
      const layer2 = wanted.filter((n) => n.spec.topology === 'Layer2')
      const gone = [
        keep(blocks, namespacesOf(wanted), (namespace) =>
          heard(mirror(kube, resources.addressBlocks, { namespace }, { clock, log })),
        ),
        keep(slices, namespacesOf(layer2), slicesIn),
      ]
      if (gone.includes(true)) changed()
    },
    blocksOf(network) {
      const uid = network.metadata.uid
      const all = blocks.get(network.metadata.namespace ?? '')?.list() ?? []
      return all.filter((b) => b.spec.networkUID === uid)
    },
    slicesOf(network) {
      const all = slices.get(network.metadata.namespace ?? '')?.list() ?? []
      return all.filter((s) => s.networkUID === network.metadata.uid)
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      for (const m of [...always, ...blocks.values(), ...slices.values()]) m.close()
    },
  }
}

const namespacesOf = (networks: Network[]): Set<string> =>
  new Set(networks.map((n) => n.metadata.namespace ?? ''))

/** Makes `mirrors` those of `wanted`, and closes the others; whether there were any. */
function keep<T extends KubeObject>(
  mirrors: Map<string, Mirror<T>>,
  wanted: Set<string>,
  make: (namespace: string) => Mirror<T>,
): boolean {
  let gone = false
  for (const namespace of wanted) if (!mirrors.has(namespace)) mirrors.set(namespace, make(namespace))
  for (const [namespace, m] of mirrors) {
    if (wanted.has(namespace)) continue
    mirrors.delete(namespace)
    m.close()
    gone = true
  }
  return gone
}
