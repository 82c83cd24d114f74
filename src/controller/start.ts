import type { AddressBlock } from '../api/address-block.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import {
  isDefaultNetwork,
  isRendered,
  type Network,
  parseNetwork,
  shownOf,
  systemNamespace,
} from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { poolOf } from '../ipam/pool.ts'
import { type Usage, usageOf } from '../ipam/usage.ts'
import { Grouped } from '../kube/grouped.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { parsePrefix } from '../lib/ip.ts'
import { equal } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import { type Loop, startLoop } from '../reconcile/loop.ts'
import { removeStaleBlocks } from './addresses.ts'
import {
  addressesText,
  conditionsWith,
  isBesideTunnels,
  mtuFor,
  networkConfined,
  networkReady,
  physicalReady,
  type Surroundings,
} from './conditions.ts'
import { identifiersFor, tunnelPortsFor } from './identifiers.ts'
import { Leisure, sameButWords } from './leisure.ts'
import type { Figures } from './metrics.ts'
import { finalizersOf, isUsed, unseenMs, usersOf } from './protection.ts'
import { StatefulHolderLooks, type StatefulHolders } from './stateful-sets.ts'
import { Suspects } from './suspects.ts'

export interface Controller {
  /** Resolves when a pass over what is known now has been made. */
  settled(): Promise<void>
  /** What all of it comes to, in numbers, as of the last pass. */
  figures(): Figures
  close(): Promise<void>
}

const latestVniKey = 'polynet.dev/latest-vni'

/** Changes that come within this time of each other are handled together. */
const batchMs = 20
/** The longest that changes wait for others where there are so many that passes take all the time. */
const restMs = 200

/** How often the StatefulSets are looked at that addresses are kept for. */
const holdersEveryMs = 60_000

/**
 * The cluster-wide decisions: VXLAN identifiers, tunnel ports, MTUs,
 * conditions, and the removal of what belonged to nodes that are gone. One
 * pass looks at what has changed and writes only what differs; what only
 * people read of it, at leisure.
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
  const blocksOf = new Grouped(blocks, (b) => b.spec.networkUID)
  const suspects = new Suspects({ networks, hosts, blocks, slices, nodes, claims })
  const all: Mirror<KubeObject>[] = [networks, physicalNetworks, hosts, blocks, slices, nodes, claims]
  /** Grow with what their names say. */
  let revisions = { surroundings: 0, systemNetworks: 0, identifiers: 0 }
  const revise = (kind: keyof typeof revisions) => {
    revisions = { ...revisions, [kind]: revisions[kind] + 1 }
  }
  let inOrder: HostPhysicalNetwork[] | undefined
  hosts.onChange(() => {
    inOrder = undefined
    revise('surroundings')
  })
  physicalNetworks.onChange(() => revise('surroundings'))
  networks.onChange(({ type, object, before }) => {
    if (object.metadata.namespace === systemNamespace) revise('systemNetworks')
    if (type === 'DELETED' || !before || !sameIdentity(object, before)) revise('identifiers')
  })
  await Promise.all(all.map((m) => m.synced))

  const stop = new AbortController()
  const now = () => new Date(clock.now()).toISOString()

  let wires: Figures['wires'] = []
  const physicalPass = async () => {
    const ports = tunnelPortsFor(physicalNetworks.list())
    inOrder ??= byName(hosts.list())
    const seen: typeof wires = []
    for (const physical of physicalNetworks.list()) {
      const { usable, unusable, ready } = physicalReady(physical, inOrder)
      seen.push({ name: physical.metadata.name, usable, unusable })
      const tunnelPort =
        physical.spec.tunnelPort ?? physical.status?.tunnelPort ?? ports.get(physical.metadata.name)
      await writeStatus(resources.physicalNetworks, physical, {
        tunnelPort,
        nodes: usable,
        conditions: conditionsWith(physical.status?.conditions, [ready], physical.metadata.generation, now()),
      })
    }
    wires = seen
  }

  /** What networks were found to be, by UID. */
  const findings = new Map<string, Findings>()
  const leisure = new Leisure(clock)

  const networkPass = async () => {
    const list = networks.list()
    await giveIdentifiers(list)
    const late: [Network, Findings][] = []
    for (const network of list) {
      const found = await findingsOf(network, list)
      if (!found || found.written) continue
      if (equal(network.status ?? {}, found.status)) found.written = true
      else if (sameButWords(network.status ?? {}, found.status)) late.push([network, found])
      else await write(network, found)
    }
    late.sort(([, a], [, b]) => a.writtenAt - b.writtenAt)
    for (const [network, found] of late) {
      if (!leisure.take(nodes.list().length)) {
        void clock.sleep(leisure.waitMs, stop.signal).then(() => loop?.wake())
        break
      }
      await write(network, found)
    }
  }

  const write = async (network: Network, found: Findings) => {
    await writeStatus(resources.networks, network, found.status)
    found.written = true
    found.writtenAt = clock.now()
  }

  /** What the network is found to be now; undefined while others must have their say first. */
  const findingsOf = async (network: Network, list: Network[]): Promise<Findings | undefined> => {
    const { uid = '', namespace, deletionTimestamp } = network.metadata
    const before = findings.get(uid)
    const from = [
      network,
      identifiers.get(uid),
      blocksOf.revisionOf(uid),
      revisions.surroundings,
      namespace === systemNamespace ? revisions.systemNetworks : 0,
      isBesideTunnels(network, list),
    ]
    if (before && deletionTimestamp === undefined && equalItems(before.from, from)) return before
    const mine = blocksOf.of(uid)
    const going = deletionTimestamp !== undefined
    const users = going ? usersOf(network, slices.list()) : []
    // Before it gets what agents need to attach pods, so that none is attached to a network without it.
    const used = going && (isUsed(network, slices.list()) || (mine.length > 0 && mayBeUnseen(network)))
    if (!(await protect(network, used))) return undefined
    const usage = usageOf(
      poolOf(network),
      mine.flatMap(({ spec }) => parsePrefix(spec.cidr) ?? []),
    )
    const status = statusOf(network, { list, mine, usage, users })
    const found: Findings = {
      from,
      network,
      status,
      usage,
      written: false,
      writtenAt: before?.writtenAt ?? 0,
    }
    findings.set(uid, found)
    return found
  }

  const statusOf = (
    network: Network,
    { list, mine, usage, users }: { list: Network[]; mine: AddressBlock[]; usage: Usage[]; users: string[] },
  ): NonNullable<Network['status']> => {
    inOrder ??= byName(hosts.list())
    const parsed = parseNetwork(network)
    const around: Surroundings = {
      physical: physicalNetworks.list(),
      hosts: inOrder,
      networks: list,
      usage,
      problems: parsed.ok ? [] : parsed.problems,
      users,
    }
    const vni = identifiers.get(network.metadata.uid ?? '')
    const ready = networkReady(network, around, vni)
    const own = isRendered(network)
    return {
      ...network.status,
      ...(own && network.spec.topology !== 'Direct' ? { vni } : {}),
      ...(own ? { mtu: mtuFor(network, around) } : {}),
      ...shownOf(network),
      nodes: new Set(mine.map((b) => b.spec.node)).size,
      ...(own ? { addresses: addressesText(network, mine) } : {}),
      conditions: conditionsWith(
        network.status?.conditions,
        [ready, networkConfined(network, isBesideTunnels(network, list))],
        network.metadata.generation,
        now(),
      ),
    }
  }

  /** By the networks' UIDs: what was given, though a watch may not show it yet. */
  const identifiers = new Map<string, number | undefined>()
  let latest: number | undefined
  /** For which networks all have been given. */
  let givenFor = -1

  const giveIdentifiers = async (list: Network[]) => {
    const { identifiers: revision } = revisions
    if (givenFor === revision) return
    await giveThem(list)
    givenFor = revision
  }

  const giveThem = async (list: Network[]) => {
    const uids = new Set(list.map((n) => n.metadata.uid))
    for (const known of [identifiers, findings, refused])
      for (const uid of known.keys()) if (!uids.has(uid)) known.delete(uid)
    const seen = list.map((n) => {
      const vni = identifiers.get(n.metadata.uid ?? '') ?? n.status?.vni
      return vni === undefined ? n : { ...n, status: { ...n.status, vni } }
    })
    const system = list.find(isDefaultNetwork)
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
    if (refused.get(uid ?? '') === resourceVersion) return false
    const body = { metadata: { uid, resourceVersion, finalizers } }
    try {
      await kube.patch(resources.networks, { namespace, name }, { type: 'merge', body })
      return network.metadata.deletionTimestamp === undefined
    } catch (error) {
      passOver(error, network)
      return false
    }
  }

  /** Versions of objects that the API server takes nothing for, by UID. */
  const refused = new Map<string, string | undefined>()

  /**
   * Goes on after what says that somebody else was first, which the watch shows. And after what the API server has
   * against one object, however its owner came to that: all others are due what they are due.
   */
  const passOver = (error: unknown, { metadata }: KubeObject) => {
    if (isFault(error, 'missing', 'conflict')) return
    if (!isFault(error, 'invalid')) throw error
    refused.set(metadata.uid ?? '', metadata.resourceVersion)
    log.warn(error.message)
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
      passOver(error, object)
    }
  }

  const looks = new StatefulHolderLooks({ kube, clock })
  let holdersAt = 0
  const holders = async () => {
    if (clock.now() - holdersAt < holdersEveryMs) return undefined
    holdersAt = clock.now()
    return looks.look(blocks.list())
  }

  const cleanPass = async () => {
    const kept = await holders()
    if (kept) suspects.everything()
    try {
      await clean(suspects.take(), kept)
    } catch (error) {
      suspects.everything()
      throw error
    }
  }

  const clean = async (left: ReturnType<Suspects['take']>, kept: StatefulHolders | undefined) => {
    if (left.blocks.length + left.slices.length + left.hosts.length === 0) return
    const known = nodes.list()
    const around = { nodes: known, blocks: left.blocks, networks: networks.list(), claims: claims.list() }
    const removed = await removeStaleBlocks(kube, { ...around, slices: slices.list(), ...kept })
    for (const { metadata, spec } of removed)
      log.info('removed a block that nobody uses', {
        namespace: metadata.namespace,
        name: metadata.name,
        node: spec.node,
        holder: spec.holder,
      })
    const uids = new Set(known.map((n) => n.metadata.uid))
    const names = new Set(known.map((n) => n.metadata.name))
    for (const slice of left.slices)
      if (!uids.has(slice.nodeUID)) await remove(resources.attachmentSlices, slice)
    for (const host of left.hosts)
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
    restMs,
  })
  loop.wake()
  return {
    settled: loop.settled,
    figures: () => ({
      networks: [...findings.values()].map(({ network: { metadata }, status, usage }) => ({
        namespace: metadata.namespace ?? '',
        name: metadata.name,
        reason: status.conditions?.find((c) => c.type === 'Ready')?.reason ?? '',
        usage,
      })),
      wires,
    }),
    async close() {
      stop.abort()
      await loop.close()
      for (const m of all) m.close()
    },
  }
}

interface Findings {
  /** What it follows from: the same, item by item, gives the same. */
  from: unknown[]
  network: Network
  status: NonNullable<Network['status']>
  usage: Usage[]
  written: boolean
  writtenAt: number
}

const equalItems = (a: unknown[], b: unknown[]): boolean => a.every((item, i) => item === b[i])

/** Whether both need the same identifier, or none. */
const sameIdentity = (a: Network, b: Network): boolean =>
  a.metadata.uid === b.metadata.uid &&
  a.metadata.deletionTimestamp === b.metadata.deletionTimestamp &&
  a.status?.vni === b.status?.vni &&
  equal(a.spec, b.spec)

/** Conditions name the nodes in this order, always: another one would be a change that everybody is told of. */
const byName = <T extends KubeObject>(objects: T[]): T[] =>
  objects.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
