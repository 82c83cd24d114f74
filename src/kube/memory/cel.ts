import { Environment } from '@marcbachmann/cel-js'
import { contains, parseAddress, parsePrefix } from '../../lib/ip.ts'
import { equal, isObject } from '../../lib/json.ts'
import type { Cause } from '../status.ts'
import type { Rule, Schema } from './schema.ts'

/** Rules in CEL (x-kubernetes-validations), with the part of Kubernetes' libraries that network kinds use. */
const environment = new Environment({ unlistedVariablesAreDyn: false, enableOptionalTypes: true })
  .registerVariable('self', 'dyn')
  .registerVariable('oldSelf', 'dyn')
  .registerFunction('isIP(string): bool', (text: string) => parseAddress(text) !== undefined)
  .registerFunction('isCIDR(string): bool', (text: string) => parsePrefix(text) !== undefined)
  .registerFunction('string.replace(string, string): string', (text: string, from: string, to: string) =>
    text.replaceAll(from, to),
  )
  .registerFunction(
    'string.find(string): string',
    (text: string, pattern: string) => (new RegExp(pattern, 'u').exec(text) ?? [''])[0]!,
  )

class Ip {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}
class Cidr extends Ip {}

environment.registerType('net.IP', Ip)
environment.registerType('net.CIDR', Cidr)
environment
  .registerFunction('ip(string): net.IP', (text: string) => {
    if (!parseAddress(text)) throw new Error(`${text} is not an IP address`)
    return new Ip(text)
  })
  .registerFunction('net.IP.family(): int', (ip: Ip) => BigInt(parseAddress(ip.text)!.family))
  .registerFunction('cidr(string): net.CIDR', (text: string) => {
    if (!parsePrefix(text)) throw new Error(`${text} is not a CIDR`)
    return new Cidr(text)
  })
  .registerFunction('net.CIDR.prefixLength(): int', (cidr: Cidr) => BigInt(parsePrefix(cidr.text)!.length))
  .registerFunction(
    'net.CIDR.ip(): net.IP',
    (cidr: Cidr) => new Ip(cidr.text.slice(0, cidr.text.indexOf('/'))),
  )
  .registerFunction('net.CIDR.containsIP(string): bool', (cidr: Cidr, text: string) => {
    const address = parseAddress(text)
    return address !== undefined && contains(parsePrefix(cidr.text)!, address)
  })
  .registerFunction('net.CIDR.containsCIDR(string): bool', (cidr: Cidr, text: string) => {
    const prefix = parsePrefix(text)
    return prefix !== undefined && contains(parsePrefix(cidr.text)!, prefix)
  })

type Program = (variables: Record<string, unknown>) => unknown
const programs = new Map<string, Program>()

function programOf(rule: string): Program {
  let program = programs.get(rule)
  if (!program) {
    program = environment.parse(rule) as unknown as Program
    programs.set(rule, program)
  }
  return program
}

/** Why the server would not take the rule. */
export function ruleProblem(rule: string): string | undefined {
  try {
    const checked = environment.check(rule)
    if (!checked.valid) return checked.error?.message ?? 'does not compile'
    return checked.type === 'bool' || checked.type === 'dyn'
      ? undefined
      : `must evaluate to a bool, not ${checked.type}`
  } catch (error) {
    return (error as Error).message
  }
}

/** Every rule that `value` breaks. `old` is what the value was before; absent where there is nothing to compare with. */
export function ruleCauses(schema: Schema, value: unknown, old: unknown, path = ''): Cause[] {
  if (value === undefined || value === null || !hasRules(schema)) return []
  const causes: Cause[] = []
  for (const rule of schema['x-kubernetes-validations'] ?? []) {
    const transition = /\boldSelf\b/.test(rule.rule)
    if (transition && (old === undefined || old === null) && !rule.optionalOldSelf) continue
    const broken = brokenBy(rule, schema, value, old)
    if (broken !== undefined) causes.push(causeOf(rule, schema, value, path, broken))
  }
  if (isObject(value)) {
    for (const [key, child] of Object.entries(value)) {
      const inner = childOf(schema, key)
      const before = isObject(old) ? old[key] : undefined
      if (inner) causes.push(...ruleCauses(inner, child, before, at(schema, path, key)))
    }
  } else if (Array.isArray(value) && schema.items) {
    const items = schema.items
    const before = Array.isArray(old) ? old : []
    value.forEach((item, i) => {
      causes.push(...ruleCauses(items, item, previous(schema, item, before), `${path}[${i}]`))
    })
  }
  return causes
}

/** The message of a rule that does not hold. */
function brokenBy(rule: Rule, schema: Schema, value: unknown, old: unknown): string | undefined {
  const variables = { self: celOf(schema, value), oldSelf: old === undefined ? null : celOf(schema, old) }
  try {
    if (programOf(rule.rule)(variables) === true) return undefined
    if (rule.messageExpression) {
      const message = programOf(rule.messageExpression)(variables)
      if (typeof message === 'string' && message !== '') return message
    }
    return rule.message ?? `failed rule: ${rule.rule}`
  } catch (error) {
    return `rule ${JSON.stringify(rule.rule)} evaluated to an error: ${(error as Error).message.split('\n')[0]}`
  }
}

function causeOf(rule: Rule, schema: Schema, value: unknown, path: string, message: string): Cause {
  const field = rule.fieldPath ? `${path}${rule.fieldPath}`.replace(/^\./, '') : path || '<nil>'
  switch (rule.reason) {
    case 'FieldValueForbidden':
      return { reason: rule.reason, message: `Forbidden: ${message}`, field }
    case 'FieldValueRequired':
      return { reason: rule.reason, message: `Required value: ${message}`, field }
    default: {
      const shown = typeof value === 'object' ? (schema.type ?? 'object') : value
      const kind = rule.reason === 'FieldValueDuplicate' ? 'Duplicate value' : 'Invalid value'
      return {
        reason: rule.reason ?? 'FieldValueInvalid',
        message: `${kind}: ${JSON.stringify(shown)}: ${message}`,
        field,
      }
    }
  }
}

/** The item that this one was: only lists whose items have keys can tell. */
function previous(schema: Schema, item: unknown, before: unknown[]): unknown {
  const keys = schema['x-kubernetes-list-map-keys']
  if (schema['x-kubernetes-list-type'] !== 'map' || !keys || !isObject(item)) return undefined
  return before.find((other) => isObject(other) && keys.every((key) => equal(other[key], item[key])))
}

const known = new WeakMap<Schema, boolean>()

/** Whether anything below has a rule to obey. */
export function hasRules(schema: Schema): boolean {
  let result = known.get(schema)
  if (result === undefined) {
    result =
      schema['x-kubernetes-validations'] !== undefined ||
      Object.values(schema.properties ?? {}).some(hasRules) ||
      (schema.items !== undefined && hasRules(schema.items)) ||
      (isObject(schema.additionalProperties) && hasRules(schema.additionalProperties as Schema))
    known.set(schema, result)
  }
  return result
}

const childOf = (schema: Schema, key: string): Schema | undefined =>
  schema.properties?.[key] ??
  (isObject(schema.additionalProperties) ? (schema.additionalProperties as Schema) : undefined)

const at = (schema: Schema, path: string, key: string): string =>
  schema.properties?.[key] ? (path ? `${path}.${key}` : key) : `${path}[${key}]`

/** A value as CEL has it: integers are exact, and fields that are words of CEL have escaped names. */
function celOf(schema: Schema | undefined, value: unknown): unknown {
  if (typeof value === 'number')
    return Number.isInteger(value) && schema?.type !== 'number' ? BigInt(value) : value
  if (typeof value === 'string' && schema?.format === 'date-time') return new Date(value)
  if (Array.isArray(value)) return value.map((item) => celOf(schema?.items, item))
  if (!isObject(value)) return value
  const fields = schema?.properties !== undefined || schema?.['x-kubernetes-embedded-resource']
  const converted: Record<string, unknown> = {}
  for (const [key, child] of Object.entries(value))
    converted[fields ? escaped(key) : key] = celOf(schema && childOf(schema, key), child)
  return converted
}

const reserved =
  /^(true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while)$/

const escaped = (name: string): string =>
  reserved.test(name)
    ? `__${name}__`
    : name
        .replaceAll('__', '__underscores__')
        .replaceAll('.', '__dot__')
        .replaceAll('-', '__dash__')
        .replaceAll('/', '__slash__')
