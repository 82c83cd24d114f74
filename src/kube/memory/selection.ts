import type { KubeObject } from '../../api/meta.ts'
import { sentence } from '../../lib/fault.ts'
import { fieldsHold, holds, parseFields, parseLabels } from '../../lib/selector.ts'
import type { Selection } from '../port.ts'
import { failure, type Status } from '../status.ts'

/** A selection, compiled. What it pins down exactly is there by name, so that an index can use it. */
export interface Matcher {
  namespace?: string
  name?: string
  /** `spec.nodeName`. */
  node?: string
  /** One that it must have, and its value. */
  label?: { key: string; value: string }
  test(object: KubeObject): boolean
}

/** The matcher of a selection, or why the server refuses it. `selectable` lists the kind's own fields. */
export function matcherOf(
  { namespace, labels = '', fields = '' }: Selection,
  selectable: readonly string[],
): { ok: true; matcher: Matcher } | { ok: false; status: Status } {
  const wanted = parseLabels(labels)
  if (!wanted.ok)
    return {
      ok: false,
      status: failure('BadRequest', `unable to parse requirement: ${sentence(wanted.problems)}`),
    }
  const asked = parseFields(fields)
  if (!asked.ok)
    return { ok: false, status: failure('BadRequest', `invalid field selector: ${sentence(asked.problems)}`) }
  const known = ['metadata.name', 'metadata.namespace', ...selectable]
  const unknown = asked.value.find((r) => !known.includes(r.path))
  if (unknown)
    return { ok: false, status: failure('BadRequest', `field label not supported: ${unknown.path}`) }
  const label = wanted.value.find((r) => r.operator === 'In' && r.values.length === 1 && r.values[0] !== '')
  const exactly = (path: string) => asked.value.find((r) => r.path === path && r.equal)?.value
  const inside = namespace || undefined
  return {
    ok: true,
    matcher: {
      namespace: inside ?? exactly('metadata.namespace'),
      name: exactly('metadata.name'),
      node: exactly('spec.nodeName'),
      ...(label ? { label: { key: label.key, value: label.values[0]! } } : {}),
      test: (object) =>
        (inside === undefined || object.metadata.namespace === inside) &&
        (wanted.value.length === 0 || holds(wanted.value, object.metadata.labels)) &&
        (asked.value.length === 0 || fieldsHold(asked.value, object)),
    },
  }
}
