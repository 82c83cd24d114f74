import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { attachmentsFor } from '../attach/attachments.ts'
import { makingsOf, resourceOf } from '../attach/making.ts'
import { overlapOf } from '../attach/overlap.ts'
import { Fault, sentence } from '../lib/fault.ts'
import { accepted, type Verdict } from './admission.ts'
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
}

export const podOf = ({ metadata, spec }: Pick<Pod, 'metadata' | 'spec'>, namespace: string): AskingPod => ({
  namespace,
  name: metadata.name || `${metadata.generateName ?? ''}*`,
  ...(metadata.annotations && { annotations: metadata.annotations }),
  hostNetwork: spec?.hostNetwork ?? false,
})

interface Asked {
  verdict: Verdict
  networks: Network[]
  resources: string[]
}

/**
 * What a pod asks for, as far as it can be known before it has a node: the
 * verdict on it, in the words of the agent that would refuse it later, the
 * Networks that it gets, and the resource of each attachment that has a device.
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
    return { verdict: accepted, networks, resources }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { verdict: { refused: error.message, warnings: [], lacking: true }, networks: [], resources: [] }
  }
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
