import type { KubeObject, Resource } from '../../api/meta.ts'
import type { Cause } from '../status.ts'
import type { NameRule } from './metadata.ts'
import type { MergeKeys } from './patch.ts'
import type { Schema } from './schema.ts'
import type { Column } from './table.ts'

/**
 * A kind as the store keeps it: what it changes about an object that is
 * written, and what it refuses. Objects come in and go out as new values;
 * nothing is changed in place.
 */
export interface ServedKind {
  resource: Resource
  singular: string
  shortNames: string[]
  categories: string[]
  names: NameRule
  /** Whether `status` is a subresource of its own. */
  status: boolean
  /** Whether an update needs no resourceVersion. */
  unconditional: boolean
  /** Whether metadata.generation counts changes of what users ask for. */
  generations: boolean
  /** Field selectors beside metadata's. */
  selectable: string[]
  columns: Column[]
  schema: Schema
  /** Where strategic merge patch merges lists; absent: the kind takes no such patch. */
  mergeKeys?: MergeKeys
  /** Defaults, and what a creator may not set; also what later writes pass. */
  defaulted(object: KubeObject): KubeObject
  created(object: KubeObject): KubeObject
  /** What an update keeps of the old object. */
  updated(object: KubeObject, old: KubeObject): KubeObject
  /** What an update of the status keeps of the old object. */
  statusUpdated(object: KubeObject, old: KubeObject): KubeObject
  causes(object: KubeObject, old?: KubeObject): Cause[]
  /** Fields that the kind does not have; they are dropped, or refused where the writer asked for strictness. */
  unknown(object: KubeObject): string[]
  /** Seconds that a deletion waits for somebody to confirm it; 0 when nobody has to. */
  grace(object: KubeObject, asked: number | undefined): number
}

/** A kind that keeps objects as they come. */
export const plainKind = (
  resource: Resource,
  rest: Partial<ServedKind> & Pick<ServedKind, 'columns' | 'schema'>,
): ServedKind => ({
  resource,
  singular: resource.kind.toLowerCase(),
  shortNames: [],
  categories: [],
  names: 'subdomain',
  status: false,
  unconditional: true,
  generations: false,
  selectable: [],
  mergeKeys: {},
  defaulted: (object) => object,
  created: (object) => object,
  updated: (object) => object,
  statusUpdated: (object, old) =>
    ({ ...old, metadata: object.metadata, status: statusOf(object) }) as KubeObject,
  causes: () => [],
  unknown: () => [],
  grace: () => 0,
  ...rest,
})

export const statusOf = (object: KubeObject): unknown => (object as { status?: unknown }).status

/** The object with another status, or none. */
export function withStatus(object: KubeObject, status: unknown): KubeObject {
  const { status: _, ...rest } = object as KubeObject & { status?: unknown }
  return status === undefined ? rest : ({ ...rest, status } as KubeObject)
}
