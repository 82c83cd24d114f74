import { createPatch } from 'rfc6902'
import type { Pod } from '../api/core.ts'
import type { Clock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import type { AdmissionRequest, AdmissionResponse, Verdict } from './admission.ts'
import { askedFor, podOf } from './asked.ts'
import { confined } from './placement.ts'
import { resolving } from './resolving.ts'
import { review } from './review.ts'
import type { View } from './view.ts'

/** What the API server asks: whether an object may be written, or what to change of it before. */
export const paths = { validate: '/validate', mutate: '/mutate' } as const

/** How long what a pod lacks is waited for: what was written a moment ago may not be seen yet. */
const waitMs = 300

interface Waiting extends View {
  changeWithin(ms: number): Promise<void>
}

/** The answer to a request at one of `paths`. */
export async function answerTo(
  path: string,
  request: AdmissionRequest,
  view: Waiting,
  clock: Clock,
): Promise<AdmissionResponse> {
  const { uid } = request
  switch (path) {
    case paths.mutate: {
      const { object } = await settled(() => mutation(view, request), view, clock)
      const patch = createPatch(request.object, object)
      if (patch.length === 0) return { uid, allowed: true }
      const encoded = Buffer.from(JSON.stringify(patch)).toString('base64')
      return { uid, allowed: true, patchType: 'JSONPatch', patch: encoded }
    }
    case paths.validate: {
      const { verdict } = await settled(() => validation(view, request), view, clock)
      return responseOf(uid, verdict)
    }
    default:
      throw new Fault('missing', `answer ${path}`, `there are ${Object.values(paths).join(' and ')}`)
  }
}

/** What `look` sees, once it lacks nothing or has waited for it long enough. */
async function settled<T extends { waits: boolean }>(look: () => T, view: Waiting, clock: Clock): Promise<T> {
  const late = clock.now() + waitMs
  for (;;) {
    const seen = look()
    const left = late - clock.now()
    if (!seen.waits || left <= 0) return seen
    await view.changeWithin(left)
  }
}

function validation(view: View, request: AdmissionRequest) {
  const verdict = review(view, request)
  return { verdict, waits: verdict.refused !== undefined && verdict.lacking === true }
}

/** The pod as it shall be written; one that asks for nothing, or wrongly, as it is. */
export function mutation(view: View, { kind, operation, subResource, object, namespace }: AdmissionRequest) {
  if (kind.group !== '' || kind.kind !== 'Pod' || operation !== 'CREATE' || subResource || !object)
    return { object, waits: false }
  const pod = object as Pod
  const { networks, eth0, resources, verdict } = askedFor(view, podOf(pod, namespace ?? 'default'))
  const written = resolving(confined(pod, networks, resources), eth0)
  return { object: written, waits: verdict.lacking === true }
}

function responseOf(uid: string, { refused, warnings }: Verdict): AdmissionResponse {
  return {
    uid,
    allowed: refused === undefined,
    ...(refused !== undefined && { status: { code: 400, reason: 'BadRequest', message: refused } }),
    ...(warnings.length > 0 && { warnings }),
  }
}
