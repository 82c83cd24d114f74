import { systemNamespace } from '../api/network.ts'
import type { Problem } from '../lib/fault.ts'
import type { Asking } from './asking.ts'
import { npwgSelections } from './npwg.ts'
import { defaultConf, pluginNameOf } from './plugin-name.ts'
import type { AttachmentRequest } from './request.ts'
import { type Selection, tooLong } from './selection.ts'
import { definitionOrNetwork, type Found, pluginNamed, systemNetwork } from './target.ts'
import { shown } from './text.ts'

/** Chooses the default network, on a pod, a namespace or a node. */
export const defaultNetworkKey = 'polynet.dev/default-network'
/** The same on a pod, as Multus calls it. */
export const multusDefaultKey = 'v1.multus-cni.io/default-network'

/** A request that still knows where it stands, for messages, and what its network is, for checks. */
export interface Placed {
  path: string
  request: AttachmentRequest
  network?: Extract<Found, { target: unknown }>['network']
}

/** What the pod itself chooses as its default network, or undefined. */
export function podsChoice(asking: Asking, problems: Problem[]): Placed | undefined {
  const annotations = asking.pod.annotations ?? {}
  const keys = [defaultNetworkKey, multusDefaultKey].filter((key) => said(annotations, key))
  if (keys.length === 2) {
    const problem = `is there beside ${multusDefaultKey}; keep one`
    problems.push({ path: `annotation ${defaultNetworkKey}`, problem })
    return undefined
  }
  const [key] = keys
  if (key === undefined) return undefined
  const elsewhere = key === multusDefaultKey ? 'kube-system' : systemNamespace
  const namespaces = [asking.pod.namespace, elsewhere]
  return choice(asking, annotations[key]!, { key, source: key, owner: '', namespaces }, problems)
}

/** What everybody else chooses for a pod: its namespace, its node, the conf on the node, else Polynet's own. */
export function othersChoice(asking: Asking, problems: Problem[]): Placed | undefined {
  const key = defaultNetworkKey
  const ofNamespace = asking.namespace?.annotations ?? {}
  if (said(ofNamespace, key)) {
    const owner = `namespace ${asking.pod.namespace}'s `
    const namespaces = [asking.pod.namespace, systemNamespace]
    return choice(asking, ofNamespace[key]!, { key, source: 'namespace', owner, namespaces }, problems)
  }
  const ofNode = asking.node?.annotations ?? {}
  if (said(ofNode, key)) {
    const from = { key, source: 'node', owner: "the node's ", namespaces: [systemNamespace] }
    return choice(asking, ofNode[key]!, from, problems)
  }
  // Whatever the node that is chosen later gives: nothing of it is known, and nothing wrong.
  if (!asking.confs) return placed('conf', 'conf', { target: { kind: 'Plugin', name: 'default' } }, problems)
  const conf = defaultConf(asking.confs)
  if (conf)
    return placed('conf', 'conf', { target: { kind: 'Plugin', name: pluginNameOf(conf.source) } }, problems)
  return placed('default network', 'cluster', systemNetwork(asking), problems)
}

interface Chooser {
  key: string
  source: string
  /** For messages: whose annotation it is, when it is not the pod's. */
  owner: string
  /** Where a name without namespace is looked for. */
  namespaces: string[]
}

function choice(asking: Asking, text: string, by: Chooser, problems: Problem[]): Placed | undefined {
  const path = `${by.owner}annotation ${by.key}`
  const found: Problem[] = []
  const selections = tooLong(text, by.key, found) ? [] : npwgSelections(text, by.key, found)
  problems.push(...found.map((p) => ({ ...p, path: `${by.owner}${p.path}` })))
  if (found.length > 0) return undefined
  const [selection] = selections
  const refuse = (problem: string) => void problems.push({ path, problem })
  if (!selection || selections.length > 1) return refuse(`names ${selections.length} networks; name one`)
  if (selection.interface !== undefined && selection.interface !== 'eth0')
    return refuse(
      `asks for ${shown(selection.interface)}; the default network is always eth0, remove the interface`,
    )
  return placed(path, by.source, chosen(asking, selection, by), problems, selection)
}

/** A name without namespace is looked for in each of the chooser's namespaces, and may also be a plugin's. */
function chosen(asking: Asking, { namespace, name }: Selection, by: Chooser): Found {
  const word = by.source === 'node' ? 'administrator' : 'pod'
  if (namespace !== undefined) return definitionOrNetwork(asking, namespace, name, word)
  const found = by.namespaces.map((ns) => definitionOrNetwork(asking, ns, name, word))
  const there = found.find((each) => !('problem' in each && each.lacking))
  if (there) return there
  const plugin: Found = by.key === multusDefaultKey ? { problem: '' } : pluginNamed(asking, name)
  return 'target' in plugin ? plugin : found[0]!
}

/** The request, once something was found. */
export function placed(
  path: string,
  source: string,
  found: Found,
  problems: Problem[],
  selection?: Selection,
): Placed | undefined {
  if ('problem' in found) return void problems.push({ path, ...found })
  const {
    path: _p,
    source: _s,
    namespace: _ns,
    name: _n,
    interface: _i,
    ...wishes
  } = selection ?? ({} as Selection)
  const request = { interface: 'eth0', target: found.target, source, default: true, ...wishes }
  return { path, request, network: found.network }
}

export const said = (annotations: Record<string, string>, key: string): boolean =>
  Object.hasOwn(annotations, key) && annotations[key]!.trim() !== ''
