import type { KubeObject, ObjectMeta } from '../../api/meta.ts'
import { isLabelKey, isLabelValue } from '../../lib/selector.ts'
import type { Cause } from '../status.ts'

/** Which names a kind allows: RFC 1123 subdomains (most), labels (namespaces), or path segments. */
export type NameRule = 'subdomain' | 'label'

const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** Everything wrong with an object's metadata. */
export function metadataCauses(object: KubeObject, rule: NameRule): Cause[] {
  const { name, labels = {}, annotations = {}, ownerReferences = [], finalizers = [] } = object.metadata
  const causes: Cause[] = []
  const invalid = (field: string, value: unknown, why: string) =>
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
      field,
    })
  if (!name) causes.push(required('metadata.name', 'name or generateName is required'))
  else if (name.length > (rule === 'label' ? 63 : 253))
    invalid('metadata.name', name, `must be no more than ${rule === 'label' ? 63 : 253} characters`)
  else if (!(rule === 'label' ? label : subdomain).test(name))
    invalid(
      'metadata.name',
      name,
      `a lowercase RFC 1123 ${rule} must consist of lower case alphanumeric characters, '-'${rule === 'label' ? '' : " or '.'"}, and must start and end with an alphanumeric character`,
    )
  for (const [key, value] of Object.entries(labels)) {
    if (!isLabelKey(key)) invalid('metadata.labels', key, qualifiedName)
    if (typeof value !== 'string' || !isLabelValue(value)) invalid('metadata.labels', value, labelValue)
  }
  let size = 0
  for (const [key, value] of Object.entries(annotations)) {
    if (!isLabelKey(key.toLowerCase())) invalid('metadata.annotations', key, qualifiedName)
    if (typeof value !== 'string') invalid('metadata.annotations', value, 'must be a string')
    size += key.length + String(value).length
  }
  if (size > 256 * 1024)
    causes.push({
      reason: 'FieldValueTooLong',
      message: 'Too long: may not be more than 262144 bytes',
      field: 'metadata.annotations',
    })
  ownerReferences.forEach((owner, i) => {
    for (const key of ['apiVersion', 'kind', 'name', 'uid'] as const)
      if (!owner[key])
        causes.push(required(`metadata.ownerReferences[${i}].${key}`, `${key} must not be empty`))
  })
  for (const finalizer of finalizers)
    if (!isLabelKey(finalizer)) invalid('metadata.finalizers', finalizer, qualifiedName)
  return causes
}

const qualifiedName =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
const labelValue =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character, at most 63 of them"

export const required = (field: string, why = ''): Cause => ({
  reason: 'FieldValueRequired',
  message: why ? `Required value: ${why}` : 'Required value',
  field,
})

export const forbidden = (field: string, why: string): Cause => ({
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${why}`,
  field,
})

/** What an update may not touch stays as the server set it. */
export function keepSystemFields(next: ObjectMeta, old: ObjectMeta): ObjectMeta {
  const { managedFields: _, ...kept } = next
  return {
    ...kept,
    namespace: old.namespace,
    uid: old.uid,
    resourceVersion: old.resourceVersion,
    generation: old.generation,
    creationTimestamp: old.creationTimestamp,
    deletionTimestamp: old.deletionTimestamp,
    deletionGracePeriodSeconds: old.deletionGracePeriodSeconds,
  }
}

/** What an update of metadata may not do. */
export function metadataUpdateCauses(next: ObjectMeta, old: ObjectMeta): Cause[] {
  const added = (next.finalizers ?? []).filter((f) => !old.finalizers?.includes(f))
  if (!old.deletionTimestamp || added.length === 0) return []
  return [
    forbidden(
      'metadata.finalizers',
      `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((f) => JSON.stringify(f)).join(', ')}}`,
    ),
  ]
}
