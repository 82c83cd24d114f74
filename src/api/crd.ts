import type { Parsed, Problem } from '../lib/fault.ts'
import { isObject } from '../lib/json.ts'
import { formats, shown } from './format.ts'
import { apiVersionOf, type KubeObject, type ObjectMeta, type Resource } from './meta.ts'
import { type AnySchema, check, type Rule, type Struct } from './schema.ts'

/** A kind of ours: what its objects hold and how they are shown. */
export interface Kind<T extends KubeObject> {
  resource: Resource<T>
  shortNames: string[]
  /** For `kubectl explain`, of the object and of its fields beside the metadata. */
  schema: Struct<Omit<T, keyof KubeObject>>
  columns: Column[]
  /** Whether names are labels (63 characters, no dots), because annotations and device names are made of them. */
  labelNames?: true
  /** Written by programs alone: the API server checks patterns, which cost less than rules with messages. */
  internal?: true
  /** Whether `status` is a subresource of its own. */
  status?: true
  categories?: string[]
}

/** A column of `kubectl get`. Its path may use indices and filters; where it finds several values, the first is shown. */
export interface Column {
  name: string
  type: 'string' | 'integer' | 'date'
  jsonPath: string
  description: string
  /** Shown only with `-o wide`. */
  wide?: true
}

export const readyColumn: Column = {
  name: 'Ready',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].status',
  description: 'Whether it works as specified.',
}

export const whyColumn: Column = {
  name: 'Why',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].message',
  description: 'Why it is not ready and what to do.',
  wide: true,
}

export const ageColumn: Column = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'How long it has existed.',
}

/**
 * The object that `input` is, with defaults filled in, or every problem with
 * it: first those of its shape, then those that `together` finds in what its
 * fields mean together. `together` sees a value without the fields that have
 * a wrong shape (see `check`); what it says of those, and of what they are
 * part of, is left out.
 */
export function parseAs<T extends KubeObject>(
  kind: Kind<T>,
  input: unknown,
  together: (value: T) => Problem[] = () => [],
): Parsed<T> {
  const { resource } = kind
  if (!isObject(input))
    return { ok: false, problems: [{ path: '', problem: `${shown(input)} is not a ${resource.kind}` }] }
  const problems: Problem[] = []
  const wanted = { apiVersion: apiVersionOf(resource), kind: resource.kind }
  for (const key of ['apiVersion', 'kind'] as const)
    if (input[key] !== undefined && input[key] !== wanted[key])
      problems.push({ path: key, problem: `${shown(input[key])} is not ${wanted[key]}` })
  const name = isObject(input.metadata) ? input.metadata.name : undefined
  if (typeof name !== 'string')
    problems.push({ path: 'metadata.name', problem: 'is missing; name the object' })
  else {
    const spelled = (kind.labelNames ? formats.label : formats.subdomain).read(name)
    if ('problem' in spelled) problems.push({ path: 'metadata.name', problem: spelled.problem })
  }
  const shape = check<Omit<T, keyof KubeObject>>(kind.schema as never, input)
  problems.push(...shape.problems)
  if (!shape.value) return { ok: false, problems }
  const value = { ...wanted, metadata: input.metadata as ObjectMeta, ...shape.value } as T
  problems.push(...together(value).filter(({ path }) => !problems.some((p) => within(p.path, path))))
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value }
}

/** Whether `inner` is `outer` or a part of it: `spec.a[0].b` is within `spec.a`. */
const within = (inner: string, outer: string): boolean =>
  inner.startsWith(outer) && (inner.length === outer.length || /[.[ ]/.test(inner.charAt(outer.length)))

/** The CustomResourceDefinition that a real API server takes. */
export function crdOf<T extends KubeObject>(kind: Kind<T>) {
  const { resource } = kind
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      scope: resource.namespaced ? ('Namespaced' as const) : ('Cluster' as const),
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular:
          resource.kind === 'NetworkAttachmentDefinition'
            ? 'network-attachment-definition'
            : resource.kind.toLowerCase(),
        shortNames: kind.shortNames,
        ...(kind.categories && { categories: kind.categories }),
      },
      versions: [
        {
          name: resource.version,
          served: true,
          storage: true,
          additionalPrinterColumns: kind.columns.map(({ wide, ...column }) => ({
            ...column,
            ...(wide && { priority: 1 }),
          })),
          ...(kind.status && { subresources: { status: {} } }),
          schema: { openAPIV3Schema: objectSchema(kind) },
        },
      ],
    },
  }
}

export type CustomResourceDefinition = ReturnType<typeof crdOf>

/** A structural schema (apiextensions v1), as plain JSON. */
export type OpenAPI = Record<string, unknown>

function objectSchema<T extends KubeObject>(kind: Kind<T>): OpenAPI {
  const body = openAPIOf(kind.schema as unknown as AnySchema, kind.internal ? 'pattern' : 'rule')
  const properties = {
    apiVersion: { type: 'string', description: `Always ${apiVersionOf(kind.resource)}.` },
    kind: { type: 'string', description: `Always ${kind.resource.kind}.` },
    metadata: { type: 'object' },
    ...(body.properties as OpenAPI),
  }
  const rules = [...(kind.labelNames ? [labelName] : []), ...(kind.schema.rules ?? [])]
  return { ...body, properties, ...(rules.length > 0 && { 'x-kubernetes-validations': rules }) }
}

const labelName: Rule = {
  rule: `self.metadata.name.size() <= ${formats.label.maxLength} && self.metadata.name.matches(r'${formats.label.pattern}')`,
  message: `metadata.name is not ${formats.label.expected}`,
}

function openAPIOf(schema: AnySchema, texts: 'pattern' | 'rule'): OpenAPI {
  const { description, rules = [] } = schema
  const base = {
    description,
    ...(schema.default !== undefined && { default: schema.default }),
    ...(rules.length > 0 && { 'x-kubernetes-validations': rules }),
  }
  switch (schema.type) {
    case 'string': {
      const { format, maxLength = format?.maxLength } = schema
      const own = format && {
        rule: `self.matches(r'${format.pattern}')`,
        message: `must be ${format.expected}`,
      }
      return {
        type: 'string',
        ...base,
        ...(schema.enum && { enum: [...schema.enum] }),
        ...(maxLength !== undefined && { maxLength }),
        ...(format && texts === 'pattern' && { pattern: format.pattern }),
        ...(own && texts === 'rule' && { 'x-kubernetes-validations': [own, ...rules] }),
      }
    }
    case 'integer':
      return { type: 'integer', format: 'int32', ...base, minimum: schema.minimum, maximum: schema.maximum }
    case 'boolean':
      return { type: 'boolean', ...base }
    case 'map':
      return {
        type: 'object',
        ...base,
        maxProperties: schema.maxItems,
        additionalProperties: { type: 'string', ...schema.values },
      }
    case 'array':
      return {
        type: 'array',
        ...base,
        maxItems: schema.maxItems,
        items: openAPIOf(schema.items, texts),
        'x-kubernetes-list-type': schema.keys ? 'map' : schema.set ? 'set' : 'atomic',
        ...(schema.keys && { 'x-kubernetes-list-map-keys': schema.keys }),
      }
    case 'object': {
      const fields = Object.entries(schema.fields)
      const required = fields.filter(([, f]) => f.required).map(([name]) => name)
      return {
        type: 'object',
        ...base,
        ...(required.length > 0 && { required }),
        properties: Object.fromEntries(fields.map(([name, f]) => [name, openAPIOf(f, texts)])),
        ...(schema.atomic && { 'x-kubernetes-map-type': 'atomic' }),
      }
    }
  }
}

/** The rule that `field` of this object never changes; where it is absent, `absent` (a CEL literal) is meant. */
export function fixed(field: string, remedy: string, absent?: string): Rule {
  const value = (object: string) => `(has(${object}.${field}) ? ${object}.${field} : ${absent})`
  return {
    rule:
      absent === undefined
        ? `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`
        : `${value('self')} == ${value('oldSelf')}`,
    message: `${field} cannot be changed; ${remedy}`,
  }
}
