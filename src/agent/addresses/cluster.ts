import type { AddressBlock } from '../../api/address-block.ts'
import { crds } from '../../api/crds.ts'
import type { KubeObject } from '../../api/meta.ts'
import { type Network, systemNamespace } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import { consistency } from '../../ipam/consistency.ts'
import type { Ask, Owner } from '../../ipam/port.ts'
import { customResourceDefinitions } from '../../kube/memory/crd.ts'
import { MemoryKube } from '../../kube/memory/store.ts'
import type { Kube } from '../../kube/port.ts'
import { ManualClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { silentLog } from '../../lib/log.ts'
import { type MemoryDisk, memoryDisk, memoryJournal } from '../journal/memory.ts'
import { type AddressDeps, type NodeAddresses, nodeAddresses } from './addresses.ts'
import { holdingsOf } from './records.ts'

/** Nodes that do nothing but hold addresses, on an API server in memory: for tests and benchmarks. */
export interface AddressCluster {
  kube: MemoryKube
  clock: ManualClock
  /** Requests so far, as `verb plural`. */
  requests: string[]
  /** Called before each request; throws to fail it. */
  hook: { before?: (request: string) => void | Promise<void> }
  network(name: string, spec: Network['spec']): Promise<Network>
  apply(object: KubeObject): Promise<KubeObject>
  /** Starts the node, or starts it again after a `crash`. */
  start(name: string, more?: Partial<AddressDeps> & { bootId?: string; uid?: string }): NodeAddresses
  crash(name: string): void
  disk(name: string): MemoryDisk
  blocks(): Promise<AddressBlock[]>
  /** `cidr node [holder]` of each block, sorted. */
  blocksText(): Promise<string>
  /** What `consistency` finds. */
  problems(): Promise<string[]>
}

export const nodeUID = (name: string): string => `node-uid-${name}`

/** `random`: where UIDs come from, and with them the order in which blocks are tried; always the same where absent. */
export async function addressCluster(random: () => number = sequence()): Promise<AddressCluster> {
  const log: Log = silentLog
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, random })
  for (const definition of crds()) await kube.create(customResourceDefinitions, definition)
  for (const name of ['lab', systemNamespace])
    await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  const requests: string[] = []
  const hook: AddressCluster['hook'] = {}
  const nodes = new Map<string, { disk: MemoryDisk; crash: () => void; running?: NodeAddresses }>()
  /** As a process asks: one that is gone asks nothing more, but what it asked before may still be done. */
  const askedBy = (life: { over: boolean }) =>
    watchedKube(kube, async (request) => {
      if (life.over) away(request)
      requests.push(request)
      await hook.before?.(request)
    })
  const disk = (name: string) => {
    const known = nodes.get(name)
    if (known) return known.disk
    const made = memoryDisk()
    nodes.set(name, { disk: made, crash: () => {} })
    return made
  }
  const blocks = async () => (await kube.list(resources.addressBlocks)).items

  return {
    kube,
    clock,
    requests,
    hook,
    async network(name, spec) {
      return await kube.create(resources.networks, {
        apiVersion: 'polynet.dev/v1alpha1',
        kind: 'Network',
        metadata: { namespace: 'lab', name },
        spec,
      })
    },
    async apply(object) {
      const resource = Object.values(resources).find((r) => r.kind === object.kind)
      if (!resource) throw new TypeError(`no kind ${object.kind}`)
      return await kube.create(resource as never, object as never)
    },
    start(name, { bootId, uid = nodeUID(name), ...more } = {}) {
      const journal = memoryJournal(disk(name), { ...(bootId === undefined ? {} : { bootId }) })
      const life = { over: false }
      const running = nodeAddresses({
        kube: askedBy(life),
        journal,
        node: { name, uid },
        clock,
        log,
        ...more,
      })
      nodes.set(name, {
        disk: disk(name),
        running,
        crash() {
          life.over = true
          journal.crash()
          void running.close()
        },
      })
      return running
    },
    crash(name) {
      nodes.get(name)?.crash()
    },
    disk,
    blocks,
    async blocksText() {
      const texts = (await blocks()).map(({ spec }) =>
        [spec.cidr, spec.node, ...(spec.holder ? [spec.holder] : [])].join(' '),
      )
      return texts.sort().join('\n')
    },
    async problems() {
      return consistency(
        await blocks(),
        [...nodes.values()].map((n) => holdingsOf(n.disk.entries)),
      )
    },
  }
}

/** Numbers below 1 that only look random. */
function sequence(): () => number {
  let seed = 1
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed / 2 ** 32
  }
}

export const away = (request: string): never => {
  throw new Fault('unavailable', request, 'the API server does not answer')
}

/** Pod `lab/<name>`, with UID and sandbox of the same name. */
export const ownerOf = (name: string, sandbox = name): Owner => ({
  podUID: `uid-${sandbox}`,
  containerID: `sandbox-${sandbox}`,
  interface: 'eth1',
  pod: `lab/${name}`,
})

/** The addresses of a lease, or the message of why there is none. */
export async function leased(addresses: NodeAddresses, ask: Ask): Promise<string> {
  try {
    const { addresses: list } = await addresses.lease(ask)
    return list.map((a) => a.address + (a.gateway ? ` via ${a.gateway}` : '')).join(' ')
  } catch (error) {
    return error instanceof Fault ? `${error.kind}: ${error.message}` : String(error)
  }
}

function watchedKube(kube: Kube, before: (request: string) => Promise<void>): Kube {
  return {
    async get(resource, ref) {
      await before(`get ${resource.plural}`)
      return await kube.get(resource, ref)
    },
    async list(resource, selection) {
      await before(`list ${resource.plural}`)
      return await kube.list(resource, selection)
    },
    watch: (resource, since, selection) => kube.watch(resource, since, selection),
    async create(resource, object) {
      await before(`create ${resource.plural}`)
      return await kube.create(resource, object)
    },
    async update(resource, object, subresource) {
      await before(`update ${resource.plural}`)
      return await kube.update(resource, object, subresource)
    },
    async patch(resource, ref, patch) {
      await before(`patch ${resource.plural}`)
      return await kube.patch(resource, ref, patch)
    },
    async delete(resource, ref, only) {
      await before(`delete ${resource.plural}`)
      await kube.delete(resource, ref, only)
    },
  }
}
