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

export interface LabelSelector {
  matchLabels?: Record<string, string>
  matchExpressions?: {
    key: string
    operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
    values?: string[]
  }[]
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
