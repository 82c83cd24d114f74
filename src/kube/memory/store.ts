import type { Pod } from '../../api/core.ts'
import { apiVersionOf, type KubeObject, type Resource } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { type Clock, realClock } from '../../lib/clock.ts'
import { equal, isObject } from '../../lib/json.ts'
import type { Change, Kube, Listing, Patch, Preconditions, Ref, Selection } from '../port.ts'
import {
  alreadyExists,
  type Cause,
  conflict,
  doing,
  failure,
  faultOf,
  invalid,
  modified,
  nameOf,
  noSuchKind,
  notFound,
  type Status,
} from '../status.ts'
import { Changes, type Watcher } from './changes.ts'
import { coreKinds } from './core-kinds.ts'
import {
  type CustomResourceDefinition,
  crdKind,
  customResourceDefinitions,
  definedKind,
  establishedStatus,
} from './crd.ts'
import { Dependents } from './dependents.ts'
import { type ServedKind, statusOf, withStatus } from './kind.ts'
import { keepSystemFields, metadataCauses, metadataUpdateCauses } from './metadata.ts'
import { patched } from './patch.ts'
import { type Matcher, matcherOf } from './selection.ts'
import { Shelf } from './shelf.ts'
import { frozen } from './value.ts'

export interface MemoryKubeOptions {
  clock?: Clock
  /** Writes per kind that a watch can still start from. */
  history?: number
  /** Where UIDs and generated names come from. */
  random?: () => number
  /** CustomResourceDefinitions that are there from the start. */
  crds?: readonly KubeObject[]
}

/** How a write is to be done, beyond what the port says. */
export interface WriteOptions {
  /** Everything but the writing. */
  dryRun?: boolean
  /** Refuse fields that the kind does not have, instead of dropping them. */
  strict?: boolean
}

/**
 * A Kubernetes API server in this process, for tests, sim and lab: the kinds
 * of Kubernetes that Polynet needs, and whatever CustomResourceDefinitions
 * are created. Objects that it hands out are frozen and shared.
 */
export class MemoryKube implements Kube {
  readonly clock: Clock
  readonly #random: () => number
  readonly #history: number
  readonly #shelves = new Map<string, Shelf>()
  readonly #dependents = new Dependents()
  #version = 0
  #compactions = 0

  constructor({
    clock = realClock,
    history = 10_000,
    random = Math.random,
    crds = [],
  }: MemoryKubeOptions = {}) {
    this.clock = clock
    this.#random = random
    this.#history = history
    for (const kind of [...coreKinds, crdKind]) this.#serve(kind)
    for (const name of ['default', 'kube-node-lease', 'kube-public', 'kube-system'])
      this.#create(this.#shelfOf(resources.namespaces, 'start'), namespaceNamed(name), {}, 'start')
    for (const crd of crds) this.#create(this.#shelfOf(customResourceDefinitions, 'start'), crd, {}, 'start')
  }

  // Reading

  async get<T extends KubeObject>(resource: Resource<T>, ref: Ref): Promise<T> {
    const what = doing('get', resource, ref)
    return this.#existing(this.#shelfOf(resource, what), ref, what) as T
  }

  async list<T extends KubeObject>(resource: Resource<T>, selection: Selection = {}): Promise<Listing<T>> {
    const what = doing('list', resource, selection)
    const shelf = this.#shelfOf(resource, what)
    const items = shelf.matching(this.#matcher(shelf, selection, what)) as T[]
    return { items, resourceVersion: String(this.#version) }
  }

  watch<T extends KubeObject>(
    resource: Resource<T>,
    since: string,
    selection: Selection & { signal: AbortSignal },
  ): AsyncIterable<Change<T>> {
    return {
      [Symbol.asyncIterator]: () =>
        this.watcher(resource, since, selection) as AsyncIterator<KubeObject> as AsyncIterator<Change<T>>,
    }
  }

  /** A watch that has begun. `since` may be empty: then all there is comes first. */
  watcher(resource: Resource, since: string, selection: Selection & { signal: AbortSignal }): Watcher {
    const what = doing('watch', resource, selection)
    const shelf = this.#shelfOf(resource, what)
    const matcher = this.#matcher(shelf, selection, what)
    const whole = since === '' || since === '0'
    if (!whole && !/^[0-9]+$/.test(since))
      throw faultOf(
        failure('BadRequest', `Invalid value: ${JSON.stringify(since)}: resourceVersion must be a number`),
        what,
      )
    const version = whole ? this.#version : Number(since)
    const initial = whole ? shelf.matching(matcher) : []
    const begun = shelf.changes.watch(version, matcher, initial, selection.signal)
    if ('refused' in begun) throw faultOf(begun.refused, what)
    return begun.watcher
  }

  /** Every kind that is served now, Kubernetes' own first. */
  kinds(): ServedKind[] {
    return [...this.#shelves.values()].map((shelf) => shelf.kind)
  }

  // Writing

  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: WriteOptions = {},
  ): Promise<T> {
    const what = doing('create', resource, object.metadata)
    return this.#create(this.#shelfOf(resource, what), object, options, what) as T
  }

  async update<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    subresource?: 'status',
    options: WriteOptions = {},
  ): Promise<T> {
    const what = doing(subresource ? `update ${subresource} of` : 'update', resource, object.metadata)
    const shelf = this.#shelfOf(resource, what, subresource)
    const old = this.#existing(shelf, object.metadata, what)
    return this.#update(shelf, old, frozen(object), subresource, options, what) as T
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    patch: Patch,
    options: WriteOptions = {},
  ): Promise<T> {
    const what = doing(patch.subresource ? `patch ${patch.subresource} of` : 'patch', resource, ref)
    const shelf = this.#shelfOf(resource, what, patch.subresource)
    const old = this.#existing(shelf, ref, what)
    const result = patched(old, patch, shelf.kind.mergeKeys)
    if (!result.ok) throw faultOf(result.status, what)
    const next = frozen(result.value) as KubeObject
    if (!isObject(next) || !isObject(next.metadata) || next.metadata.name !== old.metadata.name)
      throw faultOf(failure('BadRequest', 'the name of the object may not be changed'), what)
    return this.#update(shelf, old, next, patch.subresource, options, what) as T
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    only: Preconditions = {},
  ): Promise<void> {
    this.remove(resource, ref, only)
  }

  /** Deletes; what is left of the object, or its last state and `gone`. */
  remove(
    resource: Resource,
    ref: Ref,
    only: Preconditions & { orphan?: boolean; dryRun?: boolean } = {},
  ): { object: KubeObject; gone: boolean } {
    const what = doing('delete', resource, ref)
    const shelf = this.#shelfOf(resource, what)
    const object = this.#existing(shelf, ref, what)
    const { uid, resourceVersion } = object.metadata
    for (const [name, asked, is] of [
      ['UID', only.uid, uid],
      ['ResourceVersion', only.resourceVersion, resourceVersion],
    ]) {
      if (asked === undefined || asked === is) continue
      const why = `Precondition failed: ${name} in precondition: ${asked}, ${name} in object meta: ${is}`
      throw faultOf(conflict(resource, ref.name, why), what)
    }
    if (only.dryRun) return { object, gone: true }
    if (only.orphan) for (const id of this.#dependents.of(uid!)) this.#disown(id, uid!)
    return this.#remove(shelf, object, only.gracePeriodSeconds)
  }

  /** Puts a pod on a node, as the scheduler's binding does. */
  async bind(ref: Ref, node: string): Promise<Pod> {
    const what = `bind pod ${ref.namespace}/${ref.name} to ${node}`
    const shelf = this.#shelfOf(resources.pods, what)
    const pod = this.#existing(shelf, ref, what) as Pod
    if (pod.spec.nodeName)
      throw faultOf(
        conflict(
          resources.pods,
          ref.name,
          `pod ${ref.name} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`,
        ),
        what,
      )
    return this.#commit(shelf, pod, { ...pod, spec: { ...pod.spec, nodeName: node } } as Pod) as Pod
  }

  /** Forgets history, so that a watch from before now is `expired`; as etcd's compaction does. */
  compact(): void {
    this.#compactions++
    for (const { changes } of this.#shelves.values()) changes.forget(0)
  }

  /** How often history was forgotten. */
  get compactions(): number {
    return this.#compactions
  }

  /** Sends every watch a bookmark, instead of waiting for the minute. */
  bookmark(): void {
    for (const { changes } of this.#shelves.values()) changes.bookmark()
  }

  // How it is done

  #serve(kind: ServedKind): void {
    const key = nameOf(kind.resource)
    const shelf = this.#shelves.get(key)
    this.#shelves.set(
      key,
      shelf ? shelf.as(kind) : new Shelf(kind, new Changes(this.#history, this.clock, () => this.#version)),
    )
  }

  #shelfOf(resource: Resource, what: string, subresource?: 'status'): Shelf {
    const shelf = this.#shelves.get(nameOf(resource))
    if (shelf && shelf.kind.resource.version === resource.version) {
      if (!subresource || shelf.kind.status) return shelf
      throw faultOf(failure('NotFound', 'the server could not find the requested resource'), what)
    }
    throw faultOf(noKind(resource), what)
  }

  #matcher(shelf: Shelf, selection: Selection, what: string): Matcher {
    const compiled = matcherOf(selection, shelf.kind.selectable)
    if (!compiled.ok) throw faultOf(compiled.status, what)
    return compiled.matcher
  }

  #existing(shelf: Shelf, ref: Ref, what: string): KubeObject {
    const found = shelf.get(shelf.kind.resource.namespaced ? (ref.namespace ?? '') : '', ref.name)
    if (!found) throw faultOf(notFound(shelf.kind.resource, ref.name), what)
    return found
  }

  #create(shelf: Shelf, given: KubeObject, options: WriteOptions, what: string): KubeObject {
    const { kind } = shelf
    const { resource } = kind
    const namespace = resource.namespaced ? given.metadata.namespace : undefined
    this.#checkKind(resource, given, what)
    if (resource.namespaced && !namespace)
      throw faultOf(failure('BadRequest', 'an empty namespace may not be set during creation'), what)
    if (given.metadata.resourceVersion)
      throw faultOf(failure('BadRequest', 'resourceVersion should not be set on objects to be created'), what)
    const { generateName } = given.metadata
    const name = given.metadata.name || (generateName ? `${generateName.slice(0, 58)}${this.#suffix()}` : '')
    const { managedFields, deletionTimestamp, deletionGracePeriodSeconds, ...metadata } = given.metadata
    const fresh = kind.created(
      kind.defaulted({
        ...given,
        metadata: {
          ...metadata,
          name,
          namespace,
          uid: this.#uid(),
          creationTimestamp: this.#time(),
          generation: kind.generations ? 1 : undefined,
        },
      }),
    )
    this.#refuseUnknown(kind, given, options, what)
    const causes = [...metadataCauses(fresh, kind.names), ...kind.causes(fresh)]
    if (causes.length > 0) throw faultOf(invalid(resource, name, causes), what)
    if (namespace !== undefined) this.#checkNamespace(resource, namespace, name, what)
    if (shelf.get(namespace ?? '', name)) throw faultOf(alreadyExists(resource, name), what)
    if (options.dryRun) return frozen(fresh)
    const created = this.#commit(shelf, undefined, fresh)
    this.#sweep()
    return created
  }

  #update(
    shelf: Shelf,
    old: KubeObject,
    given: KubeObject,
    subresource: 'status' | undefined,
    options: WriteOptions,
    what: string,
  ): KubeObject {
    const { kind } = shelf
    const { resource } = kind
    const { name } = old.metadata
    this.#checkKind(resource, given, what)
    if (given.metadata.uid && given.metadata.uid !== old.metadata.uid)
      throw faultOf(
        conflict(
          resource,
          name,
          `Precondition failed: UID in precondition: ${given.metadata.uid}, UID in object meta: ${old.metadata.uid}`,
        ),
        what,
      )
    if (!given.metadata.resourceVersion && !kind.unconditional)
      throw faultOf(invalid(resource, name, [unversioned]), what)
    if (given.metadata.resourceVersion && given.metadata.resourceVersion !== old.metadata.resourceVersion)
      throw faultOf(conflict(resource, name, modified), what)
    this.#refuseUnknown(kind, given, options, what)
    const whole = kind.defaulted({ ...given, metadata: keepSystemFields(given.metadata, old.metadata) })
    const next = frozen(subresource ? kind.statusUpdated(whole, old) : kind.updated(whole, old))
    const causes = [
      ...metadataCauses(next, kind.names),
      ...metadataUpdateCauses(next.metadata, old.metadata),
      ...kind.causes(next, old),
    ]
    if (causes.length > 0) throw faultOf(invalid(resource, name, causes), what)
    if (equal(next, old)) return old
    const generation =
      kind.generations && !equal(asked(next, kind.status), asked(old, kind.status))
        ? (old.metadata.generation ?? 0) + 1
        : old.metadata.generation
    const stamped = { ...next, metadata: { ...next.metadata, generation } }
    if (options.dryRun) return frozen(stamped)
    if (isDone(stamped) && !(isNamespace(old) && this.#contents(old).length > 0))
      return this.#drop(shelf, old, stamped)
    const updated = this.#commit(shelf, old, stamped)
    this.#sweep()
    return updated
  }

  #remove(shelf: Shelf, object: KubeObject, askedSeconds?: number): { object: KubeObject; gone: boolean } {
    const { metadata } = object
    const seconds = shelf.kind.grace(object, askedSeconds)
    const contents = isNamespace(object) ? this.#contents(object) : []
    if (seconds === 0 && !metadata.finalizers?.length && contents.length === 0)
      return { object: this.#drop(shelf, object, object), gone: true }
    if (metadata.deletionTimestamp && seconds >= (metadata.deletionGracePeriodSeconds ?? 0))
      return { object, gone: false }
    const marked = this.#commit(shelf, object, {
      ...(isNamespace(object)
        ? withStatus(object, { ...(statusOf(object) as object), phase: 'Terminating' })
        : object),
      metadata: {
        ...metadata,
        generation: metadata.generation === undefined ? undefined : metadata.generation + 1,
        deletionTimestamp: this.#time(seconds),
        deletionGracePeriodSeconds: seconds,
      },
    })
    if (isNamespace(object)) return this.#empty(shelf, marked)
    return { object: marked, gone: false }
  }

  /** Deletes what is in the namespace, and the namespace once nothing is. */
  #empty(shelf: Shelf, namespace: KubeObject): { object: KubeObject; gone: boolean } {
    for (const [inside, object] of this.#contents(namespace)) {
      const current = inside.get(namespace.metadata.name, object.metadata.name)
      if (current && !current.metadata.deletionTimestamp) this.#remove(inside, current)
    }
    const left = shelf.get('', namespace.metadata.name)
    return { object: left ?? namespace, gone: left === undefined }
  }

  #contents(namespace: KubeObject): [Shelf, KubeObject][] {
    return [...this.#shelves.values()].flatMap((shelf) =>
      shelf.inside(namespace.metadata.name).map((object): [Shelf, KubeObject] => [shelf, object]),
    )
  }

  /** Writes one object: gives it the next version, and tells those who watch. */
  #commit(shelf: Shelf, before: KubeObject | undefined, after: KubeObject): KubeObject {
    const { kind } = shelf
    let written = after
    if (kind === crdKind) {
      const crd = after as CustomResourceDefinition
      const since = (statusOf(before ?? after) as { conditions?: { lastTransitionTime: string }[] })
        ?.conditions?.[0]
      written = withStatus(after, establishedStatus(crd, since?.lastTransitionTime ?? this.#time()))
      this.#serve(definedKind(crd))
    }
    const version = ++this.#version
    const stored = frozen({ ...written, metadata: { ...written.metadata, resourceVersion: String(version) } })
    shelf.put(before, stored)
    this.#dependents.replace(kind.resource, before, stored)
    shelf.changes.add(version, before, stored)
    return stored
  }

  /** The object is gone: `last` is what it was. Whatever hung on it goes too. */
  #drop(shelf: Shelf, before: KubeObject, last: KubeObject): KubeObject {
    if (shelf.kind === crdKind) this.#undefine(before as CustomResourceDefinition)
    shelf.drop(before)
    this.#dependents.replace(shelf.kind.resource, before, undefined)
    shelf.changes.add(++this.#version, before, undefined)
    this.#sweep()
    const namespaces = this.#shelves.get('namespaces')!
    const home = namespaces.get('', before.metadata.namespace ?? '')
    if (
      home?.metadata.deletionTimestamp &&
      this.#contents(home).length === 0 &&
      !home.metadata.finalizers?.length
    )
      this.#drop(namespaces, home, home)
    return last
  }

  #undefine(crd: CustomResourceDefinition): void {
    const key = `${crd.spec.names.plural}.${crd.spec.group}`
    const shelf = this.#shelves.get(key)
    if (!shelf) return
    for (const object of shelf.everything())
      if (shelf.get(object.metadata.namespace ?? '', object.metadata.name)) this.#drop(shelf, object, object)
    shelf.changes.end()
    this.#shelves.delete(key)
  }

  /** Deletes what has lost all its owners, and drops references to those that are gone (garbage collection). */
  #sweep(): void {
    for (;;) {
      const next = this.#dependents.next()
      if (!next) return
      const shelf = this.#shelves.get(nameOf(next.resource))
      const object = shelf?.get(next.namespace, next.name)
      if (!shelf || !object || object.metadata.uid !== next.uid) continue
      const owners = object.metadata.ownerReferences ?? []
      const alive = owners.filter((owner) => this.#dependents.isAlive(owner.uid, object.metadata.namespace))
      if (alive.length === owners.length) continue
      if (alive.length === 0) {
        if (!object.metadata.deletionTimestamp) this.#remove(shelf, object)
      } else
        this.#commit(shelf, object, { ...object, metadata: { ...object.metadata, ownerReferences: alive } })
    }
  }

  #disown(id: { resource: Resource; namespace: string; name: string }, owner: string): void {
    const shelf = this.#shelves.get(nameOf(id.resource))
    const object = shelf?.get(id.namespace, id.name)
    if (!shelf || !object) return
    const ownerReferences = object.metadata.ownerReferences?.filter((o) => o.uid !== owner)
    this.#commit(shelf, object, { ...object, metadata: { ...object.metadata, ownerReferences } })
  }

  #checkKind(resource: Resource, object: KubeObject, what: string): void {
    if (object.apiVersion === apiVersionOf(resource) && object.kind === resource.kind) return
    throw faultOf(
      failure(
        'BadRequest',
        `${object.kind ?? 'an object without kind'} in version ${JSON.stringify(object.apiVersion ?? '')} cannot be handled as a ${resource.kind} of ${apiVersionOf(resource)}`,
      ),
      what,
    )
  }

  #checkNamespace(resource: Resource, namespace: string, name: string, what: string): void {
    const home = this.#shelves.get('namespaces')!.get('', namespace)
    if (!home) throw faultOf(notFound(resources.namespaces, namespace), what)
    if (!home.metadata.deletionTimestamp) return
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`
    throw faultOf(
      failure('Forbidden', `${nameOf(resource)} ${JSON.stringify(name)} is forbidden: ${why}`, {
        name,
        group: resource.group,
        kind: resource.plural,
        causes: [
          {
            reason: 'NamespaceTerminating',
            message: `namespace ${namespace} is being terminated`,
            field: 'metadata.namespace',
          },
        ],
      }),
      what,
    )
  }

  #refuseUnknown(kind: ServedKind, given: KubeObject, { strict }: WriteOptions, what: string): void {
    const unknown = strict ? kind.unknown(given) : []
    if (unknown.length === 0) return
    const list = unknown.map((path) => `unknown field "${path}"`).join(', ')
    throw faultOf(failure('BadRequest', `strict decoding error: ${list}`), what)
  }

  #time(afterSeconds = 0): string {
    return `${new Date(this.clock.now() + afterSeconds * 1000).toISOString().slice(0, 19)}Z`
  }

  #uid(): string {
    const hex = Array.from({ length: 8 }, () => this.#below(0x10000).toString(16).padStart(4, '0'))
    const [a, b, c, d, e, ...rest] = hex
    return `${a}${b}-${c}-4${d!.slice(1)}-${(8 + this.#below(4)).toString(16)}${e!.slice(1)}-${rest.join('')}`
  }

  #suffix(): string {
    const letters = 'bcdfghjklmnpqrstvwxz2456789'
    return Array.from({ length: 5 }, () => letters[this.#below(letters.length)]).join('')
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }
}

const namespaceNamed = (name: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name },
})

const isNamespace = (object: KubeObject): boolean => object.kind === 'Namespace' && object.apiVersion === 'v1'

const unversioned: Cause = {
  reason: 'FieldValueInvalid',
  message: 'Invalid value: 0x0: must be specified for an update',
  field: 'metadata.resourceVersion',
}

/** What users ask for: all but metadata, and but the status where that is a subresource. */
function asked(object: KubeObject, status: boolean): unknown {
  const { metadata: _, ...rest } = object
  return status ? { ...rest, status: undefined } : rest
}

/** Whether the last one who had to agree to the deletion has done so. */
const isDone = ({ metadata }: KubeObject): boolean =>
  metadata.deletionTimestamp !== undefined &&
  !metadata.finalizers?.length &&
  (metadata.deletionGracePeriodSeconds ?? 0) === 0

/** Kubernetes' own groups end so; what this server leaves out of them it says by name. */
const kubernetesOwn = /^$|^(apps|batch|autoscaling|policy|extensions)$|\.k8s\.io$/

function noKind(resource: Resource): Status {
  if (!kubernetesOwn.test(resource.group)) return noSuchKind(resource)
  return failure(
    'NotImplemented',
    `this API server does not implement ${nameOf(resource)} ${apiVersionOf(resource)}; use a real Kubernetes for it`,
  )
}
