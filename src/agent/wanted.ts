import type { Pod } from '../api/core.ts'
import { attachmentsFor } from '../attach/attachments.ts'
import { type Making, makingsOf } from '../attach/making.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import { Fault, sentence } from '../lib/fault.ts'
import type { NetworkView } from '../plan/view.ts'
import type { Devices } from './devices.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** An attachment that a pod asks for, and how it will be made. */
export interface Wanted {
  request: AttachmentRequest
  by: Making
  /** The network as this node renders it, where Polynet does. */
  view?: NetworkView
  /** What executes the plugin that leads the host's ports to it. */
  ports?: Omit<Extract<Making, { kind: 'plugin' }>, 'kind' | 'name'>
}

/** What there is on the node, and in the cluster as the node sees it. */
export interface Surroundings {
  watched: Watched
  views: Pick<Views, 'overlap'>
  confs: NetworkConf[]
  /** The plugins that every namespace's configurations may execute. */
  allowedPlugins?: readonly string[]
  /** What the kubelet gave to a pod, by its UID; absent: nothing. */
  devices?: (podUID: string) => Devices
}

/**
 * What the pod asks for and how each of it is made. Throws one `invalid`
 * fault with everything that is wrong with the pod's annotations, or else one
 * with everything that keeps its networks from being attached.
 */
export function wantedBy(
  pod: Pod,
  { watched, views, confs, allowedPlugins = [], devices }: Surroundings,
  args: Record<string, string>,
): Wanted[] {
  const { namespace = 'default', name, annotations, uid } = pod.metadata
  const around = {
    network: (ns: string, n: string) => watched.networks.get({ namespace: ns, name: n }),
    definition: (ns: string, n: string) => watched.definitions.get({ namespace: ns, name: n }),
    confs,
  }
  const asked = attachmentsFor({
    ...around,
    pod: {
      namespace,
      name,
      ...(annotations ? { annotations } : {}),
      hostNetwork: pod.spec.hostNetwork ?? false,
    },
    namespace: watched.namespaces.get({ name: namespace })?.metadata,
    node: watched.node.list()[0]?.metadata,
    overlap: (network) => views.overlap(network),
  })
  if (!asked.ok) throw new Fault('invalid', `attach pod ${namespace}/${name}`, sentence(asked.problems))
  const namespaceOf = (n: string) => watched.namespaces.get({ name: n })?.metadata
  const makers = {
    ...around,
    namespace: namespaceOf,
    allowedPlugins,
    args,
    ...(devices && uid !== undefined && { devices: () => devices(uid) }),
  }
  const makings = makingsOf({ namespace, name }, asked.value, makers)
  return asked.value.map((request, i) => ({ request, by: makings[i]! }))
}
