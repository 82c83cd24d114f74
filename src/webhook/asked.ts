import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { attachmentsFor } from '../attach/attachments.ts'
import { checked, makingsOf, resourceOf } from '../attach/making.ts'
import { overlapOf } from '../attach/overlap.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import { Fault, sentence } from '../lib/fault.ts'
import type { Verdict } from './admission.ts'
import { asksCluster, unresolved } from './resolving.ts'
import type { View } from './view.ts'

/** The annotations that say which networks a pod gets. */
export const askingKeys = [
  'networks',
  'cni',
  'k8s.v1.cni.cncf.io/networks',
  'v1.multus-cni.io/default-network',
  'polynet.dev/default-network',
] as const

/** A pod, or the template of pods to come. */
export interface AskingPod {
  namespace: string
  name: string
  annotations?: Record<string, string>
  hostNetwork?: boolean
  /** It leaves it to the cluster how it resolves names. */
  asksCluster: boolean
}

export const podOf = ({ metadata, spec }: Pick<Pod, 'metadata' | 'spec'>, namespace: string): AskingPod => ({
  namespace,
  name: metadata.name || `${metadata.generateName ?? ''}*`,
  ...(metadata.annotations && { annotations: metadata.annotations }),
  hostNetwork: spec?.hostNetwork ?? false,
  asksCluster: asksCluster({ metadata, spec }),
})

interface Asked {
  verdict: Verdict
  networks: Network[]
  /** The one that is its eth0; absent: another thing is, or its node decides. */
  eth0?: Network
  resources: string[]
}

/**
 * What a pod asks for, as far as it can be known before it has a node: the
 * verdict on it, in the words of the agent that would refuse it later, the
 * Networks that it gets, which of them is its eth0, and the resource of each
 * attachment that has a device.
 */
export function askedFor(view: View, pod: AskingPod): Asked {
  const around = {
    network: (namespace: string, name: string) => view.network(namespace, name),
    definition: (namespace: string, name: string) => view.definition(namespace, name),
  }
  const asked = attachmentsFor({
    ...around,
    pod,
    namespace: view.namespace(pod.namespace)?.metadata,
    overlap: (network) => overlapOf(network, view.networks()),
  })
  if (!asked.ok) return { verdict: verdictOn(asked.problems, pod), networks: [], resources: [] }
  const makers = {
    ...around,
    namespace: (name: string) => view.namespace(name)?.metadata,
    args: {},
    ...(view.allowedPlugins && { allowedPlugins: view.allowedPlugins }),
  }
  try {
    const makings = makingsOf(pod, asked.value, makers)
    const networks = makings.flatMap((making) => (making?.kind === 'polynet' ? [making.network] : []))
    const resources = asked.value.flatMap(({ target }) =>
      target.kind === 'NetworkAttachmentDefinition'
        ? (resourceOf(view.definition(target.namespace, target.name)) ?? [])
        : [],
    )
    const find = (is: (request: AttachmentRequest) => unknown) => networkOf(view, asked.value.find(is))
    const eth0 = find((request) => request.default)
    const way = find((request) => request.defaultRoute)
    const warnings = pod.asksCluster ? unresolved(eth0, way) : []
    return { verdict: { warnings }, networks, ...(eth0 && { eth0 }), resources }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { verdict: { refused: error.message, warnings: [], lacking: true }, networks: [], resources: [] }
  }
}

/** The Network that a request asks for, whatever carries it. */
function networkOf(view: View, request: AttachmentRequest | undefined): Network | undefined {
  if (request?.target.kind !== 'Network') return undefined
  const { namespace, name } = request.target
  const network = view.network(namespace, name)
  const parsed = network && checked(network)
  return parsed?.ok ? parsed.value : undefined
}

type Problems = Extract<ReturnType<typeof attachmentsFor>, { ok: false }>['problems']

/** What the pod's own namespace lacks may be applied after it; all else is refused. */
function verdictOn(problems: Problems, { namespace, name }: AskingPod): Verdict {
  if (problems.every((p) => p.lacking === 'here'))
    return { warnings: problems.map((p) => sentence([p])), lacking: true }
  return {
    refused: `attach pod ${namespace}/${name}: ${sentence(problems)}`,
    warnings: [],
    ...(problems.some((p) => p.lacking === 'elsewhere') && { lacking: true }),
  }
}
