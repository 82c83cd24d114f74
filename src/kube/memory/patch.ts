import { applyPatch, type Operation } from 'rfc6902'
import { equal, isObject } from '../../lib/json.ts'
import type { Patch } from '../port.ts'
import { failure, type Status } from '../status.ts'
import { thawed } from './value.ts'

/**
 * Which lists a strategic merge patch merges, by path without indices:
 * `spec.containers` by `name`; `true` for lists of plain values that merge.
 * Lists that are not here are replaced.
 */
export type MergeKeys = Record<string, string | true>

/** The object after the patch, as a new value; or why the patch does not apply. */
export function patched(
  object: unknown,
  patch: Patch,
  mergeKeys: MergeKeys | undefined,
): { ok: true; value: unknown } | { ok: false; status: Status } {
  switch (patch.type) {
    case 'merge':
      if (!isObject(patch.body)) return refused('a merge patch must be an object')
      return { ok: true, value: merged(object, patch.body) }
    case 'json':
      return jsonPatched(object, patch.body)
    case 'strategic':
      if (!mergeKeys)
        return {
          ok: false,
          status: failure(
            'UnsupportedMediaType',
            'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json',
          ),
        }
      if (!isObject(patch.body)) return refused('a strategic merge patch must be an object')
      return { ok: true, value: strategic(object, patch.body, '', mergeKeys) }
  }
}

const refused = (why: string) => ({ ok: false as const, status: failure('BadRequest', why) })

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__') continue
    if (value === null) delete result[key]
    else result[key] = merged(Object.hasOwn(result, key) ? result[key] : undefined, value)
  }
  return result
}

/** RFC 6902. */
function jsonPatched(object: unknown, body: unknown): ReturnType<typeof patched> {
  const isOperation = (o: unknown): o is Operation =>
    isObject(o) &&
    typeof o.path === 'string' &&
    ['add', 'remove', 'replace', 'move', 'copy', 'test'].includes(o.op as string)
  if (!Array.isArray(body) || !body.every(isOperation))
    return refused('a JSON patch must be a list of operations')
  const value = thawed(object)
  const failed = applyPatch(value, thawed(body) as Operation[]).findIndex((result) => result !== null)
  if (failed < 0) return { ok: true, value }
  const { op, path } = body[failed]!
  const why =
    op === 'test'
      ? `testing value ${path} failed`
      : `${op} operation does not apply: doc is missing path: ${path}`
  return {
    ok: false,
    status: failure('Invalid', `the server rejected our request due to an error in our request: ${why}`),
  }
}

/** Kubernetes' own patch: objects merge, lists merge by their key where the kind says so. */
function strategic(target: unknown, patch: unknown, path: string, keys: MergeKeys): unknown {
  if (!isObject(patch)) return patch
  if (patch.$patch === 'replace') return withoutDirectives(patch)
  if (patch.$patch === 'delete') return {}
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {}
  const retain = patch.$retainKeys
  if (Array.isArray(retain))
    for (const key of Object.keys(result)) if (!retain.includes(key)) delete result[key]
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__' || key === '$patch' || key === '$retainKeys') continue
    const [directive, field] = key.startsWith('$') ? key.split('/', 2) : []
    if (directive === '$deleteFromPrimitiveList' && field) {
      const gone = Array.isArray(value) ? value : []
      if (Array.isArray(result[field])) result[field] = result[field].filter((item) => !gone.includes(item))
    } else if (directive !== undefined) {
      // $setElementOrder is obeyed below, after the list has been merged.
    } else if (value === null) delete result[key]
    else result[key] = strategicField(result[key], value, path ? `${path}.${key}` : key, keys)
  }
  for (const [key, order] of Object.entries(patch)) {
    const field = key.startsWith('$setElementOrder/') ? key.slice('$setElementOrder/'.length) : undefined
    if (field && Array.isArray(result[field]) && Array.isArray(order))
      result[field] = ordered(result[field], order, keys[path ? `${path}.${field}` : field])
  }
  return result
}

function strategicField(current: unknown, value: unknown, path: string, keys: MergeKeys): unknown {
  if (!Array.isArray(value)) return strategic(current, value, path, keys)
  const by = keys[path]
  const items = Array.isArray(current) ? current : []
  if (by === undefined) return value
  if (by === true) return [...new Set([...items, ...value])]
  if (value.some((item) => isObject(item) && item.$patch === 'replace' && Object.keys(item).length === 1))
    return value.filter((item) => !(isObject(item) && item.$patch === 'replace'))
  const result = [...items]
  for (const item of value) {
    if (!isObject(item)) continue
    const at = result.findIndex((other) => isObject(other) && equal(other[by], item[by]))
    if (item.$patch === 'delete') {
      if (at >= 0) result.splice(at, 1)
    } else if (at >= 0) result[at] = strategic(result[at], item, path, keys)
    else result.push(strategic({}, item, path, keys))
  }
  return result
}

/** What the order names comes in that order; the rest stays before what it stood before. */
function ordered(items: unknown[], order: unknown[], by: string | true | undefined): unknown[] {
  if (by === undefined) return items
  const keyOf = (item: unknown) => (by !== true && isObject(item) ? item[by] : item)
  const rank = new Map(order.map((item, i) => [keyOf(item), i]))
  const named = items.filter((item) => rank.has(keyOf(item)))
  named.sort((a, b) => rank.get(keyOf(a))! - rank.get(keyOf(b))!)
  let next = 0
  return items.map((item) => (rank.has(keyOf(item)) ? named[next++] : item))
}

function withoutDirectives(patch: Record<string, unknown>): unknown {
  return Object.fromEntries(Object.entries(patch).filter(([key]) => !key.startsWith('$')))
}
