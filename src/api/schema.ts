import type { Problem } from '../lib/fault.ts'
import { isObject } from '../lib/json.ts'
import { type Format, shown } from './format.ts'

/**
 * What an object of type `T` looks like, as a plain value from which its
 * checks, its defaults, and its part of the CRD follow. `Schema<T>` has
 * exactly `T`'s fields, required where `T` requires them, or does not compile.
 */
export type Schema<T> = unknown extends T
  ? never
  : [T] extends [string]
    ? Text<T>
    : [T] extends [number]
      ? Integer
      : [T] extends [boolean]
        ? Flag
        : [T] extends [(infer I)[]]
          ? List<I>
          : string extends keyof T
            ? Dictionary
            : Struct<T>

interface Field<T> {
  /** For `kubectl explain`: what it says, what absence means. */
  description: string
  default?: T
  rules?: Rule[]
}

/** A rule in CEL that the API server holds objects to; `oldSelf` is the object before the change. */
export interface Rule {
  rule: string
  message: string
}

export interface Text<T extends string = string> extends Field<T> {
  type: 'string'
  enum?: readonly T[]
  format?: Format
  maxLength?: number
}

export interface Integer extends Field<number> {
  type: 'integer'
  minimum: number
  maximum: number
}

export interface Flag extends Field<boolean> {
  type: 'boolean'
}

export interface List<T> extends Field<T[]> {
  type: 'array'
  items: Schema<T>
  maxItems: number
  /** Fields that tell its objects apart: no two may agree in all. */
  keys?: (keyof T & string)[]
  /** No two items may be equal. */
  set?: true
}

/** Strings by string. */
export interface Dictionary extends Field<Record<string, string>> {
  type: 'map'
  values: { description: string; maxLength: number }
  maxItems: number
}

export interface Struct<T> extends Field<T> {
  type: 'object'
  fields: {
    [K in keyof T]-?: Schema<NonNullable<T[K]>> &
      (Record<never, never> extends Pick<T, K> ? { required?: never } : { required: true })
  }
  /** Replaced as a whole by server-side apply. */
  atomic?: true
}

/** A schema of whatever, as one sees it when walking down. */
export type AnySchema = { required?: boolean } & (
  | Text
  | Integer
  | Flag
  | Dictionary
  | (Omit<List<never>, 'items' | 'keys'> & { items: AnySchema; keys?: string[] })
  | (Field<unknown> & { type: 'object'; fields: Record<string, AnySchema>; atomic?: true })
)

/**
 * `input` as a `T`, with defaults filled in, texts in their one spelling and
 * unknown fields left out, and every problem in the order of the schema.
 * `null` counts as absent, as it does in Kubernetes.
 *
 * What has a problem is left out of the value, in a list as a hole that
 * `map`, `forEach` and the like skip, so that the rest can be looked at too.
 * Undefined where nothing is left.
 */
export function check<T>(schema: Schema<T>, input: unknown): { value: T | undefined; problems: Problem[] } {
  const problems: Problem[] = []
  const value = read(schema as AnySchema, input, '', problems)
  return { value: value as T | undefined, problems }
}

function read(schema: AnySchema, input: unknown, path: string, problems: Problem[]): unknown {
  const wrong = (problem: string) => void problems.push({ path, problem })
  switch (schema.type) {
    case 'string':
      return readText(schema, input, wrong)
    case 'integer':
      if (!Number.isInteger(input)) return wrong(`${shown(input)} is not a whole number`)
      if ((input as number) < schema.minimum || (input as number) > schema.maximum)
        return wrong(`${input} is out of bounds; use ${schema.minimum}–${schema.maximum}`)
      return input
    case 'boolean':
      return typeof input === 'boolean' ? input : wrong(`${shown(input)} is neither true nor false`)
    case 'map':
      return readDictionary(schema, input, path, problems)
    case 'array': {
      if (!Array.isArray(input)) return wrong(`${shown(input)} is not a list`)
      if (input.length > schema.maxItems)
        return wrong(`has ${input.length} entries; at most ${schema.maxItems} are possible`)
      const items = new Array<unknown>(input.length)
      for (const [i, item] of input.entries()) {
        const value = read(schema.items, item, `${path}[${i}]`, problems)
        if (value !== undefined) items[i] = value
      }
      refuseTwins(schema, items, path, problems)
      return items
    }
    case 'object': {
      if (!isObject(input)) return wrong(`${shown(input)} is not an object`)
      const value: Record<string, unknown> = {}
      let whole = true
      for (const [name, field] of Object.entries(schema.fields)) {
        const at = path ? `${path}.${name}` : name
        const given = (Object.hasOwn(input, name) ? input[name] : undefined) ?? field.default
        const part = given === undefined ? undefined : read(field, given, at, problems)
        if (part !== undefined) value[name] = part
        else if (field.required) whole = false
        if (field.required && given === undefined)
          problems.push({ path: at, problem: `is missing; add it: ${field.description}` })
      }
      return whole ? value : undefined
    }
  }
}

function readText(schema: Text, input: unknown, wrong: (problem: string) => void): string | undefined {
  if (typeof input !== 'string') return void wrong(`${shown(input)} is not a string`)
  if (schema.enum && !schema.enum.includes(input))
    return void wrong(`${shown(input)} is unknown; use ${schema.enum.join(', ')}`)
  const maxLength = schema.maxLength ?? schema.format?.maxLength
  if (!schema.format && maxLength !== undefined && input.length > maxLength)
    return void wrong(`has ${input.length} characters; at most ${maxLength} are possible`)
  const spelled = schema.format?.read(input) ?? { text: input }
  return 'text' in spelled ? spelled.text : void wrong(spelled.problem)
}

function readDictionary(schema: Dictionary, input: unknown, path: string, problems: Problem[]): unknown {
  if (!isObject(input)) return void problems.push({ path, problem: `${shown(input)} is not an object` })
  const entries = Object.entries(input)
  if (entries.length > schema.maxItems) {
    problems.push({ path, problem: `has ${entries.length} entries; at most ${schema.maxItems} are possible` })
    return undefined
  }
  for (const [key, value] of entries)
    if (typeof value !== 'string')
      problems.push({ path: `${path}[${shown(key)}]`, problem: `${shown(value)} is not a string; quote it` })
  return Object.fromEntries(entries.filter(([, value]) => typeof value === 'string'))
}

/** Two entries of a set, or two objects with the same keys. */
function refuseTwins(
  schema: { keys?: string[]; set?: true },
  items: unknown[],
  path: string,
  problems: Problem[],
): void {
  const keys = schema.keys
  if (!keys && !schema.set) return
  const seen = new Map<string, number>()
  items.forEach((item, i) => {
    const key = keys ? keys.map((k) => shown((item as Record<string, unknown>)[k])).join(' ') : shown(item)
    const first = seen.get(key)
    if (first === undefined) seen.set(key, i)
    else
      problems.push({
        path: `${path}[${i}]${keys ? `.${keys[0]}` : ''}`,
        problem: `${key} is in ${path}[${first}] too; leave one out`,
      })
  })
}
