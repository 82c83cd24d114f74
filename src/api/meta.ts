import type { Problem } from '../lib/fault.ts'
import { parseSelector } from '../lib/selector.ts'
import type { List, Struct } from './schema.ts'

/** What every Kubernetes object has (apimachinery meta/v1), as far as Polynet reads or writes it. */
export interface ObjectMeta {
  name: string
  namespace?: string
  generateName?: string
  uid?: string
  resourceVersion?: string
  generation?: number
  creationTimestamp?: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: OwnerReference[]
  finalizers?: string[]
  managedFields?: unknown[]
}

export interface OwnerReference {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: ObjectMeta
}

/** The standard condition (KEP-1623): `Ready`, with a reason for programs and a message that says what to do. */
export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason: string
  message: string
  observedGeneration?: number
  lastTransitionTime: string
}

/** Whether the object's Ready condition says so. */
export const isReady = ({
  status,
}: {
  status?: { conditions?: { type: string; status: string }[] }
}): boolean => status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') ?? false

export interface LabelSelector {
  matchLabels?: Record<string, string>
  matchExpressions?: {
    key: string
    operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
    values?: string[]
  }[]
}

export const conditions: List<Condition> = {
  type: 'array',
  description: 'What works and what does not; `Ready` sums it up.',
  maxItems: 16,
  keys: ['type'],
  items: {
    type: 'object',
    description: 'One aspect of the state.',
    fields: {
      type: { type: 'string', required: true, description: 'The aspect, such as Ready.', maxLength: 316 },
      status: {
        type: 'string',
        required: true,
        description: 'Whether it holds.',
        enum: ['True', 'False', 'Unknown'],
      },
      reason: {
        type: 'string',
        required: true,
        description: 'Why, in one word for programs.',
        maxLength: 1024,
      },
      message: {
        type: 'string',
        required: true,
        description: 'Why, and what to do about it.',
        maxLength: 32768,
      },
      observedGeneration: {
        type: 'integer',
        description: 'The metadata.generation this was said of; older means outdated.',
        minimum: 0,
        maximum: 2 ** 31 - 1,
      },
      lastTransitionTime: {
        type: 'string',
        required: true,
        description: 'When the status last changed, in RFC 3339.',
        maxLength: 64,
      },
    },
  },
}

/** The schema of a label selector that says `description`. */
export const labelSelector = (description: string): Struct<LabelSelector> => ({
  type: 'object',
  atomic: true,
  description,
  fields: {
    matchLabels: {
      type: 'map',
      description: 'Labels that must have these values.',
      maxItems: 32,
      values: { description: 'The value the label must have.', maxLength: 63 },
    },
    matchExpressions: {
      type: 'array',
      description: 'Requirements that must hold, all of them.',
      maxItems: 32,
      items: {
        type: 'object',
        description: 'One requirement on a label.',
        fields: {
          key: { type: 'string', required: true, description: 'The label.', maxLength: 317 },
          operator: {
            type: 'string',
            required: true,
            description: 'How the label relates to the values.',
            enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'],
          },
          values: {
            type: 'array',
            description: 'For In and NotIn: at least one. For Exists and DoesNotExist: none.',
            maxItems: 64,
            items: { type: 'string', description: 'A value of the label.', maxLength: 63 },
          },
        },
      },
    },
  },
})

/** What is wrong with a selector at `path` beyond its shape. */
export function selectorProblems(selector: LabelSelector | undefined, path: string): Problem[] {
  const parsed = parseSelector(selector ?? {})
  return parsed.ok ? [] : parsed.problems.map((p) => ({ ...p, path: `${path}.${p.path}` }))
}

/** A kind as the API server serves it. `T` is the object's type. */
export interface Resource<T extends KubeObject = KubeObject> {
  group: string
  version: string
  kind: string
  plural: string
  namespaced: boolean
  /** Never set; carries the type. */
  readonly example?: T
}

export const apiVersionOf = (r: { group: string; version: string }): string =>
  r.group === '' ? r.version : `${r.group}/${r.version}`

export const group = 'polynet.dev'
export const version = 'v1alpha1'
