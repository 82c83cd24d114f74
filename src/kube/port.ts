import type { KubeObject, Resource } from '../api/meta.ts'

/**
 * A Kubernetes API server, as far as Polynet needs one. Two implementations,
 * `cluster/` (over HTTP, to a real server) and `memory/` (one in this
 * process), held to the same `conformance.ts`.
 *
 * Every method rejects with a Fault: `missing`, `exists`, `conflict`,
 * `invalid`, `forbidden`, `expired`, `unsupported`, or `unavailable` when the
 * server does not answer in time.
 */
export interface Kube {
  get<T extends KubeObject>(resource: Resource<T>, ref: Ref): Promise<T>
  /** All objects that match, and the resource version to watch from. Pages are fetched until there are no more. */
  list<T extends KubeObject>(resource: Resource<T>, selection?: Selection): Promise<Listing<T>>
  /**
   * Changes after `since`, until `signal` aborts (then it ends) or the server
   * ends it (then it ends too; watch again from the last version seen, which
   * bookmarks keep fresh). Rejects with `expired` when `since` is too old, and
   * with `unavailable` when it breaks off.
   */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    since: string,
    selection: Selection & { signal: AbortSignal },
  ): AsyncIterable<Change<T>>
  create<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T>
  /** Replaces the object; `conflict` unless its resourceVersion (when it carries one) is the current one. */
  update<T extends KubeObject>(resource: Resource<T>, object: T, subresource?: 'status'): Promise<T>
  /** Resolves once it is done; what the object is then, `get` and watches say. */
  patch(resource: Resource, ref: Ref, patch: Patch): Promise<unknown>
  /** Deletes, or marks as being deleted while finalizers remain. */
  delete<T extends KubeObject>(resource: Resource<T>, ref: Ref, only?: Preconditions): Promise<void>
}

export interface Ref {
  namespace?: string
  name: string
}

export interface Selection {
  /** Absent: all namespaces. */
  namespace?: string
  /** As in `kubectl -l`. */
  labels?: string
  /** As in `kubectl --field-selector`: `spec.nodeName=n1`. */
  fields?: string
}

export interface Listing<T> {
  items: T[]
  resourceVersion: string
}

export type Change<T> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; resourceVersion: string }

export interface Patch {
  /** RFC 7386, RFC 6902, or Kubernetes' strategic merge. */
  type: 'merge' | 'json' | 'strategic'
  body: unknown
  subresource?: 'status'
}

export interface Preconditions {
  uid?: string
  resourceVersion?: string
  gracePeriodSeconds?: number
}
