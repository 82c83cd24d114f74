import type { AttachmentSlice } from '../api/attachment-slice.ts'
import { isRendered, type Network } from '../api/network.ts'

/** Keeps a network that is deleted until its last pod is gone, as `kubernetes.io/pvc-protection` keeps a claim. */
const finalizer = 'polynet.dev/pods'

/** How long a pod that was being attached at the moment of deletion may take to be seen. */
export const unseenMs = 2000

/** Whether some node says that it has pods of the network, or may have. */
export const isUsed = (network: Network, slices: AttachmentSlice[]): boolean =>
  slices.some((s) => s.networkUID === network.metadata.uid)

/** The pods, `<namespace>/<name>`, that are attached to the network: nodes name all of them once it is being deleted. */
export function usersOf(network: Network, slices: AttachmentSlice[]): string[] {
  const mine = slices.filter((s) => s.networkUID === network.metadata.uid)
  return [...new Set(mine.flatMap((s) => s.attachments.map((a) => `${a.podNamespace}/${a.pod}`)))].sort()
}

/**
 * The finalizers that the network shall have: ours as long as it is not being
 * deleted, or pods use it. A network that another plugin carries needs none:
 * what its pods have does not come from it any more. Nor does one that is
 * being deleted and lost it: the API server lets nobody add any then.
 */
export function finalizersOf(network: Network, used: boolean): string[] {
  const { finalizers = [], deletionTimestamp } = network.metadata
  const others = finalizers.filter((f) => f !== finalizer)
  const has = finalizers.includes(finalizer)
  const keep = deletionTimestamp === undefined ? isRendered(network) : used && has
  if (keep === has) return finalizers
  return keep ? [...others, finalizer] : others
}
