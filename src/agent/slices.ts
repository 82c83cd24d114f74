import type { Attachment, AttachmentSlice } from '../api/attachment-slice.ts'
import { apiVersionOf } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { type Loop, startLoop } from '../reconcile/loop.ts'
import type { SandboxRecord } from './record.ts'

/** Changes that come within this time of each other are written together. */
const batchMs = 100

/**
 * Publishes who is where: one AttachmentSlice for each network that has pods
 * here, written in batches by this node alone, removed with its last pod.
 */
export function startSlices(deps: {
  kube: Kube
  clock: Clock
  log: Log
  node: { name: string; uid: string }
  records: () => SandboxRecord[]
}): Loop {
  const { kube, clock, log, node } = deps
  const written = new Map<string, { network: { namespace: string; name: string }; text: string }>()

  const write = async () => {
    const now = slicesOf(deps.records(), node)
    for (const [key, slice] of now) {
      const text = JSON.stringify(slice.attachments)
      if (written.get(key)?.text === text) continue
      await put(kube, slice)
      const namespace = slice.metadata.namespace ?? ''
      written.set(key, { network: { namespace, name: slice.network }, text })
    }
    for (const [key, { network }] of written) {
      if (now.has(key)) continue
      try {
        await kube.delete(resources.attachmentSlices, {
          namespace: network.namespace,
          name: sliceName(network.name, node.name),
        })
      } catch (error) {
        if (!isFault(error, 'missing')) throw error
      }
      written.delete(key)
    }
  }

  return startLoop({ doing: 'publish who is where', round: write, clock, log, batchMs })
}

const sliceName = (network: string, node: string): string => `${network}.${node}`

function slicesOf(
  records: SandboxRecord[],
  node: { name: string; uid: string },
): Map<string, AttachmentSlice> {
  const slices = new Map<string, AttachmentSlice>()
  for (const record of records) {
    if (record.state !== 'added') continue
    for (const a of record.attachments) {
      if (a.kind !== 'polynet' || !a.held) continue
      const key = `${a.network.namespace}/${a.network.name}`
      let slice = slices.get(key)
      if (!slice) {
        slice = {
          apiVersion: apiVersionOf(resources.attachmentSlices),
          kind: 'AttachmentSlice',
          metadata: {
            name: sliceName(a.network.name, node.name),
            namespace: a.network.namespace,
            ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid }],
          },
          network: a.network.name,
          node: node.name,
          nodeUID: node.uid,
          attachments: [],
        }
        slices.set(key, slice)
      }
      slice.attachments.push(attachmentOf(record, a.interface, a.held.addresses, a.held.mac))
    }
  }
  for (const slice of slices.values())
    slice.attachments.sort((a, b) =>
      `${a.containerID}/${a.interface}` < `${b.containerID}/${b.interface}` ? -1 : 1,
    )
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
  ips: addresses.map((a) => a.address.split('/')[0] ?? ''),
})

async function put(kube: Kube, slice: AttachmentSlice): Promise<void> {
  const { namespace, name } = slice.metadata
  try {
    await kube.patch(
      resources.attachmentSlices,
      { namespace, name },
      {
        type: 'merge',
        body: { nodeUID: slice.nodeUID, attachments: slice.attachments },
      },
    )
  } catch (error) {
    if (!isFault(error, 'missing')) throw error
    await kube.create(resources.attachmentSlices, slice)
  }
}
