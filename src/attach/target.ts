import type { Network } from '../api/network.ts'
import { type Asking, ownDefault, sharedByDefault } from './asking.ts'
import { generated } from './genie.ts'
import { refusal } from './permission.ts'
import { confOf } from './plugin-name.ts'
import type { Target } from './request.ts'

/** What a name stands for, or why the pod does not get it, with the remedy. */
export type Found = { target: Target; network?: Network } | { problem: string }

/** On whose word a network is taken: a pod needs its owner's permission, the cluster's administrator does not. */
export type Word = 'pod' | 'administrator'

/** A Network by that name. */
export function networkNamed(asking: Asking, namespace: string, name: string, word: Word = 'pod'): Found {
  const network = asking.network(namespace, name)
  if (!network) {
    const other = asking.definition(namespace, name)
      ? `${name} is a NetworkAttachmentDefinition; name it in k8s.v1.cni.cncf.io/networks`
      : `there is no Network ${name} in namespace ${namespace}; create it, or correct the name`
    return { problem: other }
  }
  const refused =
    word === 'pod' ? refusal(network, asking.pod.namespace, asking.namespace?.labels) : undefined
  const problem = refused ?? leaving(network)
  return problem ? { problem } : { target: { kind: 'Network', namespace, name }, network }
}

/** A NetworkAttachmentDefinition by that name, else a Network. */
export function definitionOrNetwork(
  asking: Asking,
  namespace: string,
  name: string,
  word: Word = 'pod',
): Found {
  const definition = asking.definition(namespace, name)
  if (!definition) {
    if (asking.network(namespace, name)) return networkNamed(asking, namespace, name, word)
    const kinds = 'NetworkAttachmentDefinition or Network'
    return {
      problem: `there is no ${kinds} ${name} in namespace ${namespace}; create it, or correct the name`,
    }
  }
  const shared = [...(asking.sharedNamespaces ?? sharedByDefault), asking.pod.namespace]
  if (word === 'pod' && !shared.includes(namespace) && !shared.includes('*'))
    return {
      problem:
        `NetworkAttachmentDefinition ${namespace}/${name} is for pods of namespace ${namespace} only; ` +
        `create it in one of ${shared.join(', ')}`,
    }
  return { target: { kind: 'NetworkAttachmentDefinition', namespace, name } }
}

/** A plugin by the name of its conf on the node, or one that a conf is made for. `polynet` is Polynet's own default network. */
export function pluginNamed(asking: Asking, name: string): Found {
  if (confOf(name, asking.confs) || generated.includes(name)) return { target: { kind: 'Plugin', name } }
  if (name === 'polynet') return systemNetwork(asking)
  return { problem: `plugin ${name} has no configuration on the node; install it, or choose another plugin` }
}

/** Polynet's own default network; everybody may. */
export function systemNetwork(asking: Asking): Found {
  const network = asking.network(ownDefault.namespace, ownDefault.name)
  if (network) return { target: ownDefault, network }
  const where = `${ownDefault.namespace}/${ownDefault.name}`
  return {
    problem: `there is no default network; create Network ${where}, or install a network plugin on the node`,
  }
}

const leaving = (network: Network): string | undefined =>
  network.metadata.deletionTimestamp === undefined
    ? undefined
    : `Network ${network.metadata.namespace}/${network.metadata.name} is being deleted; wait, and create it again`
