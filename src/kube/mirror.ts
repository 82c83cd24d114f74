import type { KubeObject, Resource } from '../api/meta.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault, isFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import type { Kube, Ref, Selection } from './port.ts'
import { nameOf } from './status.ts'

/** What the API server holds of one kind, kept fresh. Reading it asks nobody and never waits. */
export interface Mirror<T extends KubeObject> {
  /** Resolves when everything has been read once; never rejects. */
  synced: Promise<void>
  get(ref: Ref): T | undefined
  list(): T[]
  /** Calls back after each change, `list()` already showing it; what is there already is not announced. */
  onChange(callback: (change: MirrorChange<T>) => void): () => void
  close(): void
  /** When the server last said anything, in the clock's milliseconds; undefined before the first list. */
  lastContact: number | undefined
}

export interface MirrorChange<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED'
  object: T
  /** What it was, for MODIFIED and DELETED. */
  before?: T
}

export interface MirrorDeps {
  clock: Clock
  log: Log
  /** For the jitter of retries. */
  random?: () => number
}

/**
 * A mirror of what `selection` matches, until `close`: a list, then a watch
 * from its version, and the next one from where the server ended that. After
 * one that broke off or was refused, everything is listed again.
 */
export function mirror<T extends KubeObject>(
  kube: Kube,
  resource: Resource<T>,
  selection: Selection,
  { clock, log, random = Math.random }: MirrorDeps,
): Mirror<T> {
  const objects = new Map<string, T>()
  /** Made anew when somebody comes or goes, so that a change is told to those who were there. */
  let callbacks: ((change: MirrorChange<T>) => void)[] = []
  const closed = new AbortController()
  const { signal } = closed
  const synced = Promise.withResolvers<void>()

  function tell(change: MirrorChange<T>): void {
    for (const callback of callbacks) {
      try {
        callback(change)
      } catch (error) {
        log.error('a callback of a mirror failed', { resource: nameOf(resource), error: String(error) })
      }
    }
  }

  function put(object: T): void {
    const key = keyOf(object.metadata)
    const before = objects.get(key)
    if (before && before.metadata.uid === object.metadata.uid) {
      // A watch that begins again may repeat what a list has shown already.
      if (before.metadata.resourceVersion === object.metadata.resourceVersion) return
      objects.set(key, object)
      tell({ type: 'MODIFIED', object, before })
      return
    }
    if (before) drop(before, before)
    objects.set(key, object)
    tell({ type: 'ADDED', object })
  }

  function drop(object: T, before: T | undefined = objects.get(keyOf(object.metadata))): void {
    if (!before) return
    objects.delete(keyOf(object.metadata))
    tell({ type: 'DELETED', object, before })
  }

  /** Reads everything; what is gone since the last time is told as deleted. */
  async function relist(): Promise<string> {
    const { items, resourceVersion } = await kube.list(resource, selection)
    if (signal.aborted) return resourceVersion
    self.lastContact = clock.now()
    const present = new Set(items.map((item) => keyOf(item.metadata)))
    for (const [key, object] of objects) if (!present.has(key)) drop(object)
    for (const item of items) put(item)
    synced.resolve()
    return resourceVersion
  }

  /** The version to go on from; none: everything has to be read. */
  let position: string | undefined
  /** Whether the server has said anything since the last attempt began. */
  let progress = false

  /** Follows one watch to its end. */
  async function follow(since: string): Promise<void> {
    for await (const change of kube.watch(resource, since, { ...selection, signal })) {
      if (signal.aborted) break
      self.lastContact = clock.now()
      progress = true
      if (change.type === 'BOOKMARK') {
        position = change.resourceVersion
        continue
      }
      position = change.object.metadata.resourceVersion ?? position
      if (change.type === 'DELETED') drop(change.object)
      else put(change.object)
    }
  }

  async function run(): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      const started = clock.now()
      progress = false
      try {
        if (position === undefined) position = await relist()
        else await follow(position)
        // A server that ends every watch at once must not be asked without pause.
        if (progress || clock.now() - started >= 1000) failures = 0
        else if (failures++ > 1) await rest(failures)
      } catch (error) {
        if (signal.aborted) return
        failures = progress ? 1 : failures + 1
        const fault = asFault(error, `watch ${nameOf(resource)}`)
        // Whoever answers next may have another past, as with an etcd that was restored from an older snapshot, whose versions
        // get to ours within seconds: a watch from ours would leave out what came till then.
        position = undefined
        if (isFault(fault, 'expired') && failures === 1) continue
        log[failures === 3 ? 'warn' : 'debug']('the API server does not answer; trying again', {
          resource: nameOf(resource),
          fault: fault.message,
        })
        await rest(failures)
      }
    }
  }

  /** Between half and all of 0.2 s, doubled per failure, at most 30 s. */
  const rest = (failures: number): Promise<void> =>
    clock.sleep(Math.min(30_000, 100 * 2 ** Math.min(failures, 10)) * (0.5 + random() / 2), signal)

  const self: Mirror<T> = {
    synced: synced.promise,
    get: (ref) => objects.get(keyOf(ref)),
    list: () => [...objects.values()],
    onChange(callback) {
      // Wrapped, so that the same function may listen twice.
      const once = (change: MirrorChange<T>) => callback(change)
      callbacks = [...callbacks, once]
      return () => {
        callbacks = callbacks.filter((c) => c !== once)
      }
    },
    close() {
      closed.abort()
      callbacks = []
    },
    lastContact: undefined,
  }
  void run()
  return self
}

const keyOf = ({ namespace, name }: Ref): string => (namespace ? `${namespace}/${name}` : name)
