import { createHash } from 'node:crypto'
import type { Attachment, AttachmentSlice } from '../api/attachment-slice.ts'
import { apiVersionOf } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { withoutLength } from '../lib/ip.ts'
import { equal } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import { startLoop } from '../reconcile/loop.ts'
import { ownerKey } from './addresses/records.ts'
import type { AttachmentRecord, RenderedAttachment, SandboxRecord } from './journal/record.ts'
import { lingerMs } from './lingering.ts'

/** Changes that come within this time of each other are written together. */
const batchMs = 100
/** The same where no node waits for it: what is routed follows from blocks. */
const unhurriedMs = 1000
/** How long after a change of this node's slices they are compared with what was written: by then the agent's own are seen. */
const settleMs = 2000
/** When a slice is written again that the API server has not taken: its namespace is about to go, or it names too many. */
const refusedMs = 30_000
/** How often they are read where nobody watches them, which takes one request. */
const readMs = 10 * 60_000

export interface Slices {
  /** To be called when what this sandbox has came or went. */
  changed(record: SandboxRecord): void
  /** To be called when a network is to go. */
  wake(): void
  /** To be called when one of this node's slices was seen to change. */
  seen(): void
  close(): Promise<void>
}

export interface SlicesDeps {
  kube: Kube
  clock: Clock
  log: Log
  node: { name: string; uid: string }
  records: () => SandboxRecord[]
  /** Whether one of its addresses is kept for a holder that may come to another node. */
  isKept: (containerID: string, a: RenderedAttachment) => boolean
  /** Whether the network is being deleted, or gone. */
  isGoing: (network: NetworkRef) => boolean
  /** All slices of a namespace; undefined where they are not in view. */
  there: (namespace: string) => AttachmentSlice[] | undefined
}

type NetworkRef = RenderedAttachment['network']

/**
 * Publishes which networks have pods here, as one AttachmentSlice for each,
 * written in batches by this node alone. It names the pods that somebody
 * elsewhere must know: those on a bridge, those whose addresses are kept for
 * a holder, and all of a network that is to go. One that names nobody stays
 * a while after the last pod, as the network's blocks do. What somebody else
 * deletes or changes, or an older etcd does not have, is written again. One
 * that the API server does not take keeps no other from being written: what
 * is on one network is its tenants' affair.
 */
export function startSlices(deps: SlicesDeps): Slices {
  const { kube, clock, log, node } = deps
  /** What the API server has of this node, by namespace and name, as far as this agent knows. */
  let written: Map<string, AttachmentSlice> | undefined
  /** Since when slices are of no use that name nobody, by the same. */
  const idleSince = new Map<string, number>()

  const write = async () => {
    written ??= await slicesOfBefore(kube, node)
    const known = written
    const now = slicesOf(deps)
    for (const [key, slice] of now) {
      idleSince.delete(key)
      if (equal(known.get(key)?.attachments, slice.attachments)) continue
      try {
        await put(kube, slice, known.has(key))
        known.set(key, slice)
      } catch (error) {
        if (!isFault(error, 'invalid', 'forbidden', 'missing')) throw error
        log.warn(error.message)
        refused(refusedMs)
      }
    }
    for (const [key, slice] of known) {
      if (now.has(key) || lingers(key, slice)) continue
      const { namespace, name } = slice.metadata
      try {
        await kube.delete(resources.attachmentSlices, { namespace, name })
      } catch (error) {
        if (!isFault(error, 'missing')) throw error
      }
      known.delete(key)
      idleSince.delete(key)
    }
    if (idleSince.size > 0) whenIdle(Math.min(...idleSince.values()) + lingerMs - clock.now())
  }

  /** Takes up what others made of this node's slices where they are watched, so that a round puts it right. */
  const compare = () => {
    if (!written) return
    const namespaces = new Set(Array.from(written.values(), ({ metadata }) => metadata.namespace ?? ''))
    let differs = false
    for (const namespace of namespaces) {
      const there = deps.there(namespace)?.filter(({ nodeUID }) => nodeUID === node.uid)
      if (!there) continue
      const byKey = new Map(there.map((slice) => [keyOf(slice), slice]))
      for (const [key, slice] of written) {
        if (slice.metadata.namespace !== namespace) continue
        const found = byKey.get(key)
        if (equal(found?.attachments, slice.attachments)) continue
        differs = true
        if (found) written.set(key, found)
        else written.delete(key)
      }
    }
    if (!differs) return
    log.info('slices of this node were changed by others; writing them again')
    loop.wake()
  }

  const readAgain = async () => {
    for (;;) {
      // Not all nodes at once.
      await clock.sleep(readMs * (0.75 + Math.random() / 2), stop.signal)
      if (stop.signal.aborted) return
      written = undefined
      loop.wake()
    }
  }

  const lingers = (key: string, { metadata, network, networkUID, attachments }: AttachmentSlice): boolean => {
    const { namespace = '' } = metadata
    if (attachments.length > 0 || deps.isGoing({ namespace, name: network, uid: networkUID })) return false
    const since = idleSince.get(key) ?? clock.now()
    idleSince.set(key, since)
    return clock.now() - since < lingerMs
  }

  /** Does it once after a while, however often it is asked to meanwhile. */
  const once = (act: () => void) => {
    let waiting = false
    return (afterMs: number) => {
      if (waiting) return
      waiting = true
      void clock.sleep(afterMs, stop.signal).then(() => {
        waiting = false
        act()
      })
    }
  }

  const stop = new AbortController()
  const loop = startLoop({ doing: 'publish who is where', round: write, clock, log, batchMs })
  const whenIdle = once(() => loop.wake())
  const unhurried = once(() => loop.wake())
  const refused = once(() => loop.wake())
  const settled = once(compare)
  loop.wake()
  void readAgain()
  return {
    changed(record) {
      if (record.attachments.some(isBridged)) loop.wake()
      else unhurried(unhurriedMs - batchMs)
    },
    wake: () => loop.wake(),
    seen: () => settled(settleMs),
    close() {
      stop.abort()
      return loop.close()
    },
  }
}

/** Whether other nodes' forwarding follows from it. */
export const isBridged = (a: AttachmentRecord): boolean =>
  a.kind === 'polynet' && a.port?.link.kind === 'veth' && a.port.link.bridge !== undefined

const nodeLabel = 'polynet.dev/node-uid'

const keyOf = ({ metadata }: AttachmentSlice): string => `${metadata.namespace}/${metadata.name}`

/** What an agent of this node wrote before this one started. */
async function slicesOfBefore(kube: Kube, node: { uid: string }): Promise<Map<string, AttachmentSlice>> {
  const { items } = await kube.list(resources.attachmentSlices, { labels: `${nodeLabel}=${node.uid}` })
  return new Map(items.map((slice) => [keyOf(slice), slice]))
}

/** The network's name for people; the rest tells networks and nodes apart, whatever their names. */
function sliceName(network: { name: string; uid: string }, nodeUID: string): string {
  const id = createHash('sha256').update(`${network.uid} ${nodeUID}`).digest('hex').slice(0, 12)
  return `${network.name.slice(0, 200)}-${id}`
}

function slicesOf({ records, node, isKept, isGoing }: SlicesDeps): Map<string, AttachmentSlice> {
  const slices = new Map<string, AttachmentSlice>()
  const byNetwork = new Map<string, AttachmentSlice>()
  for (const record of records()) {
    if (record.state !== 'added') continue
    for (const a of record.attachments) {
      if (a.kind !== 'polynet' || !a.held) continue
      let slice = byNetwork.get(a.network.uid)
      if (!slice) {
        const name = sliceName(a.network, node.uid)
        slice = {
          apiVersion: apiVersionOf(resources.attachmentSlices),
          kind: 'AttachmentSlice',
          metadata: {
            name,
            namespace: a.network.namespace,
            labels: { [nodeLabel]: node.uid },
            ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid }],
          },
          network: a.network.name,
          networkUID: a.network.uid,
          node: node.name,
          nodeUID: node.uid,
          attachments: [],
        }
        byNetwork.set(a.network.uid, slice)
        slices.set(`${a.network.namespace}/${name}`, slice)
      }
      if (isBridged(a) || isKept(record.containerID, a) || isGoing(a.network))
        slice.attachments.push(attachmentOf(record, a.interface, a.held.addresses, a.held.mac))
    }
  }
  for (const slice of slices.values()) slice.attachments.sort((a, b) => (ownerKey(a) < ownerKey(b) ? -1 : 1))
  return slices
}

const attachmentOf = (
  record: SandboxRecord,
  name: string,
  addresses: { address: string }[],
  mac: string | undefined,
): Attachment => ({
  pod: record.pod.name,
  podNamespace: record.pod.namespace,
  podUID: record.pod.uid,
  containerID: record.containerID,
  interface: name,
  ...(mac ? { mac } : {}),
  ips: addresses.map((a) => withoutLength(a.address)),
})

/** `there`: as far as is known; when it is otherwise, it takes one request more. */
async function put(kube: Kube, slice: AttachmentSlice, there: boolean): Promise<void> {
  const { namespace, name } = slice.metadata
  const body = { nodeUID: slice.nodeUID, attachments: slice.attachments }
  const change = () => kube.patch(resources.attachmentSlices, { namespace, name }, { type: 'merge', body })
  const make = () => kube.create(resources.attachmentSlices, slice)
  try {
    await (there ? change() : make())
  } catch (error) {
    if (!isFault(error, there ? 'missing' : 'exists')) throw error
    await (there ? make() : change())
  }
}
