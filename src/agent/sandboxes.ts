import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import { mergeResults } from '../cni/merge.ts'
import type { Plugins } from '../cni/plugins.ts'
import type { CniRequest } from '../cni/request.ts'
import type { CniResult } from '../cni/result.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Addresses, Owner } from '../ipam/port.ts'
import { asFault, Fault } from '../lib/fault.ts'
import { type Address, parseAddress, sameAddress, withoutLength } from '../lib/ip.ts'
import { limit } from '../lib/limit.ts'
import type { Log } from '../lib/log.ts'
import { macOf } from '../lib/mac.ts'
import { planPort } from '../plan/plan-node.ts'
import type { HeldAttachment, NetworkView } from '../plan/view.ts'
import { invocationOf } from './invocation.ts'
import { amended, type Journal } from './journal/journal.ts'
import { type AttachmentRecord, recordKey, recordsIn, type SandboxRecord } from './journal/record.ts'
import { attachmentResults } from './results.ts'
import { statusAnnotations } from './status.ts'
import type { Wanted } from './wanted.ts'

export interface SandboxDeps {
  journal: Journal
  datapath: Datapath
  plugins: Plugins
  addresses: Addresses
  log: Log
  /** Resolves when the namespaces of the networks that records use are in the kernel. */
  rendered: (networks: Network[]) => Promise<void>
  /** Writes what the record says is unreported. Whether it is there; false also when waiting longer is not worth it. */
  report: (record: SandboxRecord) => Promise<boolean>
  /** Called with what has been done for a container that people have a name for. */
  did?: (containerID: string, what: string) => void
  /** Called at every step by name; tests die there. */
  at: (step: Step) => void
  /** Called when what a sandbox has came or went. */
  changed: (record: SandboxRecord) => void
  /** Called when something of this sandbox could not be taken away. */
  left: (containerID: string) => void
}

/** The steps of ADD and DEL between which an agent may be killed. */
export const steps = [
  'add:start',
  'add:leased',
  'add:journaled',
  'add:rendered',
  'add:foreign',
  'add:attached',
  'add:done',
  'del:start',
  'del:journaled',
  'del:foreign',
  'del:detached',
  'del:released',
  'del:done',
] as const
export type Step = (typeof steps)[number]

/** How many sandboxes that nobody waits for are taken away at once: each may execute plugins. */
export const takingAway = 8

/**
 * Makes and takes away all interfaces of a pod. Everything that must be taken
 * away again stands in the journal before it is made, so a crash at any
 * instruction leaves nothing that the next start, DEL or GC does not find.
 */
export class Sandboxes {
  readonly #deps: SandboxDeps
  /** Those that should have nothing any more, and have. */
  readonly #left = new Set<string>()
  /** Sandboxes by the network and MAC that they asked for, while their ADDs are under way. */
  readonly #macs = new Map<string, SandboxRecord>()

  constructor(deps: SandboxDeps) {
    this.#deps = deps
  }

  records(): SandboxRecord[] {
    return recordsIn(this.#deps.journal.entries())
  }

  find(containerID: string): SandboxRecord | undefined {
    return this.#deps.journal.get(recordKey(containerID)) as SandboxRecord | undefined
  }

  /**
   * The result of all the pod's attachments, in the order wanted. Asked again
   * for a sandbox that has them, makes sure that they are there and answers
   * the same. When one fails, all are taken away and the first error is thrown.
   */
  async add(pod: Pod, request: CniRequest, wanted: Wanted[]): Promise<CniResult> {
    const { journal, at, did } = this.#deps
    const before = this.find(request.containerID)
    if (before?.state === 'added' && before.result) {
      await this.#attach(before)
      this.#left.delete(before.containerID)
      return before.result
    }
    // An ADD that a crash cut short: begin again from nothing.
    if (before) await this.#takeAway(before.containerID)
    at('add:start')

    const key = recordKey(request.containerID)
    let record: SandboxRecord = {
      containerID: request.containerID,
      pod: {
        namespace: pod.metadata.namespace ?? 'default',
        name: pod.metadata.name,
        uid: pod.metadata.uid ?? '',
      },
      netns: request.netns,
      state: 'adding',
      attachments: [],
    }
    try {
      record = { ...record, attachments: await this.#lease(record, wanted, pod) }
      at('add:leased')
      did?.(record.containerID, 'addresses leased')
      // Known before anything is made where no foreign plugin has a say: then the API server works while the kernel does.
      const foreign = record.attachments.some((a) => a.kind === 'plugin')
      if (!foreign) record = { ...record, ...outcomeOf(record, wanted, pod) }
      await journal.put(key, record)
      at('add:journaled')
      did?.(record.containerID, 'journal written')
      await this.#deps.rendered(wanted.flatMap(({ by }) => (by.kind === 'polynet' ? [by.network] : [])))
      at('add:rendered')
      did?.(record.containerID, 'networks rendered')
      // The API server works on it while this thread waits for the kernel.
      const early = foreign ? undefined : this.#deps.report(record)
      record = await this.#make(record)
      at('add:attached')
      if (foreign) record = { ...record, ...outcomeOf(record, wanted, pod) }
      const reported = await (early ?? this.#deps.report(record))
      did?.(record.containerID, reported ? 'network-status written' : 'network-status not taken yet')
      const settled = { state: 'added', ...(reported && { unreported: null }) }
      await (foreign ? journal.put(key, amended(record, settled)) : journal.amend(key, settled))
      did?.(record.containerID, 'journal settled')
      this.#deps.changed(record)
      this.#left.delete(record.containerID)
      at('add:done')
      return record.result as CniResult
    } catch (error) {
      await this.del(record.containerID).catch((cleanup) =>
        this.#deps.log.error('clean up after a failed ADD; it is tried again', {
          container: record.containerID,
          error: asFault(cleanup, 'clean up').message,
        }),
      )
      throw error
    } finally {
      for (const [key, { containerID }] of this.#macs)
        if (containerID === record.containerID) this.#macs.delete(key)
    }
  }

  /** Takes away everything the sandbox has. Nothing known of it is success. Goes on after an error and throws all of them at the end. */
  async del(containerID: string): Promise<void> {
    try {
      await this.#takeAway(containerID)
      this.#left.delete(containerID)
    } catch (error) {
      this.#left.add(containerID)
      this.#deps.left(containerID)
      throw error
    }
  }

  async #takeAway(containerID: string): Promise<void> {
    const record = this.find(containerID)
    if (record) await this.#remove(record)
    await this.#releaseAll(containerID)
  }

  /** The same for what a DEL, or an ADD that failed, left of the sandbox; what an ADD made since stays. */
  async takeRestAway(containerID: string): Promise<void> {
    if (this.#left.has(containerID)) await this.del(containerID)
  }

  /** Sandboxes that a crash, or a disk or plugin that refused, left something of. Only while no ADD or DEL is under way. */
  unfinished(): string[] {
    const records = this.records()
    const known = new Set(records.map((r) => r.containerID))
    const leftOver = this.#deps.addresses.owners().filter((o) => o.journaled && !known.has(o.containerID))
    return [
      ...records.filter((r) => r.state !== 'added').map((r) => r.containerID),
      ...new Set(leftOver.map((o) => o.containerID)),
    ]
  }

  /** What a crash between leasing and journaling left held, and what another plugin did not give back. */
  async #releaseAll(containerID: string): Promise<void> {
    const { addresses } = this.#deps
    for (const owner of addresses.owners())
      if (owner.containerID === containerID) await addresses.release(owner)
  }

  /** Whether the container holds something here, whether or not its ADD ended. */
  knows(containerID: string): boolean {
    const holds = (owner: Owner) => owner.containerID === containerID
    return this.find(containerID) !== undefined || this.#deps.addresses.owners().some(holds)
  }

  /** Containers that do. */
  known(): Set<string> {
    return new Set([
      ...this.records().map((r) => r.containerID),
      ...this.#deps.addresses.owners().map((o) => o.containerID),
    ])
  }

  /**
   * After a boot the kernel holds nothing any more, but other plugins may keep
   * files (host-local its leases): they get their DELs for what the journal
   * knows of the boot before, and that is forgotten.
   */
  async forgetPreviousBoot(): Promise<void> {
    const { journal, plugins, log } = this.#deps
    const forget = async (record: SandboxRecord) => {
      for (const a of record.attachments.toReversed()) {
        if (a.kind !== 'plugin') continue
        await plugins.del({ ...invocationOf(record, a), netns: '' }).catch((error) =>
          log.warn(asFault(error, `take ${a.interface} of the boot before away`).message, {
            pod: `${record.pod.namespace}/${record.pod.name}`,
          }),
        )
      }
    }
    // A plugin that hangs is killed after 45 seconds, and no pod can come before.
    const limited = limit(takingAway)
    await Promise.all(recordsIn(journal.previousBoot).map((record) => limited(() => forget(record))))
    await journal.forgetPreviousBoot()
  }

  /** What is not as it should be, a sentence each. */
  async check(containerID: string): Promise<string[]> {
    const record = this.find(containerID)
    if (!record) return [`sandbox ${containerID} has no attachments here; ADD it again`]
    const differences = await this.#deps.datapath.check(portsOf(record))
    for (const a of record.attachments) {
      if (a.kind !== 'plugin' || a.conf.disableCheck) continue
      try {
        await this.#deps.plugins.check(invocationOf(record, a))
      } catch (error) {
        differences.push(asFault(error, `check ${a.interface}`).message)
      }
    }
    return differences
  }

  async #lease(record: SandboxRecord, wanted: Wanted[], pod: Pod): Promise<AttachmentRecord[]> {
    const leaseOne = async (
      { request, by, view, ports }: Wanted,
      index: number,
    ): Promise<AttachmentRecord> => {
      if (by.kind === 'plugin')
        return {
          kind: 'plugin',
          name: by.name,
          interface: request.interface,
          default: request.default,
          conf: by.conf,
          args: by.args,
          capabilityArgs: by.capabilityArgs,
        }
      if (request.mac) this.#refuseMac(view as NetworkView, request.mac, record)
      const lease = await this.#deps.addresses.lease({
        network: by.network,
        owner: ownerOf(record, request.interface),
        ...(request.ips ? { ips: request.ips } : {}),
        ...holderOf(pod, request, firstOn(by.network, wanted) === index),
      })
      const first = parseAddress(withoutLength(lease.addresses[0]?.address ?? ''))
      // Those of IPv6 have room for less than the addresses, and whoever looks for long finds two that come to one.
      if (!request.mac && first?.family === 6)
        this.#refuseMac(view as NetworkView, macOf(first), record, first)
      const held: HeldAttachment = {
        networkUID: by.network.metadata.uid ?? '',
        containerID: record.containerID,
        interface: request.interface,
        pod: `${record.pod.namespace}/${record.pod.name}`,
        netns: record.netns,
        addresses: lease.addresses,
        ...(request.mac ? { mac: request.mac } : {}),
        ...(request.defaultRoute ? { defaultRoute: request.defaultRoute } : {}),
        index,
      }
      return {
        kind: 'polynet',
        interface: request.interface,
        network: {
          namespace: by.network.metadata.namespace ?? '',
          name: by.network.metadata.name,
          uid: by.network.metadata.uid ?? '',
        },
        default: request.default,
        held,
        ...(ports ? { ports } : {}),
      }
    }
    try {
      const settled = await Promise.allSettled(wanted.map(leaseOne))
      const failed = settled.find((s) => s.status === 'rejected')
      if (failed) throw failed.reason
      const leased = settled.map((s) => (s as PromiseFulfilledResult<AttachmentRecord>).value)
      for (let tries = 0; ; tries++) {
        const at = leased.findIndex((a, index) => leased.slice(0, index).some((b) => sharedBy(a, b)))
        if (at < 0) return leased.map((a, index) => planned(a, wanted[index]?.view, leased))
        const one = wanted[at] as Wanted
        if (tries === 2 * wanted.length) throw addressTwice(record, leased, at)
        // It rests, so another one is next.
        await this.#deps.addresses.release(ownerOf(record, one.request.interface))
        leased[at] = await leaseOne(one, at)
      }
    } catch (error) {
      await Promise.allSettled(
        wanted.map(({ request }) => this.#deps.addresses.release(ownerOf(record, request.interface))),
      )
      throw error
    }
  }

  /**
   * Two with one MAC in a broadcast domain: the younger one would take the other's packets. `own` is the pod's already,
   * so who is said to have it elsewhere has it no more.
   */
  #refuseMac(view: NetworkView, mac: string, record: SandboxRecord, own?: Address): void {
    const { containerID, pod } = record
    const { metadata, spec } = view.network
    if (spec.topology !== 'Layer2') return
    const key = `${metadata.uid} ${mac}`
    const has = (a: AttachmentRecord) =>
      a.kind === 'polynet' && a.network.uid === metadata.uid && a.port?.inside.mac === mac
    const asked = this.#macs.get(key)
    const holders = [...(asked ? [asked] : []), ...this.records().filter((r) => r.attachments.some(has))]
    const holder = holders.find((other) => other.containerID !== containerID)
    if (!holder && !view.peers.some(({ attachment }) => macOfPeer(attachment, own) === mac)) {
      this.#macs.set(key, record)
      return
    }
    const whose = holder?.pod.namespace === pod.namespace ? `pod ${holder.pod.name}` : 'another pod'
    throw new Fault(
      'conflict',
      `attach pod ${pod.namespace}/${pod.name} to Network ${metadata.namespace}/${metadata.name}`,
      `mac ${mac} is that of ${whose} there; ask for another, or delete that pod first`,
    )
  }

  /**
   * The default network first (NPWG v1.3 section 6.2), what Polynet renders in
   * one batch, other plugins one after another (section 7.3).
   */
  async #make(record: SandboxRecord): Promise<SandboxRecord> {
    const results = new Map<number, CniResult>()
    const run = async (a: AttachmentRecord, index: number) => {
      if (a.kind !== 'plugin') return
      results.set(index, await this.#deps.plugins.add(invocationOf(record, a)))
      this.#deps.did?.(record.containerID, `plugins of ${a.name} executed for ${a.interface}`)
      this.#deps.at('add:foreign')
    }
    const first = record.attachments.findIndex((a) => a.default)
    if (first >= 0) await run(record.attachments[first] as AttachmentRecord, first)
    await this.#attach(record)
    for (const a of record.attachments) {
      const following = a.kind === 'polynet' && invocationOf(record, a)
      if (!following) continue
      await this.#deps.plugins.add(following)
      this.#deps.did?.(record.containerID, `host ports led to ${a.interface}`)
    }
    for (const [index, a] of record.attachments.entries()) if (index !== first) await run(a, index)
    if (results.size === 0) return record
    return {
      ...record,
      attachments: record.attachments.map((a, i) =>
        a.kind === 'plugin' ? { ...a, result: results.get(i) as CniResult } : a,
      ),
    }
  }

  async #attach(record: SandboxRecord): Promise<void> {
    const ports = portsOf(record)
    if (ports.length === 0) return
    await this.#deps.datapath.attach(ports)
    this.#deps.did?.(record.containerID, 'kernel changed')
  }

  async #remove(record: SandboxRecord): Promise<void> {
    const { journal, plugins, datapath, addresses, at, did } = this.#deps
    at('del:start')
    const key = recordKey(record.containerID)
    await journal.amend(key, { state: 'deleting' })
    at('del:journaled')
    did?.(record.containerID, 'journal written')
    const errors: string[] = []
    const stuck: AttachmentRecord[] = []
    for (const a of record.attachments.toReversed()) {
      const made = invocationOf(record, a)
      if (!made) continue
      try {
        await plugins.del(made)
      } catch (error) {
        stuck.unshift(a)
        errors.push(asFault(error, `take ${a.interface} away`).message)
      }
      at('del:foreign')
      did?.(record.containerID, `plugins executed for ${a.interface}`)
    }
    const ports = portsOf(record)
    if (ports.length > 0) {
      try {
        await datapath.detach(ports)
      } catch (error) {
        stuck.splice(0, stuck.length, ...record.attachments)
        errors.push(asFault(error, 'take interfaces away').message)
      }
    }
    at('del:detached')
    did?.(record.containerID, 'kernel changed')
    // An address stays held while anything that may use it is left; a plugin that cannot let go keeps no others.
    await Promise.all(
      record.attachments.map((a) =>
        a.kind === 'polynet' && !stuck.includes(a)
          ? addresses.release(ownerOf(record, a.interface))
          : undefined,
      ),
    )
    at('del:released')
    did?.(record.containerID, 'addresses released')
    if (stuck.length > 0) await journal.amend(key, { attachments: stuck, problem: errors.join('; ') })
    else await journal.delete(key)
    did?.(record.containerID, 'journal settled')
    this.#deps.changed(record)
    at('del:done')
    if (errors.length > 0)
      throw new Fault('plugin', `remove sandbox ${record.containerID}`, errors.join('; '))
  }
}

/**
 * An address that two of a pod's interfaces have, as those of networks with
 * the same subnet may: its kernel could not tell by which one to answer.
 */
function sharedBy(a: AttachmentRecord, b: AttachmentRecord): string | undefined {
  const addresses = (of: AttachmentRecord) =>
    of.kind === 'polynet' ? (of.held?.addresses ?? []).map(({ address }) => withoutLength(address)) : []
  const of = addresses(b)
  return addresses(a).find((address) => of.includes(address))
}

function addressTwice({ pod }: SandboxRecord, leased: AttachmentRecord[], at: number): Fault {
  const [a, b] = [leased[at], leased.find((other) => sharedBy(leased[at] as AttachmentRecord, other))]
  const address = a && b && sharedBy(a, b)
  return new Fault(
    'conflict',
    `attach pod ${pod.namespace}/${pod.name}`,
    `${b?.interface} and ${a?.interface} would both have ${address}; ask for another on one of them`,
  )
}

/** Undefined where it has the address `own`. */
function macOfPeer(
  { mac, ips }: NetworkView['peers'][number]['attachment'],
  own?: Address,
): string | undefined {
  const addresses = ips.flatMap((ip) => parseAddress(ip) ?? [])
  if (own && addresses.some((address) => sameAddress(address, own))) return undefined
  return mac ?? (addresses[0] && macOf(addresses[0]))
}

/** What an ADD comes to, once it is known what each attachment does. */
function outcomeOf(record: SandboxRecord, wanted: Wanted[], pod: Pod) {
  const results = attachmentResults(record, wanted)
  return { result: mergeResults(results), unreported: statusAnnotations(record, results, pod) }
}

/** With its port, which may send what the pod's other interfaces on the same network have. */
function planned(
  a: AttachmentRecord,
  view: NetworkView | undefined,
  all: AttachmentRecord[],
): AttachmentRecord {
  if (a.kind !== 'polynet' || !view || !a.held) return a
  const siblings = all.flatMap((other) =>
    other !== a && other.kind === 'polynet' && other.network.uid === a.network.uid
      ? (other.held?.addresses ?? []).map(({ address }) => withoutLength(address))
      : [],
  )
  const held = siblings.length > 0 ? { ...a.held, siblings } : a.held
  return { ...a, held, port: planPort(view, held) }
}

/** Whom addresses are kept for beyond the sandbox: a claim, or a pod of a StatefulSet, which comes back under its name. */
function holderOf({ metadata }: Pod, { ipamClaim }: AttachmentRequest, first: boolean): { holder?: string } {
  if (ipamClaim) return { holder: `claim ${metadata.namespace}/${ipamClaim}` }
  const stateful = first && metadata.ownerReferences?.some((o) => o.kind === 'StatefulSet' && o.controller)
  return stateful ? { holder: `statefulset-pod ${metadata.namespace}/${metadata.name}` } : {}
}

/** The first of a pod's interfaces on a network, which has what is kept for the pod. */
const firstOn = (network: Network, wanted: Wanted[]): number =>
  wanted.findIndex(({ by }) => by.kind === 'polynet' && by.network.metadata.uid === network.metadata.uid)

const ownerOf = (record: SandboxRecord, name: string): Owner => ({
  podUID: record.pod.uid,
  containerID: record.containerID,
  interface: name,
  pod: `${record.pod.namespace}/${record.pod.name}`,
  journaled: true,
})

const portsOf = (record: SandboxRecord) =>
  record.attachments.flatMap((a) => (a.kind === 'polynet' && a.port ? [a.port] : []))
