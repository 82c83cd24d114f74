import type { KubeObject } from '../../api/meta.ts'
import { type Changes, nodeOf } from './changes.ts'
import type { ServedKind } from './kind.ts'
import type { Matcher } from './selection.ts'

/** All objects of one kind, found by name, namespace and node without looking at the others. */
export class Shelf {
  #kind: ServedKind
  readonly changes: Changes
  #objects = new Map<string, Map<string, KubeObject>>()
  #byNode = new Map<string, Set<KubeObject>>()
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
    if (before) this.#leaveNode(before)
    else this.#size++
    const node = nodeOf(after)
    if (node === '') return
    const set = this.#byNode.get(node)
    if (set) set.add(after)
    else this.#byNode.set(node, new Set([after]))
  }

  drop(object: KubeObject): void {
    const namespace = object.metadata.namespace ?? ''
    const inside = this.#objects.get(namespace)
    inside?.delete(object.metadata.name)
    if (inside?.size === 0) this.#objects.delete(namespace)
    this.#leaveNode(object)
    this.#size--
  }

  #leaveNode(object: KubeObject): void {
    const node = nodeOf(object)
    const set = this.#byNode.get(node)
    set?.delete(object)
    if (set?.size === 0) this.#byNode.delete(node)
  }

  /** What matches, in the order of namespace and name. */
  matching(matcher: Matcher): KubeObject[] {
    const found: KubeObject[] = []
    for (const object of this.#candidates(matcher)) if (matcher.test(object)) found.push(object)
    return found.sort(byName)
  }

  *#candidates({ namespace, name, node }: Matcher): Iterable<KubeObject> {
    if (node) yield* this.#byNode.get(node) ?? []
    else if (namespace !== undefined && name !== undefined) {
      const one = this.get(namespace, name)
      if (one) yield one
    } else if (namespace !== undefined) yield* this.#objects.get(namespace)?.values() ?? []
    else for (const inside of this.#objects.values()) yield* inside.values()
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
