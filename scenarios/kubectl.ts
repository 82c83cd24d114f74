import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { Place } from '../lab/place.ts'
import { tableText } from '../lab/table.ts'
import type { KubeObject } from '../src/api/meta.ts'
import { valuesAt } from '../src/kube/memory/jsonpath.ts'
import { realClock } from '../src/lib/clock.ts'
import { isObject } from '../src/lib/json.ts'
import { describeText } from './describe.ts'
import { type ApiResource, Discovery, type Failure, failure } from './discovery.ts'

export interface Output {
  exit: number
  output: string
}

/**
 * What kubectl prints for `argv`, asking the place's API server: get,
 * describe, apply, create, delete, wait, label, annotate, patch, scale and logs,
 * with the flags that the manual uses. No kubectl needs to be installed.
 */
export async function kubectl(
  place: Pick<Place, 'api' | 'kind'>,
  argv: string[],
  stdin = '',
): Promise<Output> {
  const { words, flags } = parseFlags(argv)
  const [verb = '', ...rest] = words
  const session: Session = {
    discovery: new Discovery(place.api),
    flags,
    stdin,
    waitS: place.kind === 'cluster' ? 120 : 30,
  }
  const run = verbs[verb]
  if (!run) return { exit: 1, output: `error: unknown command "${verb}" for "kubectl"` }
  try {
    return { exit: 0, output: await run(session, rest) }
  } catch (error) {
    if (error instanceof Error && 'exit' in error) return { exit: 1, output: (error as Failure).message }
    throw error
  }
}

/** What kubectl prints for a line that has to succeed. Rejects with what it prints where it does not. */
export async function say(place: Pick<Place, 'api' | 'kind'>, line: string, stdin = ''): Promise<string> {
  const { exit, output } = await kubectl(place, line.split(' '), stdin)
  if (exit !== 0) throw new Error(`kubectl ${line}: ${output}`)
  return output
}

interface Session {
  discovery: Discovery
  flags: Map<string, string>
  stdin: string
  /** How long to wait where the command does not say; kubectl's own is 30 s, and real nodes share the machine's processors. */
  waitS: number
}

const verbs: Record<string, (session: Session, rest: string[]) => Promise<string>> = {
  get,
  describe,
  apply,
  create: apply,
  delete: remove,
  wait,
  label: (session, rest) => mark(session, rest, 'labels', 'labeled'),
  annotate: (session, rest) => mark(session, rest, 'annotations', 'annotated'),
  patch,
  scale,
  logs,
}

const short: Record<string, string> = {
  '-n': '--namespace',
  '-A': '--all-namespaces',
  '-o': '--output',
  '-l': '--selector',
  '-f': '--filename',
  '-p': '--patch',
  '-c': '--container',
}
const bare = new Set([
  '--all-namespaces',
  '--all',
  '--ignore-not-found',
  '--no-headers',
  '--overwrite',
  '--now',
  '--force',
])

function parseFlags(argv: string[]): { words: string[]; flags: Map<string, string> } {
  const words: string[] = []
  const flags = new Map<string, string>()
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]!
    if (!arg.startsWith('-') || arg === '-') {
      words.push(arg)
      continue
    }
    const equals = arg.indexOf('=')
    const given = equals < 0 ? arg : arg.slice(0, equals)
    const name = short[given] ?? given
    if (equals >= 0) flags.set(name, arg.slice(equals + 1))
    else flags.set(name, bare.has(name) ? 'true' : (argv[++i] ?? ''))
  }
  return { words, flags }
}

const namespaceOf = (session: Session): string => session.flags.get('--namespace') ?? 'default'

/** `pods a b`, `pod/a network/b`, `pods,networks`: each resource with the names asked for (none: all of it). */
async function targets(
  session: Session,
  rest: string[],
): Promise<{ resource: ApiResource; names: string[] }[]> {
  if (rest.some((word) => word.includes('/')))
    return Promise.all(
      rest.map(async (word) => {
        const [type = '', name = ''] = word.split('/')
        return { resource: await session.discovery.find(type), names: [name] }
      }),
    )
  const [types = '', ...names] = rest
  return Promise.all(
    types.split(',').map(async (type) => ({ resource: await session.discovery.find(type), names })),
  )
}

const qualified = (resource: ApiResource): string =>
  resource.group ? `${resource.singular}.${resource.group}` : resource.singular

function pathIn(session: Session, resource: ApiResource, name?: string): string {
  const all = session.flags.get('--all-namespaces') === 'true'
  const query = new URLSearchParams()
  const labels = session.flags.get('--selector')
  const fields = session.flags.get('--field-selector')
  if (labels) query.set('labelSelector', labels)
  if (fields) query.set('fieldSelector', fields)
  const text = name === undefined && query.size > 0 ? `?${query}` : ''
  return resource.path(all ? undefined : namespaceOf(session), name) + text
}

interface ServerTable {
  columnDefinitions: { name: string; priority: number }[]
  rows: { cells: unknown[]; object: { metadata: { name: string; namespace?: string } } }[]
}

async function get(session: Session, rest: string[]): Promise<string> {
  const output = session.flags.get('--output') ?? ''
  const asked = await targets(session, rest)
  if (output !== '' && output !== 'wide') return formatted(session, asked, output)
  const all = session.flags.get('--all-namespaces') === 'true'
  const sections: string[] = []
  for (const { resource, names } of asked) {
    const tables = await Promise.all(
      (names.length > 0 ? names : [undefined]).map(
        (name) => session.discovery.get(pathIn(session, resource, name), 'table') as Promise<ServerTable>,
      ),
    )
    const rows = tables.flatMap((table) => table.rows)
    if (rows.length === 0) continue
    const definitions = tables[0]!.columnDefinitions
    const shown = definitions
      .map((each, i) => ({ ...each, i }))
      .filter((c) => c.priority === 0 || output === 'wide')
    const namespace = all && resource.namespaced
    const lines = rows.map((row) => {
      const cells = shown.map(({ i, name }) =>
        name === 'Name' && asked.length > 1
          ? `${qualified(resource)}/${row.cells[i]}`
          : cellText(row.cells[i]),
      )
      return namespace ? [row.object.metadata.namespace ?? '', ...cells] : cells
    })
    const headings = [...(namespace ? ['NAMESPACE'] : []), ...shown.map((c) => c.name.toUpperCase())]
    const text = tableText(headings, lines)
    sections.push(session.flags.has('--no-headers') ? text.split('\n').slice(1).join('\n') : text)
  }
  if (sections.length > 0) return sections.join('\n\n')
  const everywhere = all || asked.every(({ resource }) => !resource.namespaced)
  return everywhere ? 'No resources found' : `No resources found in ${namespaceOf(session)} namespace.`
}

const cellText = (cell: unknown): string =>
  cell === null || cell === undefined || cell === '' ? '<none>' : String(cell)

type Targets = { resource: ApiResource; names: string[] }[]

async function formatted(session: Session, asked: Targets, output: string): Promise<string> {
  const objects = await read(session, asked)
  if (output === 'name')
    return objects.map(({ resource, object }) => `${qualified(resource)}/${object.metadata.name}`).join('\n')
  if (output.startsWith('jsonpath='))
    return objects.map(({ object }) => jsonPath(object, output.slice('jsonpath='.length))).join('\n')
  const values = objects.map(({ object }) => object)
  const value = values.length === 1 ? values[0] : { apiVersion: 'v1', kind: 'List', items: values }
  if (output === 'json') return JSON.stringify(value, null, 4)
  const { stringify } = await import('yaml')
  return stringify(value)
}

async function read(
  session: Session,
  asked: Targets,
): Promise<{ resource: ApiResource; object: KubeObject }[]> {
  const found: { resource: ApiResource; object: KubeObject }[] = []
  for (const { resource, names } of asked) {
    if (names.length > 0) {
      for (const name of names)
        found.push({
          resource,
          object: (await session.discovery.get(pathIn(session, resource, name))) as KubeObject,
        })
      continue
    }
    const list = (await session.discovery.get(pathIn(session, resource))) as { items: KubeObject[] }
    found.push(...list.items.map((object) => ({ resource, object })))
  }
  return found
}

/** `{.status.podIP}`, `{.items[0].a}`, `{.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}`. */
const jsonPath = (object: unknown, template: string): string =>
  template.replace(/\{([^}]*)\}/g, (_, path: string) =>
    valuesAt(path, object)
      .map((value) => (typeof value === 'object' ? JSON.stringify(value) : String(value)))
      .join(' '),
  )

async function describe(session: Session, rest: string[]): Promise<string> {
  const objects = await read(session, await targets(session, rest))
  const events = await session.discovery.find('events')
  const texts = objects.map(async ({ object }) => {
    const list = (await session.discovery.get(events.path(object.metadata.namespace ?? 'default'))) as {
      items: KubeObject[]
    }
    return describeText(object, list.items)
  })
  return (await Promise.all(texts)).join('\n\n\n')
}

function manifests(session: Session): KubeObject[] {
  const from = session.flags.get('--filename')
  if (from === undefined) throw failure('error: must specify one of -f and -k')
  const texts = from === '-' ? [session.stdin] : filesIn(from).map((file) => readFileSync(file, 'utf8'))
  return texts.flatMap((text) =>
    parseAllDocuments(text).flatMap((document): KubeObject[] => {
      const value = document.toJS()
      return value === null ? [] : value.kind === 'List' ? value.items : [value]
    }),
  )
}

const filesIn = (path: string): string[] =>
  statSync(path).isDirectory()
    ? readdirSync(path)
        .filter((name) => /\.(ya?ml|json)$/.test(name))
        .sort()
        .map((name) => join(path, name))
    : [path]

const lastApplied = 'kubectl.kubernetes.io/last-applied-configuration'

/** Creates what is not there and merges the rest, taking away what was applied before and is not any more. */
async function apply(session: Session, rest: string[]): Promise<string> {
  if (rest[0] === 'namespace' || rest[0] === 'ns') {
    session.flags.set('--filename', '-')
    session.stdin = JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: rest[1] } })
  }
  const lines: string[] = []
  const problems: string[] = []
  for (const object of manifests(session)) {
    try {
      lines.push(await applyOne(session, object))
    } catch (error) {
      if (!(error instanceof Error && 'exit' in error)) throw error
      problems.push(error.message)
    }
  }
  if (problems.length > 0) throw failure([...lines, ...problems].join('\n'))
  return lines.join('\n')
}

async function applyOne(session: Session, object: KubeObject): Promise<string> {
  const resource = await session.discovery.findKind(object.apiVersion, object.kind)
  const namespace = object.metadata.namespace ?? namespaceOf(session)
  if (resource.namespaced) object.metadata.namespace = namespace
  const named = () => `${qualified(resource)}/${object.metadata.name}`
  const config = JSON.stringify(object)
  object.metadata.annotations = { ...object.metadata.annotations, [lastApplied]: config }
  const path = resource.path(namespace, object.metadata.name)
  const current = (await session.discovery.get(path, 'object', 'missing is fine')) as KubeObject | undefined
  if (!current) {
    await session.discovery.send('POST', resource.path(namespace), object)
    return `${named()} created`
  }
  const before: unknown = JSON.parse(current.metadata.annotations?.[lastApplied] ?? '{}')
  const change = { ...mergePatch(before, current, object) }
  if (before && JSON.stringify(before) === config) return `${named()} unchanged`
  await session.discovery.send('PATCH', path, change, 'application/merge-patch+json')
  return `${named()} configured`
}

/** RFC 7386: makes `current` say what `wanted` says, without what only `before` said. */
function mergePatch(before: unknown, current: unknown, wanted: unknown): Record<string, unknown> {
  const patch: Record<string, unknown> = {}
  const now = current as Record<string, unknown>
  for (const [key, value] of Object.entries(wanted as object)) {
    const nested = isObject(value) && isObject(now?.[key])
    if (nested) patch[key] = mergePatch(isObject(before) ? before[key] : undefined, now[key], value)
    else if (JSON.stringify(value) !== JSON.stringify(now?.[key])) patch[key] = value
  }
  for (const key of Object.keys(isObject(before) ? before : {}))
    if (!(key in (wanted as object))) patch[key] = null
  return patch
}

async function remove(session: Session, rest: string[]): Promise<string> {
  const lines: string[] = []
  const gone: string[] = []
  const drop = async (resource: ApiResource, name: string, namespace: string) => {
    const path = resource.path(namespace, name)
    const quiet = session.flags.has('--ignore-not-found')
    const grace = session.flags.get('--grace-period')
    const options = grace === undefined ? {} : { gracePeriodSeconds: Number(grace) }
    const answer = await session.discovery.send(
      'DELETE',
      path,
      options,
      'application/json',
      quiet ? 404 : undefined,
    )
    if (answer === undefined) return
    lines.push(`${qualified(resource)} "${name}" deleted`)
    gone.push(path)
  }
  if (session.flags.has('--filename')) {
    for (const { apiVersion, kind, metadata } of manifests(session))
      await drop(
        await session.discovery.findKind(apiVersion, kind),
        metadata.name,
        metadata.namespace ?? namespaceOf(session),
      )
  } else {
    for (const { resource, names } of await targets(session, rest)) {
      const all = session.flags.has('--all') || session.flags.has('--selector')
      const found = all ? await read(session, [{ resource, names: [] }]) : []
      for (const { object } of found)
        await drop(resource, object.metadata.name, object.metadata.namespace ?? '')
      for (const name of names) await drop(resource, name, namespaceOf(session))
    }
  }
  if (session.flags.get('--wait') !== 'false')
    for (const path of gone)
      await until(session, `timed out waiting for ${path} to be gone`, async () => {
        return (await session.discovery.get(path, 'object', 'missing is fine')) === undefined
      })
  return lines.join('\n')
}

async function until(session: Session, late: string, holds: () => Promise<boolean>): Promise<void> {
  const [, amount = String(session.waitS), unit = 's'] =
    /^(\d+)(s|m|ms)?$/.exec(session.flags.get('--timeout') ?? '') ?? []
  const ms = Number(amount) * { ms: 1, s: 1000, m: 60_000 }[unit]!
  for (let [waited, pause] = [0, 50]; ; waited += pause) {
    if (await holds()) return
    if (waited >= ms) throw failure(`error: ${late}`)
    // Who asks takes processor time from what is waited for.
    pause = Math.min(500, Math.max(50, waited / 10))
    await realClock.sleep(pause)
  }
}

async function wait(session: Session, rest: string[]): Promise<string> {
  const condition = session.flags.get('--for') ?? ''
  const asked = await targets(session, rest)
  const named = asked.flatMap(({ resource, names }) => names.map((name) => ({ resource, name })))
  const listed = named.length > 0 ? [] : await read(session, asked)
  const all = [
    ...named.map((each) => ({ ...each, path: each.resource.path(namespaceOf(session), each.name) })),
    ...listed.map(({ resource, object: { metadata } }) => ({
      resource,
      name: metadata.name,
      path: resource.path(metadata.namespace, metadata.name),
    })),
  ]
  if (all.length === 0) throw failure('error: no matching resources found')
  for (const { resource, name, path } of all)
    await until(session, `timed out waiting for the condition on ${resource.plural}/${name}`, async () =>
      meets(
        (await session.discovery.get(path, 'object', 'missing is fine')) as KubeObject | undefined,
        condition,
      ),
    )
  return all.map(({ resource, name }) => `${qualified(resource)}/${name} condition met`).join('\n')
}

function meets(object: KubeObject | undefined, condition: string): boolean {
  if (condition === 'delete') return object === undefined
  if (object === undefined) return false
  const [, template, value] = /^jsonpath=(\{[^}]*\})(?:=(.*))?$/.exec(condition) ?? []
  if (template !== undefined) {
    const found = jsonPath(object, template)
    return value === undefined ? found !== '' : found === value
  }
  const [, type, status = 'True'] = /^condition=([^=]+)(?:=(.*))?$/i.exec(condition) ?? []
  if (type === undefined) throw failure(`error: unrecognized condition: "${condition}"`)
  const conditions = (object as { status?: { conditions?: { type: string; status: string }[] } }).status
    ?.conditions
  return conditions?.some((c) => c.type === type && c.status.toLowerCase() === status.toLowerCase()) ?? false
}

async function mark(session: Session, rest: string[], field: string, done: string): Promise<string> {
  const isChange = (word: string) => word.includes('=') || word.endsWith('-')
  const changes = Object.fromEntries(
    rest.filter(isChange).map((word): [string, string | null] => {
      const equals = word.indexOf('=')
      return equals < 0 ? [word.slice(0, -1), null] : [word.slice(0, equals), word.slice(equals + 1)]
    }),
  )
  return change(
    session,
    rest.filter((word) => !isChange(word)),
    { metadata: { [field]: changes } },
    'merge',
    done,
  )
}

function patch(session: Session, rest: string[]): Promise<string> {
  const type = session.flags.get('--type') ?? 'merge'
  return change(session, rest, JSON.parse(session.flags.get('--patch') ?? '{}'), type, 'patched')
}

function scale(session: Session, rest: string[]): Promise<string> {
  const replicas = Number(session.flags.get('--replicas'))
  return change(session, rest, { spec: { replicas } }, 'merge', 'scaled')
}

async function change(
  session: Session,
  rest: string[],
  body: unknown,
  type: string,
  done: string,
): Promise<string> {
  const subresource = session.flags.get('--subresource')
  const lines: string[] = []
  for (const { resource, names } of await targets(session, rest))
    for (const name of names) {
      const path = resource.path(namespaceOf(session), name) + (subresource ? `/${subresource}` : '')
      const media = { merge: 'merge-patch', json: 'json-patch', strategic: 'strategic-merge-patch' }[type]
      await session.discovery.send('PATCH', path, body, `application/${media}+json`)
      lines.push(`${qualified(resource)}/${name} ${done}`)
    }
  return lines.join('\n')
}

async function logs(session: Session, rest: string[]): Promise<string> {
  const name = rest[0]?.replace(/^pods?\//, '') ?? ''
  const container = session.flags.get('--container')
  const path = `/api/v1/namespaces/${namespaceOf(session)}/pods/${name}/log${container ? `?container=${container}` : ''}`
  return session.discovery.text(path)
}
