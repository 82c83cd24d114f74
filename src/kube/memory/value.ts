/** JSON values that nobody can change: how objects are stored, and shared by everyone who reads them. */

type Json = Record<string, unknown>

/**
 * The value as JSON would carry it (no undefined, no `__proto__`), frozen
 * all the way down. Parts that are frozen already are shared, not copied.
 */
export function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  if (isDeeplyFrozen(value)) return value
  if (Array.isArray(value)) return Object.freeze(value.map((item) => frozen(item ?? null))) as T
  const copy: Json = {}
  for (const [key, item] of Object.entries(value))
    if (item !== undefined && key !== '__proto__') copy[key] = frozen(item)
  return Object.freeze(copy) as T
}

function isDeeplyFrozen(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return value !== undefined
  if (!Object.isFrozen(value)) return false
  for (const key in value) if (!isDeeplyFrozen((value as Json)[key])) return false
  return true
}

/** A copy that its owner may change. */
export function thawed<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(thawed) as T
  const copy: Json = {}
  for (const [key, item] of Object.entries(value))
    if (item !== undefined && key !== '__proto__') copy[key] = thawed(item)
  return copy as T
}
