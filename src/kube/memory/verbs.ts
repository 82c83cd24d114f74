import type { Pod } from '../../api/core.ts'
import { apiVersionOf, type KubeObject, type Resource } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { isObject } from '../../lib/json.ts'
import type { Change, Patch, Ref, Selection } from '../port.ts'
import { doing, failure, faultOf, invalid, nameOf } from '../status.ts'
import type { ServedKind } from './kind.ts'
import { Pages } from './pages.ts'
import { fromProtobuf } from './protobuf.ts'
import type { MemoryKube, WriteOptions } from './store.ts'
import { tableOf } from './table.ts'

/** One HTTP request, read. */
export interface Call {
  method: string
  path: string
  query: URLSearchParams
  accept: string
  contentType: string
  body: Buffer
  /** Aborts when the client is gone. */
  signal: AbortSignal
}

export interface Answer {
  code?: number
  /** A string is plain text, anything else JSON. */
  body?: unknown
  headers?: Record<string, string>
  /** Written as it comes, instead of a body. */
  stream?: AsyncIterable<string | Uint8Array>
}

/** What a container printed, all at once or as it comes. */
export type Logs = (
  pod: { namespace: string; name: string; uid: string; node: string },
  container: string,
  options: { follow: boolean; tailLines?: number; previous: boolean; signal: AbortSignal },
) => Promise<string> | AsyncIterable<string | Uint8Array>

/** What somebody wants to write, as it would be written. */
export interface Admitted {
  operation: 'CREATE' | 'UPDATE'
  resource: Resource
  object: KubeObject
  oldObject?: KubeObject
}

/** Decides about what clients write, as webhooks do: the object as it shall be, or why it shall not. */
export type Admission = (
  asked: Admitted,
) => Promise<{ object: KubeObject; warnings: string[] } | { refused: string }>

/** Where a path leads: a kind, and in it one object, and of that one part. */
interface Target {
  resource: Resource
  kind?: ServedKind
  namespace?: string
  name?: string
  sub?: string
}

/** The API's verbs, as paths and methods name them. */
export class Verbs {
  readonly #kube: MemoryKube
  readonly #logs: Logs | undefined
  readonly #admission: Admission | undefined
  readonly #pages: Pages

  constructor(kube: MemoryKube, logs: Logs | undefined, admission?: Admission) {
    this.#kube = kube
    this.#logs = logs
    this.#admission = admission
    this.#pages = new Pages(kube)
  }

  async answer(call: Call): Promise<Answer> {
    const target = this.#targetOf(call.path)
    if (!target)
      throw faultOf(
        failure('NotFound', `the server could not find the requested resource: ${call.path}`),
        `${call.method} ${call.path}`,
      )
    const { name, sub } = target
    if (sub !== undefined && sub !== 'status') return await this.#part(call, target, sub)
    const status = sub === 'status' ? ('status' as const) : undefined
    switch (call.method) {
      case 'GET':
        if (name !== undefined && !isWatch(call)) return await this.#get(call, target)
        return isWatch(call) ? this.#watch(call, target) : await this.#list(call, target)
      case 'POST':
        if (name === undefined) return await this.#create(call, target)
        break
      case 'PUT':
        if (name !== undefined) return await this.#update(call, target, status)
        break
      case 'PATCH':
        if (name !== undefined) return await this.#patch(call, target, status)
        break
      case 'DELETE':
        if (status) break
        return name === undefined ? await this.#deleteAll(call, target) : this.#delete(call, target, name)
    }
    throw faultOf(
      failure('MethodNotAllowed', 'the server does not allow this method on the requested resource'),
      `${call.method} ${call.path}`,
    )
  }

  /** `/api/v1/…` and `/apis/<group>/<version>/…`. */
  #targetOf(path: string): Target | undefined {
    const parts = path.split('/').slice(1).map(decodeURIComponent)
    const root = parts.shift()
    const group = root === 'apis' ? parts.shift() : root === 'api' ? '' : undefined
    const version = parts.shift()
    if (group === undefined || version === undefined || parts.length === 0) return undefined
    let namespace: string | undefined
    // `/namespaces/x` and `/namespaces/x/status` are the namespace itself.
    const itself = parts.length <= 2 || (parts.length === 3 && ['status', 'finalize'].includes(parts[2]!))
    if (parts[0] === 'namespaces' && !(group === '' && itself)) {
      namespace = parts[1]
      parts.splice(0, 2)
    }
    const [plural, name, ...rest] = parts
    if (!plural) return undefined
    const kind = this.#kube
      .kinds()
      .find(({ resource: r }) => r.group === group && r.plural === plural && r.version === version)
    const resource = kind?.resource ?? {
      group,
      version,
      kind: plural,
      plural,
      namespaced: namespace !== undefined,
    }
    return { resource, kind, namespace, name, sub: rest.length > 0 ? rest.join('/') : undefined }
  }

  async #get(call: Call, { resource, kind, namespace, name = '' }: Target): Promise<Answer> {
    const object = await this.#kube.get(resource, { namespace, name })
    return this.#shown(call, kind!, object)
  }

  async #list(call: Call, { resource, kind, namespace }: Target): Promise<Answer> {
    const limit = Number(call.query.get('limit') ?? 0)
    const token = call.query.get('continue')
    const selection = selectionOf(call, namespace)
    let page: ReturnType<Pages['next']>
    if (token) page = this.#pages.next(token, limit)
    else {
      const { items, resourceVersion } = await this.#kube.list(resource, selection)
      page = this.#pages.first(items, resourceVersion, limit)
    }
    if ('refused' in page) throw faultOf(page.refused, doing('list', resource, selection))
    const metadata = {
      resourceVersion: page.resourceVersion,
      ...(page.continue && { continue: page.continue, remainingItemCount: page.remaining }),
    }
    if (wantsTable(call)) return { body: this.#table(call, kind!, page.items, metadata) }
    const { apiVersion, listKind } = { apiVersion: apiVersionOf(resource), listKind: `${resource.kind}List` }
    return { body: { kind: listKind, apiVersion, metadata, items: page.items } }
  }

  #watch(call: Call, { resource, kind, namespace, name }: Target): Answer {
    if (call.query.get('sendInitialEvents') !== null)
      throw faultOf(
        invalid({ ...resource, group: 'meta.k8s.io', kind: 'ListOptions' }, '', [
          {
            reason: 'FieldValueForbidden',
            message:
              'Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
            field: 'sendInitialEvents',
          },
        ]),
        doing('watch', resource),
      )
    const ended = new AbortController()
    const seconds = Number(call.query.get('timeoutSeconds') ?? 0) || 3600
    const selection = selectionOf(call, namespace)
    const watcher = this.#kube.watcher(resource, call.query.get('resourceVersion') ?? '', {
      ...selection,
      fields: [selection.fields, name && `metadata.name=${name}`].filter(Boolean).join(','),
      signal: ended.signal,
    })
    const timer = setTimeout(() => watcher.close(), seconds * 1000)
    timer.unref()
    call.signal.addEventListener('abort', () => ended.abort(), { once: true })
    if (call.signal.aborted) ended.abort()
    return { stream: this.#lines(call, kind!, watcher, timer) }
  }

  async *#lines(
    call: Call,
    kind: ServedKind,
    changes: AsyncIterable<Change<KubeObject>>,
    timer: NodeJS.Timeout,
  ): AsyncIterable<string> {
    const bookmarks = call.query.get('allowWatchBookmarks') === 'true'
    const table = wantsTable(call)
    let headless = false
    try {
      for await (const change of changes) {
        if (change.type === 'BOOKMARK') {
          if (!bookmarks) continue
          const { resource } = kind
          const object = {
            kind: resource.kind,
            apiVersion: apiVersionOf(resource),
            metadata: { resourceVersion: change.resourceVersion, creationTimestamp: null },
          }
          yield `${JSON.stringify({ type: 'BOOKMARK', object })}\n`
        } else if (table) {
          const { resourceVersion } = change.object.metadata
          const object = this.#table(call, kind, [change.object], { resourceVersion }, headless)
          headless = true
          yield `${JSON.stringify({ type: change.type, object })}\n`
        } else yield lineOf(change)
      }
    } finally {
      clearTimeout(timer)
    }
  }

  async #create(call: Call, { resource, kind, namespace }: Target): Promise<Answer> {
    if (!kind) await this.#kube.list(resource)
    const object = objectOf(call) as unknown as KubeObject
    const metadata = { ...object.metadata, namespace: this.#namespaceOf(object, namespace, resource) }
    const options = writeOptions(call)
    const given = typed({ ...object, metadata }, resource)
    const admitted = await this.#admitted('CREATE', resource, given, undefined, options)
    const created = await this.#kube.create(resource, admitted.object, options)
    const headers = warningsOf(kind!, object, call, admitted.warnings)
    return { ...this.#shown(call, kind!, created), code: 201, headers }
  }

  async #update(call: Call, target: Target, status: 'status' | undefined): Promise<Answer> {
    const { resource, kind, namespace, name = '' } = target
    const object = objectOf(call) as unknown as KubeObject
    if (object.metadata?.name !== name)
      throw faultOf(
        failure(
          'BadRequest',
          `the name of the object (${object.metadata?.name}) does not match the name on the URL (${name})`,
        ),
        doing('update', resource, { namespace, name }),
      )
    const metadata = { ...object.metadata, namespace: this.#namespaceOf(object, namespace, resource) }
    const next = typed({ ...object, metadata }, resource)
    const options = writeOptions(call)
    const dry = () => this.#kube.update(resource, next, status, { ...options, dryRun: true })
    const warnings = status ? [] : await this.#changed(resource, { namespace, name }, dry)
    const updated = await this.#kube.update(resource, next, status, options)
    return { ...this.#shown(call, kind!, updated), headers: warningsOf(kind!, object, call, warnings) }
  }

  async #patch(call: Call, target: Target, subresource: 'status' | undefined): Promise<Answer> {
    const { resource, kind, namespace, name = '' } = target
    const type = patchTypes[call.contentType]
    if (!type) {
      const what = doing('patch', resource, { namespace, name })
      if (call.contentType.startsWith('application/apply-patch'))
        throw faultOf(
          failure('NotImplemented', 'this API server has no server-side apply; use client-side apply'),
          what,
        )
      throw faultOf(
        failure(
          'UnsupportedMediaType',
          `the body of the request was in an unknown format - accepted media types include: ${Object.keys(patchTypes).join(', ')}`,
        ),
        what,
      )
    }
    const patch = { type, body: parsed(call), subresource }
    const options = writeOptions(call)
    const ref = { namespace, name }
    const dry = () => this.#kube.patch(resource, ref, patch, { ...options, dryRun: true })
    const warnings = subresource ? [] : await this.#changed(resource, ref, dry)
    const patched = await this.#kube.patch(resource, ref, patch, options)
    return { ...this.#shown(call, kind!, patched), headers: warningHeader(warnings) }
  }

  /** What a client is told of a change, unless it is refused. */
  async #changed(resource: Resource, ref: Ref, dry: () => Promise<KubeObject>): Promise<string[]> {
    if (!this.#admission) return []
    const before = await this.#kube.get(resource, ref)
    return (await this.#admitted('UPDATE', resource, await dry(), before, {})).warnings
  }

  async #admitted(
    operation: Admitted['operation'],
    resource: Resource,
    given: KubeObject,
    oldObject: KubeObject | undefined,
    options: WriteOptions,
  ): Promise<{ object: KubeObject; warnings: string[] }> {
    if (!this.#admission) return { object: given, warnings: [] }
    // What is wrong in itself is said first, as an API server does.
    if (!oldObject) await this.#kube.create(resource, given, { ...options, dryRun: true })
    const answer = await this.#admission({
      operation,
      resource,
      object: given,
      ...(oldObject && { oldObject }),
    })
    if ('refused' in answer)
      throw faultOf(failure('BadRequest', answer.refused), doing('write', resource, given.metadata))
    return answer
  }

  #delete(call: Call, { resource, kind, namespace }: Target, name: string): Answer {
    const options = deleteOptions(call)
    const { object, gone } = this.#kube.remove(resource, { namespace, name }, options)
    // Pods are answered with what they were; of others nothing is left to show.
    if (!gone || resource.plural === 'pods') return this.#shown(call, kind!, object)
    const { uid } = object.metadata
    const details = { name, group: resource.group || undefined, kind: resource.plural, uid }
    return { body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details } }
  }

  async #deleteAll(call: Call, { resource, namespace }: Target): Promise<Answer> {
    const { items, resourceVersion } = await this.#kube.list(resource, selectionOf(call, namespace))
    const options = deleteOptions(call)
    for (const { metadata } of items) this.#kube.remove(resource, metadata, options)
    const apiVersion = apiVersionOf(resource)
    return { body: { kind: `${resource.kind}List`, apiVersion, metadata: { resourceVersion }, items } }
  }

  /** Parts of an object that are no fields of it. */
  async #part(call: Call, target: Target, sub: string): Promise<Answer> {
    const { resource, namespace = '', name = '' } = target
    const pod = nameOf(resource) === 'pods'
    if (pod && sub === 'log' && call.method === 'GET' && this.#logs)
      return await this.#log(call, { namespace, name })
    if (pod && sub === 'binding' && call.method === 'POST') {
      const { target: to } = objectOf(call) as { target?: { name?: string } }
      await this.#kube.bind({ namespace, name }, to?.name ?? '')
      return {
        code: 201,
        body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 },
      }
    }
    const what = `${call.method.toLowerCase()} ${nameOf(resource)}/${sub}`
    throw faultOf(failure('NotImplemented', `this API server does not implement ${what}`), what)
  }

  async #log(call: Call, ref: Ref): Promise<Answer> {
    const pod = (await this.#kube.get(resources.pods, ref)) as Pod
    const names = pod.spec.containers.map((c) => c.name)
    const container = call.query.get('container') || names[0]!
    if (!names.includes(container))
      throw faultOf(
        failure('BadRequest', `container ${container} is not valid for pod ${ref.name}`),
        doing('read the log of', resources.pods, ref),
      )
    const tail = call.query.get('tailLines')
    const logs = this.#logs!(
      {
        namespace: ref.namespace ?? '',
        name: ref.name,
        uid: pod.metadata.uid ?? '',
        node: pod.spec.nodeName ?? '',
      },
      container,
      {
        follow: call.query.get('follow') === 'true',
        tailLines: tail === null ? undefined : Number(tail),
        previous: call.query.get('previous') === 'true',
        signal: call.signal,
      },
    )
    if (Symbol.asyncIterator in logs) return { stream: logs, headers: { 'Content-Type': 'text/plain' } }
    const text = await logs
    return { body: tail === null ? text : lastLines(text, Number(tail)) }
  }

  #namespaceOf(object: KubeObject, namespace: string | undefined, resource: Resource): string | undefined {
    const own = object.metadata?.namespace
    if (!resource.namespaced || own === undefined || own === '' || own === namespace) return namespace
    throw faultOf(
      failure(
        'BadRequest',
        `the namespace of the provided object does not match the namespace sent on the request`,
      ),
      doing('write', resource, { namespace, name: object.metadata?.name }),
    )
  }

  #shown(call: Call, kind: ServedKind, object: KubeObject): Answer {
    if (!wantsTable(call)) return { body: object }
    const { resourceVersion } = object.metadata
    return { body: this.#table(call, kind, [object], { resourceVersion }) }
  }

  #table(call: Call, kind: ServedKind, items: KubeObject[], metadata: object, headless = false): object {
    const include = call.query.get('includeObject') ?? undefined
    return tableOf(kind, items, metadata, this.#kube.clock.now(), { include, headless })
  }
}

const isWatch = ({ query }: Call): boolean => ['true', '1'].includes(query.get('watch') ?? '')

/** Whether a Table is what the client would like best. */
const wantsTable = ({ accept }: Call): boolean => /as=Table/.test(accept.split(',')[0] ?? '')

const selectionOf = ({ query }: Call, namespace: string | undefined): Selection => ({
  namespace,
  labels: query.get('labelSelector') ?? '',
  fields: query.get('fieldSelector') ?? '',
})

const patchTypes: Record<string, Patch['type']> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
}

const writeOptions = ({ query }: Call): WriteOptions => ({
  dryRun: query.get('dryRun') === 'All',
  strict: query.get('fieldValidation') === 'Strict',
})

/** Unknown fields, where the client neither wants an error nor silence: as HTTP warnings (RFC 7234 section 5.5). */
function warningsOf(
  kind: ServedKind,
  object: KubeObject,
  { query }: Call,
  more: string[],
): Record<string, string> | undefined {
  const silent = ['Strict', 'Ignore'].includes(query.get('fieldValidation') ?? '')
  const unknown = silent
    ? []
    : kind.unknown(object).map((path) => `unknown field "${path.replace(/["\\]/g, '?')}"`)
  return warningHeader([...unknown, ...more])
}

function warningHeader(warnings: string[]): Record<string, string> | undefined {
  if (warnings.length === 0) return undefined
  const quoted = warnings.map((text) => text.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&'))
  return { Warning: quoted.map((text) => `299 - "${text}"`).join(', ') }
}

function deleteOptions(call: Call) {
  const body = call.body.length > 0 ? objectOf(call) : {}
  const { gracePeriodSeconds, preconditions, propagationPolicy, dryRun, orphanDependents } = body as {
    gracePeriodSeconds?: number
    preconditions?: { uid?: string; resourceVersion?: string }
    propagationPolicy?: string
    dryRun?: string[]
    orphanDependents?: boolean
  }
  const policy = propagationPolicy ?? call.query.get('propagationPolicy') ?? 'Background'
  if (policy === 'Foreground')
    throw faultOf(
      failure('NotImplemented', 'this API server does not implement foreground deletion; use background'),
      'delete',
    )
  const asked = call.query.get('gracePeriodSeconds')
  return {
    ...preconditions,
    gracePeriodSeconds: gracePeriodSeconds ?? (asked === null ? undefined : Number(asked)),
    orphan: policy === 'Orphan' || orphanDependents === true,
    dryRun: dryRun?.includes('All') || call.query.get('dryRun') === 'All',
  }
}

function parsed({ body, method, path }: Call): unknown {
  try {
    return JSON.parse(body.toString())
  } catch (error) {
    const why = `the body is not JSON: ${(error as Error).message}`
    throw faultOf(failure('BadRequest', why), `${method} ${path}`)
  }
}

/** The object in the body. */
function objectOf(call: Call): Record<string, unknown> {
  const what = `${call.method} ${call.path}`
  if (call.contentType === 'application/vnd.kubernetes.protobuf') {
    const object = readProtobuf(call, what)
    if (object) return object
  }
  if (call.contentType !== 'application/json' && call.contentType !== '')
    throw faultOf(
      failure(
        'UnsupportedMediaType',
        `the body of the request was in an unknown format (${call.contentType}) - accepted media types include: application/json`,
      ),
      what,
    )
  const value = parsed(call)
  if (!isObject(value)) throw faultOf(failure('BadRequest', 'the body is not an object'), what)
  return value
}

function readProtobuf({ body }: Call, what: string): Record<string, unknown> | undefined {
  try {
    return fromProtobuf(body)
  } catch (error) {
    throw faultOf(failure('BadRequest', (error as Error).message), what)
  }
}

/** Clients may leave out what the path says already. */
const typed = (object: KubeObject, resource: Resource): KubeObject => ({
  ...object,
  apiVersion: object.apiVersion || apiVersionOf(resource),
  kind: object.kind || resource.kind,
})

const lines = new WeakMap<object, string>()

/** A change as JSON, made once for all who watch. */
function lineOf(change: Change<KubeObject>): string {
  let line = lines.get(change)
  if (line === undefined) {
    line = `${JSON.stringify(change)}\n`
    lines.set(change, line)
  }
  return line
}

const lastLines = (text: string, count: number): string => {
  const all = text.split(/(?<=\n)/)
  return all.slice(Math.max(0, all.length - count)).join('')
}
