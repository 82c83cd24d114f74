import type { NetworkAttachmentDefinition, Pod } from '../api/core.ts'
import { parseAny } from '../api/kinds.ts'
import { apiVersionOf, type KubeObject } from '../api/meta.ts'
import { pluginProblems } from '../attach/allowed-plugins.ts'
import { parseConf } from '../cni/conf.ts'
import { sentence } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import { type AdmissionRequest, accepted, type Verdict } from './admission.ts'
import { askedFor, askingKeys, podOf } from './asked.ts'
import { templateOf } from './templates.ts'
import type { View } from './view.ts'

/** Pure: what is said of the object that somebody wants to write. Kinds that nobody asked about are accepted. */
export function review(view: View, request: AdmissionRequest): Verdict {
  const { operation, subResource, object } = request
  if (!object || subResource || (operation !== 'CREATE' && operation !== 'UPDATE')) return accepted
  const { group, kind } = request.kind
  if (group === 'polynet.dev') return reviewOurs(request, object)
  if (group === 'k8s.cni.cncf.io') return reviewDefinition(view, request, object)
  if (group === '' && kind === 'Pod') return reviewPod(view, request, object as Pod)
  return reviewTemplate(view, request, object)
}

/** A kind of Polynet's own, by the function that every program reads it with. */
function reviewOurs({ kind, name }: AdmissionRequest, object: KubeObject): Verdict {
  const parsed = parseAny({ ...object, apiVersion: apiVersionOf(kind), kind: kind.kind })
  if (!parsed || parsed.ok) return accepted
  const named = object.metadata?.name || name || ''
  return { refused: `${kind.kind} ${named}: ${sentence(parsed.problems)}`, warnings: [] }
}

/** One that is no CNI configuration is refused; one that may not be executed yet may be tomorrow. */
function reviewDefinition(
  view: View,
  { namespace = '', name = '' }: AdmissionRequest,
  object: KubeObject,
): Verdict {
  const { spec, metadata } = object as NetworkAttachmentDefinition
  const config = spec?.config
  if (config === undefined || config === '') return accepted
  const own = metadata?.name || name
  const source = `NetworkAttachmentDefinition ${namespace}/${own}`
  const conf = parseConf(config, source, own)
  if (!conf.ok) return { refused: `read the conf of ${source}: ${sentence(conf.problems)}`, warnings: [] }
  const annotations = view.namespace(namespace)?.metadata.annotations
  const author = { namespace, everywhere: view.allowedPlugins ?? [], ...(annotations && { annotations }) }
  return { warnings: pluginProblems(conf.value, author).map((problem) => sentence([problem])) }
}

/** A pod that has no node yet is held to what it asks for; one that has keeps what it got. */
function reviewPod(view: View, request: AdmissionRequest, pod: Pod): Verdict {
  const { verdict } = askedFor(view, podOf(pod, request.namespace ?? 'default'))
  if (request.operation === 'CREATE') return verdict
  if (!asksAnew(pod, request.oldObject as Pod | undefined)) return accepted
  if (!pod.spec.nodeName) return verdict
  const late =
    'which networks a pod gets is read when it starts; this one keeps what it has, make it again to change them'
  return { warnings: [late, ...(verdict.refused ? [verdict.refused] : []), ...verdict.warnings] }
}

const asksAnew = ({ metadata }: Pod, before: Pod | null | undefined): boolean =>
  askingKeys.some((key) => metadata.annotations?.[key] !== before?.metadata.annotations?.[key])

/** A template is no pod yet, and what it asks for may be there by then: nothing of it is refused. */
function reviewTemplate(view: View, request: AdmissionRequest, object: KubeObject): Verdict {
  const template = templateOf(request.kind.kind, object)
  // Who wrote the object that owns this one was told.
  if (!template || object.metadata.ownerReferences?.length) return accepted
  const before = request.oldObject ? templateOf(request.kind.kind, request.oldObject) : undefined
  if (before && equal(before, template)) return accepted
  const pod = { ...podOf(template, request.namespace ?? 'default'), name: `${object.metadata.name ?? ''}-*` }
  const { verdict } = askedFor(view, pod)
  return { warnings: [...(verdict.refused ? [verdict.refused] : []), ...verdict.warnings] }
}
