import type { KubeObject } from '../api/meta.ts'
import type { Mirror } from './mirror.ts'

/** A mirror's objects by group, found without looking at those of others. */
export class Grouped<T extends KubeObject> {
  readonly #groups = new Map<string, { objects: Map<string, T>; revision: number }>()
  #latest = 0

  /** `all` must not have been listed yet. What has no group is in none. */
  constructor(all: Mirror<T>, groupOf: (object: T) => string | undefined) {
    all.onChange(({ type, object, before }) => {
      const was = before && groupOf(before)
      const is = type === 'DELETED' ? undefined : groupOf(object)
      if (before && was !== undefined && was !== is) this.#drop(was, before)
      if (is !== undefined) this.#put(is, object)
    })
  }

  /** In the order of the mirror's list. */
  of(group: string): T[] {
    return [...(this.#groups.get(group)?.objects.values() ?? [])]
  }

  /** Another one after every change of the group's objects; 0 while there are none. */
  revisionOf(group: string): number {
    return this.#groups.get(group)?.revision ?? 0
  }

  #put(group: string, object: T): void {
    const objects = this.#groups.get(group)?.objects ?? new Map<string, T>()
    objects.set(keyOf(object), object)
    this.#groups.set(group, { objects, revision: ++this.#latest })
  }

  #drop(group: string, object: T): void {
    const objects = this.#groups.get(group)?.objects
    if (!objects?.delete(keyOf(object))) return
    if (objects.size === 0) this.#groups.delete(group)
    else this.#groups.set(group, { objects, revision: ++this.#latest })
  }
}

const keyOf = ({ metadata }: KubeObject): string => `${metadata.namespace}/${metadata.name}`
