import { isIP } from 'node:net'
import { parsePrefix } from '../../lib/ip.ts'
import { equal, isObject } from '../../lib/json.ts'
import type { Cause } from '../status.ts'
import { required } from './metadata.ts'

/** A structural schema (apiextensions v1 JSONSchemaProps), as far as the server obeys it. */
export interface Schema {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'
  description?: string
  format?: string
  nullable?: boolean
  default?: unknown
  enum?: unknown[]
  pattern?: string
  minimum?: number
  maximum?: number
  exclusiveMinimum?: boolean
  exclusiveMaximum?: boolean
  multipleOf?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  uniqueItems?: boolean
  minProperties?: number
  maxProperties?: number
  required?: string[]
  properties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  items?: Schema
  allOf?: Schema[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  not?: Schema
  'x-kubernetes-preserve-unknown-fields'?: boolean
  'x-kubernetes-embedded-resource'?: boolean
  'x-kubernetes-int-or-string'?: boolean
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map'
  'x-kubernetes-list-map-keys'?: string[]
  'x-kubernetes-map-type'?: 'atomic' | 'granular'
  'x-kubernetes-validations'?: Rule[]
}

/** A rule in CEL that a value must obey. */
export interface Rule {
  rule: string
  message?: string
  messageExpression?: string
  reason?: string
  fieldPath?: string
  optionalOldSelf?: boolean
}

/**
 * The value with defaults filled in and without fields that the schema does
 * not have; those are added to `unknown` by path. What needs no change is
 * returned as it is.
 */
export function shaped(schema: Schema, value: unknown, unknown: string[] = [], path = ''): unknown {
  if (Array.isArray(value)) {
    const { items } = schema
    if (!items) return value
    const next = value.map((item, i) => shaped(items, item, unknown, `${path}[${i}]`))
    return next.some((item, i) => item !== value[i]) ? next : value
  }
  if (!isObject(value)) return value
  const next: Record<string, unknown> = {}
  let changed = false
  for (const [key, child] of Object.entries(value)) {
    const inner = propertyOf(schema, key)
    if (inner === 'unknown') {
      unknown.push(path ? `${path}.${key}` : key)
      changed = true
    } else if (child === null && isObject(inner) && inner.default !== undefined && !inner.nullable) {
      changed = true
    } else {
      next[key] = isObject(inner)
        ? shaped(inner as Schema, child, unknown, path ? `${path}.${key}` : key)
        : child
      if (next[key] !== child) changed = true
    }
  }
  for (const [key, inner] of Object.entries(schema.properties ?? {}))
    if (inner.default !== undefined && next[key] === undefined) {
      next[key] = shaped(inner, inner.default)
      changed = true
    }
  return changed ? next : value
}

/** The schema of a field; `any` when it may hold anything, `unknown` when there is no such field. */
function propertyOf(schema: Schema, key: string): Schema | 'any' | 'unknown' {
  const own = schema.properties
  if (own && Object.hasOwn(own, key)) return own[key]!
  if (isObject(schema.additionalProperties)) return schema.additionalProperties as Schema
  if (schema.additionalProperties === true || schema['x-kubernetes-preserve-unknown-fields']) return 'any'
  if (schema['x-kubernetes-embedded-resource'] && ['apiVersion', 'kind', 'metadata'].includes(key))
    return 'any'
  return 'unknown'
}

/** Everything about the value that the schema does not allow, as Kubernetes words it. */
export function schemaCauses(schema: Schema, value: unknown, path = ''): Cause[] {
  if (value === null && schema.nullable) return []
  const wrong = typeCause(schema, value, path)
  if (wrong) return [wrong]
  const causes: Cause[] = []
  const invalid = (why: string, shown: unknown = value) =>
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(shown)}: ${path || '<nil>'} in body ${why}`,
      field: path || '<nil>',
    })
  const tooMany = (count: number, limit: number) =>
    causes.push({
      reason: 'FieldValueTooMany',
      message: `Too many: ${count}: must have at most ${limit} items`,
      field: path,
    })
  if (schema.enum && !schema.enum.some((allowed) => equal(allowed, value)))
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${schema.enum.map((v) => JSON.stringify(v)).join(', ')}`,
      field: path,
    })
  if (typeof value === 'string') {
    const { minLength, maxLength, pattern } = schema
    const length = [...value].length
    if (maxLength !== undefined && length > maxLength)
      causes.push({
        reason: 'FieldValueTooLong',
        message: `Too long: may not be more than ${maxLength} bytes`,
        field: path,
      })
    if (minLength !== undefined && length < minLength) invalid(`should be at least ${minLength} chars long`)
    if (pattern !== undefined && !regexOf(pattern).test(value)) invalid(`should match '${pattern}'`)
    if (schema.format && formats[schema.format] && !formats[schema.format]!(value))
      invalid(`must be of type ${schema.format}: ${JSON.stringify(value)}`)
  }
  if (typeof value === 'number') {
    const { minimum, maximum, multipleOf } = schema
    if (minimum !== undefined && (schema.exclusiveMinimum ? value <= minimum : value < minimum))
      invalid(`should be greater than ${schema.exclusiveMinimum ? '' : 'or equal to '}${minimum}`)
    if (maximum !== undefined && (schema.exclusiveMaximum ? value >= maximum : value > maximum))
      invalid(`should be less than ${schema.exclusiveMaximum ? '' : 'or equal to '}${maximum}`)
    if (multipleOf !== undefined && value % multipleOf !== 0) invalid(`should be a multiple of ${multipleOf}`)
  }
  if (Array.isArray(value)) {
    const { items, minItems, maxItems } = schema
    if (maxItems !== undefined && value.length > maxItems) tooMany(value.length, maxItems)
    if (minItems !== undefined && value.length < minItems)
      invalid(`should have at least ${minItems} items`, value.length)
    if (items) causes.push(...value.flatMap((item, i) => schemaCauses(items, item, `${path}[${i}]`)))
    causes.push(...twinCauses(schema, value, path))
  }
  if (isObject(value)) {
    const { minProperties, maxProperties, required: needed = [], properties = {} } = schema
    const size = Object.keys(value).length
    if (maxProperties !== undefined && size > maxProperties) tooMany(size, maxProperties)
    if (minProperties !== undefined && size < minProperties)
      invalid(`should have at least ${minProperties} properties`, size)
    for (const key of needed)
      if (value[key] === undefined) causes.push(required(path ? `${path}.${key}` : key))
    for (const [key, child] of Object.entries(value)) {
      const inner = propertyOf(schema, key)
      if (isObject(inner))
        causes.push(
          ...schemaCauses(
            inner as Schema,
            child,
            Object.hasOwn(properties, key) ? (path ? `${path}.${key}` : key) : `${path}[${key}]`,
          ),
        )
    }
  }
  for (const part of schema.allOf ?? []) causes.push(...schemaCauses(part, value, path))
  const fits = (part: Schema) => schemaCauses(part, value, path).length === 0
  if (schema.anyOf && !schema.anyOf.some(fits))
    invalid('must validate at least one schema (anyOf)', shownOf(value))
  if (schema.oneOf && schema.oneOf.filter(fits).length !== 1)
    invalid('must validate one and only one schema (oneOf)', shownOf(value))
  if (schema.not && fits(schema.not)) invalid('must not validate the schema (not)', shownOf(value))
  return causes
}

const shownOf = (value: unknown): unknown => (typeof value === 'object' ? '' : value)

function typeCause(schema: Schema, value: unknown, path: string): Cause | undefined {
  const is = typeOf(value)
  const expected = schema['x-kubernetes-int-or-string']
    ? ['integer', 'string']
    : schema.type
      ? [schema.type]
      : []
  if (expected.length === 0 || expected.includes(is as never)) return undefined
  if (is === 'integer' && expected.includes('number')) return undefined
  const should = schema['x-kubernetes-int-or-string'] ? 'integer,string' : schema.type
  return {
    reason: 'FieldValueTypeInvalid',
    message: `Invalid value: ${JSON.stringify(is)}: ${path || '<nil>'} in body must be of type ${should}: ${JSON.stringify(is)}`,
    field: path || '<nil>',
  }
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}

/** Items that a list holds twice although their keys, or they themselves, must differ. */
function twinCauses(schema: Schema, value: unknown[], path: string): Cause[] {
  const keys = schema['x-kubernetes-list-map-keys'] ?? []
  const type = schema['x-kubernetes-list-type']
  if (type !== 'map' && type !== 'set') return []
  const seen = new Set<string>()
  const causes: Cause[] = []
  value.forEach((item, i) => {
    const id =
      type === 'set' ? item : Object.fromEntries(keys.map((k) => [k, (item as Record<string, unknown>)?.[k]]))
    const text = JSON.stringify(id)
    if (seen.has(text))
      causes.push({
        reason: 'FieldValueDuplicate',
        message: `Duplicate value: ${text}`,
        field: `${path}[${i}]`,
      })
    seen.add(text)
  })
  return causes
}

const formats: Record<string, (text: string) => boolean> = {
  'date-time': (text) => /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d/.test(text) && !Number.isNaN(Date.parse(text)),
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text),
  ipv4: (text) => isIP(text) === 4,
  ipv6: (text) => isIP(text) === 6,
  cidr: (text) => parsePrefix(text) !== undefined,
  mac: (text) => /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text),
  uuid: (text) => /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(text),
}

const regexes = new Map<string, RegExp>()

function regexOf(pattern: string): RegExp {
  let regex = regexes.get(pattern)
  if (!regex) {
    regex = new RegExp(pattern)
    regexes.set(pattern, regex)
  }
  return regex
}
