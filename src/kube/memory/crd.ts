import type { KubeObject, Resource } from '../../api/meta.ts'
import { isObject } from '../../lib/json.ts'
import type { Cause } from '../status.ts'
import { hasRules, ruleCauses, ruleProblem } from './cel.ts'
import { columns } from './columns.ts'
import { schemas } from './core-schemas.ts'
import { plainKind, type ServedKind, statusOf, withStatus } from './kind.ts'
import { forbidden, required } from './metadata.ts'
import { type Schema, schemaCauses, shaped } from './schema.ts'
import { printerColumns } from './table.ts'

/** apiextensions.k8s.io/v1 CustomResourceDefinition, as far as the server obeys it. */
export interface CustomResourceDefinition extends KubeObject {
  spec: {
    group: string
    scope: 'Namespaced' | 'Cluster'
    names: {
      kind: string
      plural: string
      singular?: string
      listKind?: string
      shortNames?: string[]
      categories?: string[]
    }
    versions: {
      name: string
      served: boolean
      storage: boolean
      schema?: { openAPIV3Schema?: Schema }
      subresources?: { status?: object; scale?: object }
      additionalPrinterColumns?: PrinterColumn[]
      selectableFields?: { jsonPath: string }[]
    }[]
    conversion?: { strategy: 'None' | 'Webhook' }
    preserveUnknownFields?: boolean
  }
  status?: unknown
}

export interface PrinterColumn {
  name: string
  type: 'string' | 'integer' | 'number' | 'boolean' | 'date'
  jsonPath: string
  description?: string
  format?: string
  priority?: number
}

export const customResourceDefinitions = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
} as Resource<CustomResourceDefinition>

/** A definition of `resource` whose objects may hold anything: for tests, and until a kind has a schema. */
export const anythingGoes = (resource: Resource): CustomResourceDefinition => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: `${resource.plural}.${resource.group}` },
  spec: {
    group: resource.group,
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    names: { kind: resource.kind, plural: resource.plural },
    versions: [
      {
        name: resource.version,
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
        subresources: { status: {} },
      },
    ],
  },
})

/** The kind of CustomResourceDefinitions themselves. */
export const crdKind: ServedKind = plainKind(customResourceDefinitions, {
  shortNames: ['crd', 'crds'],
  categories: ['api-extensions'],
  status: true,
  unconditional: false,
  generations: true,
  columns: columns.crds,
  schema: schemas.crds,
  defaulted: (object) => {
    const crd = object as CustomResourceDefinition
    if (!crd.spec?.names) return crd
    const { names } = crd.spec
    return {
      ...crd,
      spec: {
        ...crd.spec,
        conversion: crd.spec.conversion ?? { strategy: 'None' },
        names: {
          ...names,
          singular: names.singular ?? names.kind?.toLowerCase(),
          listKind: names.listKind ?? `${names.kind}List`,
        },
      },
    } as CustomResourceDefinition
  },
  created: (object) => withStatus(object, undefined),
  updated: (object, old) => withStatus(object, statusOf(old)),
  causes: (object) => crdCauses(object as CustomResourceDefinition),
})

function crdCauses({ metadata, spec }: CustomResourceDefinition): Cause[] {
  if (!spec?.names?.plural || !spec.names.kind || !spec.group || !Array.isArray(spec.versions))
    return [required('spec', 'group, names.plural, names.kind and versions must be set')]
  const causes: Cause[] = []
  const name = `${spec.names.plural}.${spec.group}`
  if (metadata.name !== name)
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(metadata.name)}: must be spec.names.plural+"."+spec.group`,
      field: 'metadata.name',
    })
  if (spec.versions.filter((v) => v.storage).length !== 1)
    causes.push({
      reason: 'FieldValueInvalid',
      message: 'Invalid value: must have exactly one version marked as storage version',
      field: 'spec.versions',
    })
  spec.versions.forEach((version, i) => {
    if (!version.schema?.openAPIV3Schema)
      causes.push(required(`spec.versions[${i}].schema.openAPIV3Schema`, 'schemas are required'))
    else if (version.schema.openAPIV3Schema.type !== 'object')
      causes.push({
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${JSON.stringify(version.schema.openAPIV3Schema.type ?? '')}: must be object`,
        field: `spec.versions[${i}].schema.openAPIV3Schema.type`,
      })
  })
  spec.versions.forEach((version, i) => {
    const schema = version.schema?.openAPIV3Schema
    if (schema) causes.push(...schemaProblems(schema, `spec.versions[${i}].schema.openAPIV3Schema`))
  })
  if (spec.versions.filter((v) => v.served).length > 1 || spec.conversion?.strategy === 'Webhook')
    causes.push(forbidden('spec.versions', 'this API server serves one version of a kind, and converts none'))
  return causes
}

/** What makes a schema not structural, and rules that do not compile. */
function schemaProblems(schema: Schema, path: string): Cause[] {
  const causes: Cause[] = []
  if (
    !schema.type &&
    !schema['x-kubernetes-int-or-string'] &&
    !schema['x-kubernetes-preserve-unknown-fields']
  )
    causes.push(required(`${path}.type`, 'must not be empty for specified object fields'))
  if (schema.type === 'array' && !schema.items) causes.push(required(`${path}.items`, 'must be specified'))
  if (schema.properties && schema.additionalProperties)
    causes.push(
      forbidden(`${path}.additionalProperties`, 'additionalProperties and properties are mutual exclusive'),
    )
  ;(schema['x-kubernetes-validations'] ?? []).forEach(({ rule }, i) => {
    const problem = ruleProblem(rule)
    if (problem)
      causes.push({
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${JSON.stringify(rule)}: compilation failed: ${problem}`,
        field: `${path}.x-kubernetes-validations[${i}].rule`,
      })
  })
  for (const [key, inner] of Object.entries(schema.properties ?? {}))
    if (!(path.endsWith('openAPIV3Schema') && key === 'metadata'))
      causes.push(...schemaProblems(inner, `${path}.properties[${key}]`))
  if (schema.items) causes.push(...schemaProblems(schema.items, `${path}.items`))
  if (isObject(schema.additionalProperties))
    causes.push(...schemaProblems(schema.additionalProperties as Schema, `${path}.additionalProperties`))
  return causes
}

/** What an established definition says about itself. */
export function establishedStatus(crd: CustomResourceDefinition, now: string): unknown {
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: 'True',
    lastTransitionTime: now,
    reason,
    message,
  })
  return {
    acceptedNames: crd.spec.names,
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
    storedVersions: crd.spec.versions.filter((v) => v.storage).map((v) => v.name),
  }
}

/** The kind that a definition defines. */
export function definedKind(crd: CustomResourceDefinition): ServedKind {
  const { group, names, scope, versions } = crd.spec
  const version = versions.find((v) => v.storage)!
  const resource: Resource = {
    group,
    version: version.name,
    kind: names.kind,
    plural: names.plural,
    namespaced: scope === 'Namespaced',
  }
  const status = version.subresources?.status !== undefined
  const schema = rootOf(version.schema?.openAPIV3Schema ?? {})
  /** What an object holds beside its type and metadata; those the server keeps itself. */
  const shape = (object: KubeObject, unknown?: string[]): KubeObject => {
    const shapedObject = shaped(schema, object, unknown) as KubeObject
    return { ...shapedObject, apiVersion: object.apiVersion, kind: object.kind, metadata: object.metadata }
  }
  return plainKind(resource, {
    singular: names.singular ?? names.kind.toLowerCase(),
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    status,
    unconditional: false,
    generations: true,
    selectable: (version.selectableFields ?? []).map((f) => f.jsonPath.replace(/^\./, '')),
    columns: printerColumns(version.additionalPrinterColumns),
    schema,
    mergeKeys: undefined,
    defaulted: shape,
    created: (object) => (status ? withStatus(object, undefined) : object),
    updated: (object, old) => (status ? withStatus(object, statusOf(old)) : object),
    statusUpdated: (object, old) => withStatus(old, statusOf(object)),
    causes: (object, old) => {
      const causes = schemaCauses(schema, object)
      const blocking = causes.some((c) => /Required|TooLong|TooMany|TypeInvalid/.test(c.reason))
      if (blocking && hasRules(schema)) return [...causes, unchecked]
      return [...causes, ...ruleCauses(schema, ruled(object), old && ruled(old))]
    },
    unknown: (object) => {
      const unknown: string[] = []
      shape(object, unknown)
      return unknown
    },
  })
}

const unchecked: Cause = {
  reason: 'FieldValueInvalid',
  message:
    'Invalid value: "null": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation',
  field: '<nil>',
}

/** Rules see of the metadata only the name. */
const ruled = (object: KubeObject): unknown => ({
  ...object,
  metadata: { name: object.metadata.name, generateName: object.metadata.generateName },
})

/** The schema of the whole object: type and metadata are always there, and checked elsewhere. */
const rootOf = (schema: Schema): Schema => ({
  ...schema,
  properties: {
    ...schema.properties,
    apiVersion: { type: 'string', ...schema.properties?.apiVersion },
    kind: { type: 'string', ...schema.properties?.kind },
    metadata: {
      type: 'object',
      ...schema.properties?.metadata,
      'x-kubernetes-preserve-unknown-fields': true,
    },
  },
})
