import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type * as core from '../api/core.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { KubeObject } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { resources } from '../api/resources.ts'
import { Grouped } from '../kube/grouped.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
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
  serviceCIDRs: Mirror<core.ServiceCIDR>
  /** Resolves when everything above, and what `render` asked for till now, was listed once; rejects once closed. */
  synced(): Promise<void>
  /** Keeps in view what these networks are rendered from, and of no other namespaces. */
  render(networks: Network[]): void
  blocksOf(network: Network): AddressBlock[]
  /** Those of other nodes. */
  slicesOf(network: Network): AttachmentSlice[]
  /** All slices of a namespace; undefined where they are not in view. */
  slicesIn(namespace: string): AttachmentSlice[] | undefined
  /** Another one after every change of what `blocksOf` and `slicesOf` say of the network. */
  revisionOf(network: Network): string
  /**
   * Calls back with the kind of what has changed; never for pods, this node's
   * own slices and what of a network is only told to people. Returns how to
   * stop.
   */
  onChange(changed: (kind: WatchedKind) => void): () => void
  /** Calls back with each block in view that comes, changes or goes. Returns how to stop. */
  onBlock(changed: (block: AddressBlock, gone: boolean) => void): () => void
  /** Calls back when one of this node's own slices changed, or may have before its namespace came into view. Returns how to stop. */
  onOwnSlice(changed: () => void): () => void
  close(): void
}

export type WatchedKind =
  | 'node'
  | 'namespaces'
  | 'networks'
  | 'physicalNetworks'
  | 'host'
  | 'definitions'
  | 'serviceCIDRs'
  | 'blocks'
  | 'slices'

export function watch(deps: { kube: Kube; clock: Clock; log: Log; node: string }): Watched {
  const { kube, clock, log } = deps
  const listeners = new Set<(kind: WatchedKind) => void>()
  const ownSliceListeners = new Set<() => void>()
  const blockListeners = new Set<(block: AddressBlock, gone: boolean) => void>()
  const revisions = new Map<string, number>()
  /** Those who wait for `synced`. */
  const waiting = new Set<(fault: Fault) => void>()
  let closed = false
  const changed = (kind: WatchedKind) => {
    for (const listener of listeners) listener(kind)
  }
  const heard = <T extends KubeObject>(kind: WatchedKind, m: Mirror<T>): Mirror<T> => {
    m.onChange(() => changed(kind))
    return m
  }
  const revise = (namespace: string) => revisions.set(namespace, (revisions.get(namespace) ?? 0) + 1)
  const byName = { fields: `metadata.name=${deps.node}` }
  const pods = mirror(kube, resources.pods, { fields: `spec.nodeName=${deps.node}` }, { clock, log })
  const node = heard('node', mirror(kube, resources.nodes, byName, { clock, log }))
  const namespaces = heard('namespaces', mirror(kube, resources.namespaces, {}, { clock, log }))
  const networks = mirror(kube, resources.networks, {}, { clock, log })
  networks.onChange(({ object, before }) => {
    // Every node watches every network, and what people are told of one changes with each node and block.
    if (!before || !sameToNodes(object, before)) changed('networks')
  })
  const physicalNetworks = heard(
    'physicalNetworks',
    mirror(kube, resources.physicalNetworks, {}, { clock, log }),
  )
  const host = heard('host', mirror(kube, resources.hostPhysicalNetworks, byName, { clock, log }))
  const definitions = heard(
    'definitions',
    mirror(kube, resources.networkAttachmentDefinitions, {}, { clock, log }),
  )
  const serviceCIDRs = heard('serviceCIDRs', mirror(kube, resources.serviceCIDRs, {}, { clock, log }))
  const always: Mirror<KubeObject>[] = [
    ...[pods, node, namespaces, networks, physicalNetworks, host, definitions, serviceCIDRs],
  ]
  const blocks = new Map<string, ByNetwork<AddressBlock>>()
  const slices = new Map<string, ByNetwork<AttachmentSlice>>()
  const slicesIn = (namespace: string) => {
    const all = mirror(kube, resources.attachmentSlices, { namespace }, { clock, log })
    const byNetwork = new Grouped(all, (s) => (s.node === deps.node ? undefined : s.networkUID))
    const tellOwn = () => {
      for (const listener of ownSliceListeners) listener()
    }
    all.onChange(({ object }) => (object.node !== deps.node ? changed('slices') : tellOwn()))
    // What is not there when it comes into view is not seen to go.
    void all.synced.then(tellOwn)
    return { all, byNetwork }
  }
  const blocksIn = (namespace: string) => {
    const all = mirror(kube, resources.addressBlocks, { namespace }, { clock, log })
    const byNetwork = new Grouped(all, (b) => b.spec.networkUID)
    all.onChange(({ type, object }) => {
      changed('blocks')
      for (const listener of blockListeners) listener(object, type === 'DELETED')
    })
    return { all, byNetwork }
  }

  return {
    pods,
    node,
    namespaces,
    networks,
    physicalNetworks,
    host,
    definitions,
    serviceCIDRs,
    synced: () =>
      new Promise((resolve, reject) => {
        if (closed) return reject(closing())
        waiting.add(reject)
        const all = [...always, ...Array.from([...blocks.values(), ...slices.values()], ({ all }) => all)]
        void Promise.all(all.map((m) => m.synced)).then(() => {
          waiting.delete(reject)
          resolve()
        })
      }),
    render(wanted) {
      if (closed) return
      const layer2 = wanted.filter((n) => n.spec.topology === 'Layer2')
      keep(blocks, namespacesOf(wanted), blocksIn, revise)
      keep(slices, namespacesOf(layer2), slicesIn, revise)
    },
    blocksOf({ metadata: { namespace = '', uid = '' } }) {
      return blocks.get(namespace)?.byNetwork.of(uid) ?? []
    },
    slicesOf({ metadata: { namespace = '', uid = '' } }) {
      return slices.get(namespace)?.byNetwork.of(uid) ?? []
    },
    slicesIn(namespace) {
      const all = slices.get(namespace)?.all
      return all?.lastContact === undefined ? undefined : all.list()
    },
    revisionOf: ({ metadata: { namespace = '', uid = '' } }) =>
      [
        revisions.get(namespace),
        blocks.get(namespace)?.byNetwork.revisionOf(uid),
        slices.get(namespace)?.byNetwork.revisionOf(uid),
      ].join(' '),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    onBlock(listener) {
      blockListeners.add(listener)
      return () => blockListeners.delete(listener)
    },
    onOwnSlice(listener) {
      ownSliceListeners.add(listener)
      return () => ownSliceListeners.delete(listener)
    },
    close() {
      closed = true
      for (const reject of waiting) reject(closing())
      waiting.clear()
      for (const m of always) m.close()
      for (const { all } of [...blocks.values(), ...slices.values()]) all.close()
    },
  }
}

const closing = () => new Fault('unavailable', 'see what the cluster holds', 'the agent is closing')

/** Whether nodes would do the same with both. */
export const sameToNodes = (a: Network, b: Network): boolean =>
  a === b ||
  (a.metadata.uid === b.metadata.uid &&
    a.metadata.deletionTimestamp === b.metadata.deletionTimestamp &&
    a.status?.vni === b.status?.vni &&
    a.status?.mtu === b.status?.mtu &&
    equal(a.spec, b.spec))

const namespacesOf = (networks: Network[]): Set<string> =>
  new Set(networks.map((n) => n.metadata.namespace ?? ''))

/** The objects of one namespace. */
interface ByNetwork<T extends KubeObject> {
  all: Mirror<T>
  byNetwork: Grouped<T>
}

/** Makes `mirrors` those of `wanted`, and closes the others; tells which came or went. */
function keep<T extends KubeObject>(
  mirrors: Map<string, ByNetwork<T>>,
  wanted: Set<string>,
  make: (namespace: string) => ByNetwork<T>,
  changed: (namespace: string) => void,
): void {
  for (const namespace of wanted) {
    if (mirrors.has(namespace)) continue
    mirrors.set(namespace, make(namespace))
    changed(namespace)
  }
  for (const [namespace, { all }] of mirrors) {
    if (wanted.has(namespace)) continue
    mirrors.delete(namespace)
    all.close()
    changed(namespace)
  }
}
