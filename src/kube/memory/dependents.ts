import type { KubeObject, Resource } from '../../api/meta.ts'

/** Where a dependent is. */
export interface Dependent {
  resource: Resource
  namespace: string
  name: string
  uid: string
}

/** Who owns whom, by UID, and whom to look at since something changed: the garbage collector's memory. */
export class Dependents {
  /** Namespace of everything that lives; empty for what has none. */
  #alive = new Map<string, string>()
  #of = new Map<string, Map<string, Dependent>>()
  #suspects: Dependent[] = []

  replace(resource: Resource, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const old = before?.metadata.ownerReferences
    const now = after?.metadata.ownerReferences
    const { uid = '', namespace = '', name } = (after ?? before)!.metadata
    if (!before) this.#alive.set(uid, namespace)
    if (!after) this.#alive.delete(uid)
    if (old !== now) {
      for (const owner of old ?? []) {
        const all = this.#of.get(owner.uid)
        all?.delete(uid)
        if (all?.size === 0) this.#of.delete(owner.uid)
      }
      const dependent = { resource, namespace, name, uid }
      for (const owner of now ?? []) {
        const all = this.#of.get(owner.uid)
        if (all) all.set(uid, dependent)
        else this.#of.set(owner.uid, new Map([[uid, dependent]]))
      }
      if (now?.length) this.#suspects.push(dependent)
    }
    if (!after) this.#suspects.push(...this.of(uid))
  }

  of(uid: string): Dependent[] {
    return [...(this.#of.get(uid)?.values() ?? [])]
  }

  /** Whether the owner lives where a dependent in `namespace` may have it: there, or in no namespace. */
  isAlive(uid: string, namespace = ''): boolean {
    const home = this.#alive.get(uid)
    return home !== undefined && (home === '' || home === namespace)
  }

  next(): Dependent | undefined {
    return this.#suspects.pop()
  }
}
