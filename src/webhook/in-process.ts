import { applyPatch } from 'rfc6902'
import type { KubeObject } from '../api/meta.ts'
import type { Admission } from '../kube/memory/verbs.ts'
import type { Kube } from '../kube/port.ts'
import { type Clock, realClock } from '../lib/clock.ts'
import { type Log, silentLog } from '../lib/log.ts'
import type { AdmissionRequest } from './admission.ts'
import { answerTo, paths } from './answer.ts'
import { exceptNamespaces } from './configurations.ts'
import { watchView } from './view.ts'

/** The webhook without TLS, for an API server in the same process. */
export function inProcess(deps: { kube: Kube; clock?: Clock; log?: Log }): {
  admission: Admission
  close(): void
} {
  const { clock = realClock, log = silentLog, kube } = deps
  const view = watchView({ kube, clock, log })
  const admission: Admission = async ({ operation, resource, object, oldObject }) => {
    const { namespace } = object.metadata
    if (exceptNamespaces.some((except) => except === namespace)) return { object, warnings: [] }
    await view.synced
    const { group, version, kind } = resource
    const asked = {
      uid: '',
      kind: { group, version, kind },
      operation,
      namespace,
      oldObject,
    } as AdmissionRequest
    const { patch } = await answerTo(paths.mutate, { ...asked, object }, view, clock)
    const changed = patch === undefined ? object : patchedBy(object, patch)
    const answer = await answerTo(paths.validate, { ...asked, object: changed }, view, clock)
    if (answer.allowed) return { object: changed, warnings: answer.warnings ?? [] }
    return { refused: `admission webhook "polynet" denied the request: ${answer.status?.message}` }
  }
  return { admission, close: () => view.close() }
}

function patchedBy(object: KubeObject, patch: string): KubeObject {
  const copy = structuredClone(object)
  applyPatch(copy, JSON.parse(Buffer.from(patch, 'base64').toString()))
  return copy
}
