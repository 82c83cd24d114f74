import type { Network } from '../api/network.ts'
import type { Problem } from '../lib/fault.ts'
import { type Asking, ownDefault, sharedByDefault } from './asking.ts'
import { generated } from './genie.ts'
import { admits, noneFor } from './permission.ts'
import { confOf } from './plugin-name.ts'
import type { Target } from './request.ts'

/** What a name stands for, or why the pod does not get it, with the remedy. */
export type Found = { target: Target; network?: Network } | Omit<Problem, 'path'>

/** On whose word a network is taken: a pod needs its owner's permission, the cluster's administrator does not. */
export type Word = 'pod' | 'administrator'

/** A Network by that name. */
export function networkNamed(asking: Asking, namespace: string, name: string, word: Word = 'pod'): Found {
  const network = asking.network(namespace, name)
  const pods = asking.pod.namespace
  if (network && (word === 'administrator' || admits(network, pods, asking.namespace?.labels))) {
    const problem = leaving(network)
    return problem ? { problem } : { target: { kind: 'Network', namespace, name }, network }
  }
  if (mayName(asking, namespace, word) && asking.definition(namespace, name))
    return { problem: `${name} is a NetworkAttachmentDefinition; name it in k8s.v1.cni.cncf.io/networks` }
  if (word === 'pod' && namespace !== pods)
    return { problem: noneFor(`${namespace}/${name}`, pods), lacking: 'elsewhere' }
  const problem = `there is no Network ${name} in namespace ${namespace}; create it, or correct the name`
  return { problem, lacking: 'here' }
}

/** A NetworkAttachmentDefinition by that name, else a Network. */
export function definitionOrNetwork(
  asking: Asking,
  namespace: string,
  name: string,
  word: Word = 'pod',
): Found {
  if (mayName(asking, namespace, word) && asking.definition(namespace, name))
    return { target: { kind: 'NetworkAttachmentDefinition', namespace, name } }
  const found = networkNamed(asking, namespace, name, word)
  if (!('problem' in found) || !found.lacking) return found
  const kinds = 'NetworkAttachmentDefinition or Network'
  if (found.lacking === 'here')
    return {
      ...found,
      problem: `there is no ${kinds} ${name} in namespace ${namespace}; create it, or correct the name`,
    }
  return {
    ...found,
    problem:
      `there is no ${kinds} ${namespace}/${name} for pods of namespace ${asking.pod.namespace}; ` +
      `a Network has to admit them by spec.allowedNamespaces, a NetworkAttachmentDefinition to be in one of ${sharing(asking).join(', ')}`,
  }
}

/** The namespaces whose NetworkAttachmentDefinitions the pod may name. */
const sharing = (asking: Asking): string[] => [
  ...(asking.sharedNamespaces ?? sharedByDefault),
  asking.pod.namespace,
]

function mayName(asking: Asking, namespace: string, word: Word): boolean {
  const shared = sharing(asking)
  return word === 'administrator' || shared.includes(namespace) || shared.includes('*')
}

/** A plugin by the name of its conf on the node, or one that a conf is made for. `polynet` is Polynet's own default network. */
export function pluginNamed(asking: Asking, name: string): Found {
  const known = asking.confs === undefined ? name !== 'polynet' : confOf(name, asking.confs) !== undefined
  if (known || generated.includes(name)) return { target: { kind: 'Plugin', name } }
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
    lacking: 'here',
  }
}

const leaving = (network: Network): string | undefined =>
  network.metadata.deletionTimestamp === undefined
    ? undefined
    : `Network ${network.metadata.namespace}/${network.metadata.name} is being deleted; wait, and create it again`
