import type { AddressBlock } from '../api/address-block.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import { isRendered, type Network, parseNetwork, shownOf } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import { type Loop, startLoop } from '../reconcile/loop.ts'
import { removeStaleBlocks } from './addresses.ts'
import {
  addressesText,
  conditionsWith,
  mtuFor,
  networkConfined,
  networkReady,
  physicalReady,
  type Surroundings,
} from './conditions.ts'
import { identifiersFor, tunnelPortsFor } from './identifiers.ts'
import { finalizersOf, unseenMs, usersOf } from './protection.ts'
import { statefulHolders } from './stateful-sets.ts'

export interface Controller {
  /** Resolves when a pass over what is known now has been made. */
  settled(): Promise<void>
  close(): Promise<void>
}

const latestVniKey = 'polynet.dev/latest-vni'

const isSystemDefault = ({ metadata }: Network): boolean =>
  metadata.namespace === 'polynet-system' && metadata.name === 'default'

/** Changes that come within this time of each other are handled together. */
const batchMs = 20

/** How often the StatefulSets are looked at that addresses are kept for. */
const holdersEveryMs = 60_000

/**
 * The cluster-wide decisions: VXLAN identifiers, tunnel ports, MTUs,
 * conditions, and the removal of what belonged to nodes that are gone. One
 * pass looks at everything and writes only what differs, so a pass that
 * nothing called for does nothing.
 */
export async function startController(deps: { kube: Kube; clock: Clock; log: Log }): Promise<Controller> {
  const { kube, clock, log } = deps
  let loop: Loop | undefined
  const watch = <T extends KubeObject>(resource: Resource<T>): Mirror<T> => {
    const m = mirror(kube, resource, {}, { clock, log })
    m.onChange(() => loop?.wake())
    return m
  }
  const networks = watch(resources.networks)
  const physicalNetworks = watch(resources.physicalNetworks)
  const hosts = watch(resources.hostPhysicalNetworks)
  const blocks = watch(resources.addressBlocks)
  const slices = watch(resources.attachmentSlices)
  const nodes = watch(resources.nodes)
  const claims = watch(resources.ipamClaims)
  const all: Mirror<KubeObject>[] = [networks, physicalNetworks, hosts, blocks, slices, nodes, claims]
  await Promise.all(all.map((m) => m.synced))

  const stop = new AbortController()
  const now = () => new Date(clock.now()).toISOString()

  const physicalPass = async () => {
    const ports = tunnelPortsFor(physicalNetworks.list())
    const inOrder = byName(hosts.list())
    for (const physical of physicalNetworks.list()) {
      const { usable, ready } = physicalReady(physical, inOrder)
      const tunnelPort =
        physical.spec.tunnelPort ?? physical.status?.tunnelPort ?? ports.get(physical.metadata.name)
      await writeStatus(resources.physicalNetworks, physical, {
        tunnelPort,
        nodes: usable,
        conditions: conditionsWith(physical.status?.conditions, [ready], physical.metadata.generation, now()),
      })
    }
  }

  const networkPass = async () => {
    const list = networks.list()
    await giveIdentifiers(list)
    const inOrder = byName(hosts.list())
    const blocksOf = Map.groupBy(blocks.list(), (b) => b.spec.networkUID)
    for (const network of list) {
      const mine: AddressBlock[] = blocksOf.get(network.metadata.uid ?? '') ?? []
      const users = network.metadata.deletionTimestamp === undefined ? [] : usersOf(network, slices.list())
      // Before it gets what agents need to attach pods, so that none is attached to a network without it.
      const used = users.length > 0 || (mine.length > 0 && mayBeUnseen(network))
      if (!(await protect(network, used))) continue
      const parsed = parseNetwork(network)
      const around: Surroundings = {
        physical: physicalNetworks.list(),
        hosts: inOrder,
        networks: list,
        blocks: mine,
        problems: parsed.ok ? [] : parsed.problems,
        users,
      }
      const uid = network.metadata.uid ?? ''
      const vni = identifiers.get(uid)
      const ready = networkReady(network, around, vni)
      const own = isRendered(network)
      await writeStatus(resources.networks, network, {
        ...(own && network.spec.topology !== 'Direct' ? { vni } : {}),
        ...(own ? { mtu: mtuFor(network, around) } : {}),
        ...shownOf(network),
        nodes: new Set(mine.map((b) => b.spec.node)).size,
        ...(own ? { addresses: addressesText(network, mine) } : {}),
        conditions: conditionsWith(
          network.status?.conditions,
          [ready, networkConfined(network)],
          network.metadata.generation,
          now(),
        ),
      })
    }
  }

  /** By the networks' UIDs: what was given, though a watch may not show it yet. */
  const identifiers = new Map<string, number | undefined>()
  let latest: number | undefined

  const giveIdentifiers = async (list: Network[]) => {
    const uids = new Set(list.map((n) => n.metadata.uid))
    for (const uid of identifiers.keys()) if (!uids.has(uid)) identifiers.delete(uid)
    const seen = list.map((n) => {
      const vni = identifiers.get(n.metadata.uid ?? '') ?? n.status?.vni
      return vni === undefined ? n : { ...n, status: { ...n.status, vni } }
    })
    const system = list.find(isSystemDefault)
    latest ??= Number(system?.metadata.annotations?.[latestVniKey]) || undefined
    const given = identifiersFor(seen, latest)
    for (const { metadata, status } of seen) identifiers.set(metadata.uid ?? '', status?.vni)
    for (const [uid, vni] of given) identifiers.set(uid, vni)
    const last = [...given.values()].findLast((vni) => vni !== undefined)
    if (last === undefined) return
    latest = last
    if (!system) return
    // For controllers to come: what was given is not given again soon, whatever became of its network.
    const { namespace, name } = system.metadata
    const body = { metadata: { annotations: { [latestVniKey]: String(last) } } }
    await kube.patch(resources.networks, { namespace, name }, { type: 'merge', body })
  }

  /** Gives the network our finalizer, or takes it from it; whether it is there and as it shall be. */
  const protect = async (network: Network, used: boolean): Promise<boolean> => {
    const { namespace, name, uid, resourceVersion, finalizers: before = [] } = network.metadata
    const finalizers = finalizersOf(network, used)
    if (equal(before, finalizers)) return true
    const body = { metadata: { uid, resourceVersion, finalizers } }
    try {
      await kube.patch(resources.networks, { namespace, name }, { type: 'merge', body })
      return network.metadata.deletionTimestamp === undefined
    } catch (error) {
      if (!isFault(error, 'missing', 'conflict')) throw error
      return false
    }
  }

  const mayBeUnseen = ({ metadata }: Network): boolean => {
    const leftMs = Date.parse(metadata.deletionTimestamp ?? '') + unseenMs - clock.now()
    if (!(leftMs > 0)) return false
    void clock.sleep(leftMs, stop.signal).then(() => loop?.wake())
    return true
  }

  const writeStatus = async <T extends KubeObject & { status?: object }>(
    resource: Resource<T>,
    object: T,
    status: object,
  ) => {
    const next = { ...object.status, ...status }
    if (equal(object.status ?? {}, next)) return
    const { namespace, name, uid, resourceVersion } = object.metadata
    try {
      // Refused when another controller was first: this one's watch, too, shows then what it wrote.
      const body = { metadata: { uid, resourceVersion }, status: next }
      await kube.patch(resource, { namespace, name }, { type: 'merge', subresource: 'status', body })
    } catch (error) {
      if (!isFault(error, 'missing', 'conflict')) throw error
    }
  }

  let holdersAt = 0
  const holders = async () => {
    if (clock.now() - holdersAt < holdersEveryMs) return undefined
    holdersAt = clock.now()
    return statefulHolders(kube, blocks.list())
  }

  const cleanPass = async () => {
    const known = nodes.list()
    const around = { nodes: known, blocks: blocks.list(), networks: networks.list(), claims: claims.list() }
    const removed = await removeStaleBlocks(kube, { ...around, slices: slices.list(), ...(await holders()) })
    for (const { metadata, spec } of removed)
      log.info('removed a block that nobody uses', {
        namespace: metadata.namespace,
        name: metadata.name,
        node: spec.node,
        holder: spec.holder,
      })
    const uids = new Set(known.map((n) => n.metadata.uid))
    const names = new Set(known.map((n) => n.metadata.name))
    for (const slice of slices.list())
      if (!uids.has(slice.nodeUID)) await remove(resources.attachmentSlices, slice)
    for (const host of hosts.list())
      if (!names.has(host.metadata.name) && (host.spec.mappings ?? []).length === 0)
        await remove(resources.hostPhysicalNetworks, host)
  }

  const remove = async <T extends KubeObject>(resource: Resource<T>, object: T) => {
    const { namespace, name, uid } = object.metadata
    try {
      await kube.delete(resource, { namespace, name }, { uid })
      log.info('removed what a node that is gone left behind', { kind: resource.kind, namespace, name })
    } catch (error) {
      if (!isFault(error, 'missing', 'conflict')) throw error
    }
  }

  loop = startLoop({
    doing: 'write what the cluster has come to',
    round: async () => {
      await physicalPass()
      await networkPass()
      await cleanPass()
    },
    clock,
    log,
    batchMs,
  })
  loop.wake()
  return {
    settled: loop.settled,
    async close() {
      stop.abort()
      await loop.close()
      for (const m of all) m.close()
    },
  }
}

/** Conditions name the nodes in this order, always: another one would be a change that everybody is told of. */
const byName = <T extends KubeObject>(objects: T[]): T[] =>
  objects.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
