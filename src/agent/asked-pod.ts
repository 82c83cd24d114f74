import type { Pod } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import type { CniRequest } from '../cni/request.ts'
import { found } from '../kube/found.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import type { Watched } from './watched.ts'

/** How long an ADD waits for the API server to show a pod that the runtime knows already. */
const podWithinMs = 2000

/**
 * The pod that a runtime asks for, out of the watch or, when it is not there
 * yet, from the API server. Another pod of the same name is none: `missing`.
 */
export async function askedPod(
  { args, containerID }: CniRequest,
  deps: { kube: Kube; clock: Clock; watched: Watched },
): Promise<Pod> {
  const { kube, clock, watched } = deps
  const ref = { namespace: args.K8S_POD_NAMESPACE ?? '', name: args.K8S_POD_NAME ?? '' }
  const uid = args.K8S_POD_UID
  const doing = `find the pod of sandbox ${containerID}`
  if (!ref.namespace || !ref.name)
    throw new Fault(
      'invalid',
      doing,
      'CNI_ARGS names none; a runtime for Kubernetes sets K8S_POD_NAMESPACE and K8S_POD_NAME',
    )
  const seen = watched.pods.get(ref)
  if (seen && isThat(seen, uid)) return seen
  const deadline = new AbortController()
  const asked = found(kube, resources.pods, ref)
  const late = clock.sleep(podWithinMs, deadline.signal).then(() => undefined)
  try {
    const pod = await Promise.race([asked, late])
    if (pod && isThat(pod, uid)) return pod
  } finally {
    deadline.abort()
  }
  throw new Fault(
    'missing',
    doing,
    `the API server shows no pod ${ref.namespace}/${ref.name} with UID ${uid ?? '(any)'}; it may be gone already`,
  )
}

/** A static pod's UID in the runtime is its config's hash, which its mirror in the API server carries as an annotation. */
const isThat = (pod: Pod, uid: string | undefined): boolean =>
  !uid || pod.metadata.uid === uid || pod.metadata.annotations?.['kubernetes.io/config.hash'] === uid
