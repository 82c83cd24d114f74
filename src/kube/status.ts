import { apiVersionOf, type Resource } from '../api/meta.ts'
import { Fault, type Kind } from '../lib/fault.ts'

/** meta/v1 Status: how an API server says what went wrong. */
export interface Status {
  kind: 'Status'
  apiVersion: 'v1'
  metadata: { continue?: string }
  status: 'Success' | 'Failure'
  message?: string
  reason?: string
  details?: {
    name?: string
    group?: string
    kind?: string
    uid?: string
    causes?: Cause[]
    retryAfterSeconds?: number
  }
  code: number
}

/** One thing wrong with an object: where, and which of Kubernetes' reasons. */
export interface Cause {
  /** `FieldValueRequired`, `FieldValueInvalid`, … */
  reason: string
  message: string
  field: string
}

/** What each of an API server's answers means to a caller: its reason, its HTTP status, the kind of fault. */
const reasons = {
  BadRequest: [400, 'invalid'],
  Unauthorized: [401, 'forbidden'],
  Forbidden: [403, 'forbidden'],
  NotFound: [404, 'missing'],
  MethodNotAllowed: [405, 'unsupported'],
  NotAcceptable: [406, 'unsupported'],
  AlreadyExists: [409, 'exists'],
  Conflict: [409, 'conflict'],
  Expired: [410, 'expired'],
  Gone: [410, 'expired'],
  RequestEntityTooLarge: [413, 'invalid'],
  UnsupportedMediaType: [415, 'unsupported'],
  Invalid: [422, 'invalid'],
  TooManyRequests: [429, 'unavailable'],
  InternalError: [500, 'unavailable'],
  NotImplemented: [501, 'unsupported'],
  ServiceUnavailable: [503, 'unavailable'],
  Timeout: [504, 'unavailable'],
} as const satisfies Record<string, readonly [number, Kind]>

export type Reason = keyof typeof reasons

/** A failure as the server words it; `details` name the object and each cause. */
export function failure(reason: Reason, message: string, details?: Status['details']): Status {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    ...(details && { details }),
    code: reasons[reason][0],
  }
}

/** What etcd says of an object that is too large for it, which API servers pass on as an error of their own (500). */
const tooLarge = 'etcdserver: request is too large'

/** The fault that a failed request is to its caller; the Status stays with it as its cause. */
export function faultOf(status: Status, doing: string): Fault {
  const known =
    reasons[status.reason as Reason] ?? Object.values(reasons).find(([code]) => code === status.code)
  return new Fault(
    status.message === tooLarge ? 'invalid' : (known?.[1] ?? 'unavailable'),
    doing,
    status.message ?? `the server answered ${status.code}`,
    status,
  )
}

/** The Status that a fault came with, or the one that says the same. */
export function statusOf(fault: Fault): Status {
  const cause = fault.cause as Partial<Status> | undefined
  if (cause?.kind === 'Status') return cause as Status
  const reason = Object.entries(reasons).find(([, [, kind]]) => kind === fault.kind)?.[0] as
    | Reason
    | undefined
  return failure(reason ?? 'InternalError', fault.message)
}

/** Each thing wrong with an object that the server refused; empty when the fault is another. */
export const causesOf = (fault: Fault): Cause[] => statusOf(fault).details?.causes ?? []

/** `pods`, `networks.polynet.dev`: a kind's name in messages. */
export const nameOf = (r: Pick<Resource, 'group' | 'plural'>): string =>
  r.group === '' ? r.plural : `${r.plural}.${r.group}`

/** What a request is about, for the first half of a fault: `get networks.polynet.dev lab/blue`. */
export function doing(
  verb: string,
  resource: Resource,
  ref: { namespace?: string; name?: string } = {},
): string {
  const where = [ref.namespace, ref.name].filter(Boolean).join('/')
  return [verb, nameOf(resource), where].filter(Boolean).join(' ')
}

export const notFound = (r: Resource, name: string): Status =>
  failure('NotFound', `${nameOf(r)} ${JSON.stringify(name)} not found`, {
    name,
    group: r.group,
    kind: r.plural,
  })

export const alreadyExists = (r: Resource, name: string): Status =>
  failure('AlreadyExists', `${nameOf(r)} ${JSON.stringify(name)} already exists`, {
    name,
    group: r.group,
    kind: r.plural,
  })

export const conflict = (r: Resource, name: string, why: string): Status =>
  failure('Conflict', `Operation cannot be fulfilled on ${nameOf(r)} ${JSON.stringify(name)}: ${why}`, {
    name,
    group: r.group,
    kind: r.plural,
  })

export const modified =
  'the object has been modified; please apply your changes to the latest version and try again'

/** All that is wrong with one object, in one answer. */
export function invalid(r: Resource, name: string, causes: Cause[]): Status {
  const each = causes.map((c) => `${c.field}: ${c.message}`)
  const text = each.length === 1 ? each[0] : `[${each.join(', ')}]`
  const kind = r.group === '' ? r.kind : `${r.kind}.${r.group}`
  return failure('Invalid', `${kind} ${JSON.stringify(name)} is invalid: ${text}`, {
    name,
    group: r.group,
    kind: r.kind,
    causes,
  })
}

/** The server has no such kind: `missing` for a kind nobody installed, as a real server says it. */
export const noSuchKind = (r: Resource): Status =>
  failure('NotFound', `the server could not find the requested resource: ${nameOf(r)} ${apiVersionOf(r)}`)
