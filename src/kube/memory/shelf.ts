import type { KubeObject } from '../../api/meta.ts'
import { type Changes, nodeOf } from './changes.ts'
import type { ServedKind } from './kind.ts'
import type { Matcher } from './selection.ts'

/** All objects of one kind, found by name, namespace, node and label without looking at the others. */
export class Shelf {
  #kind: ServedKind
  readonly changes: Changes
  #objects = new Map<string, Map<string, KubeObject>>()
  readonly #byNode = new Groups(nodeOf)
  /** By the labels that somebody has asked for. */
  readonly #byLabel = new Map<string, Groups>()
  #size = 0

  constructor(kind: ServedKind, changes: Changes) {
    this.#kind = kind
    this.changes = changes
  }

  get kind(): ServedKind {
    return this.#kind
  }

  /** The same objects, under a definition that has changed. */
  as(kind: ServedKind): this {
    this.#kind = kind
    return this
  }

  get size(): number {
    return this.#size
  }

  get(namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(namespace)?.get(name)
  }

  put(before: KubeObject | undefined, after: KubeObject): void {
    const namespace = after.metadata.namespace ?? ''
    const inside = this.#objects.get(namespace) ?? new Map<string, KubeObject>()
    this.#objects.set(namespace, inside.set(after.metadata.name, after))
    if (!before) this.#size++
    for (const groups of [this.#byNode, ...this.#byLabel.values()]) {
      if (before) groups.delete(before)
      groups.add(after)
    }
  }

  drop(object: KubeObject): void {
    const namespace = object.metadata.namespace ?? ''
    const inside = this.#objects.get(namespace)
    inside?.delete(object.metadata.name)
    if (inside?.size === 0) this.#objects.delete(namespace)
    for (const groups of [this.#byNode, ...this.#byLabel.values()]) groups.delete(object)
    this.#size--
  }

  /** What matches, in the order of namespace and name. */
  matching(matcher: Matcher): KubeObject[] {
    const found: KubeObject[] = []
    for (const object of this.#candidates(matcher)) if (matcher.test(object)) found.push(object)
    return found.sort(byName)
  }

  *#candidates({ namespace, name, node, label }: Matcher): Iterable<KubeObject> {
    if (node) yield* this.#byNode.get(node)
    else if (label) yield* this.#labelled(label.key).get(label.value)
    else if (namespace !== undefined && name !== undefined) {
      const one = this.get(namespace, name)
      if (one) yield one
    } else if (namespace !== undefined) yield* this.#objects.get(namespace)?.values() ?? []
    else if (name !== undefined)
      for (const inside of this.#objects.values()) yield* [inside.get(name) ?? []].flat()
    else for (const inside of this.#objects.values()) yield* inside.values()
  }

  #labelled(key: string): Groups {
    let groups = this.#byLabel.get(key)
    if (!groups) {
      groups = new Groups(({ metadata: { labels = {} } }) =>
        Object.hasOwn(labels, key) ? labels[key] : undefined,
      )
      for (const object of this.everything()) groups.add(object)
      this.#byLabel.set(key, groups)
    }
    return groups
  }

  /** Everything in one namespace. */
  inside(namespace: string): KubeObject[] {
    return [...(this.#objects.get(namespace)?.values() ?? [])]
  }

  everything(): KubeObject[] {
    return [...this.#objects.values()].flatMap((inside) => [...inside.values()])
  }
}

const byName = (a: KubeObject, b: KubeObject): number =>
  compare(a.metadata.namespace ?? '', b.metadata.namespace ?? '') || compare(a.metadata.name, b.metadata.name)

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Objects by something that they say of themselves; those that say nothing are in no group. */
class Groups {
  readonly #sets = new Map<string, Set<KubeObject>>()
  readonly #keyOf: (object: KubeObject) => string | undefined

  constructor(keyOf: (object: KubeObject) => string | undefined) {
    this.#keyOf = keyOf
  }

  get(key: string): Iterable<KubeObject> {
    return this.#sets.get(key) ?? []
  }

  add(object: KubeObject): void {
    const key = this.#keyOf(object)
    if (!key) return
    const set = this.#sets.get(key)
    if (set) set.add(object)
    else this.#sets.set(key, new Set([object]))
  }

  delete(object: KubeObject): void {
    const key = this.#keyOf(object)
    const set = key ? this.#sets.get(key) : undefined
    set?.delete(object)
    if (key && set?.size === 0) this.#sets.delete(key)
  }
}
