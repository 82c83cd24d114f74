import type { KubeObject } from '../../api/meta.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Change } from '../port.ts'
import { failure, type Status } from '../status.ts'
import type { Matcher } from './selection.ts'

/** One write, kept for those who watch from before it. */
interface Written {
  version: number
  /** Absent: it was created. */
  before?: KubeObject
  /** Absent: it was deleted. */
  after?: KubeObject
  seen: Partial<Record<'ADDED' | 'MODIFIED' | 'DELETED', Change<KubeObject>>>
}

/**
 * The recent writes of one kind, and those who watch it. A write costs what
 * the watchers cost that it may concern: they are found by namespace, name or
 * node. All of them get the same frozen objects.
 */
export class Changes {
  #history: Written[] = []
  /** The newest version that is no longer in the history. */
  #forgotten: number
  #sinceBookmark = 0
  #watchers = new Index()
  #ticking: AbortController | undefined
  readonly #limit: number
  readonly #clock: Clock
  readonly #latest: () => number

  constructor(limit: number, clock: Clock, latest: () => number) {
    this.#limit = limit
    this.#clock = clock
    this.#latest = latest
    this.#forgotten = latest()
  }

  add(version: number, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const written: Written = { version, before, after, seen: {} }
    this.#history.push(written)
    // Trimmed in halves, so that a write does not cost the length of the history.
    if (this.#history.length > 2 * this.#limit) this.forget(this.#limit)
    for (const watcher of this.#watchers.concerned(before, after)) watcher.offer(written)
    if (++this.#sinceBookmark >= this.#limit / 2) this.bookmark()
  }

  /** Forgets all but the last `keep` writes, as a compaction does. */
  forget(keep: number): void {
    const dropped = this.#history.splice(0, Math.max(0, this.#history.length - keep))
    this.#forgotten = dropped.at(-1)?.version ?? this.#forgotten
  }

  /** Tells everybody how far they have seen, also those who know it: so they hear that somebody is there. */
  bookmark(): void {
    this.#sinceBookmark = 0
    const version = this.#latest()
    for (const watcher of this.#watchers.all()) watcher.bookmark(version)
  }

  /** Ends every watch, as a server that goes away does. */
  end(): void {
    for (const watcher of this.#watchers.all()) watcher.close()
  }

  /**
   * Changes after `since` that concern `matcher`, first of all `initial` as
   * additions. Refuses a version that is no longer, or not yet, known.
   */
  watch(
    since: number,
    matcher: Matcher,
    initial: KubeObject[],
    signal: AbortSignal,
  ): { refused: Status } | { watcher: Watcher } {
    if (since < this.#forgotten)
      return {
        refused: failure('Expired', `too old resource version: ${since} (${this.#forgotten + 1})`),
      }
    if (since > this.#latest())
      return {
        refused: failure('Timeout', `Too large resource version: ${since}, current: ${this.#latest()}`, {
          causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version', field: '' }],
          retryAfterSeconds: 1,
        }),
      }
    const watcher = new Watcher(matcher, this.#limit * 10, () => this.#leave(watcher))
    for (const object of initial) watcher.push({ type: 'ADDED', object })
    for (let i = this.#after(since); i < this.#history.length; i++) watcher.offer(this.#history[i]!)
    if (signal.aborted) watcher.close()
    else {
      this.#watchers.add(watcher)
      watcher.until(signal)
      this.#tick()
    }
    return { watcher }
  }

  /** Where in the history the writes after `version` begin. */
  #after(version: number): number {
    let [low, high] = [0, this.#history.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#history[middle]!.version > version) high = middle
      else low = middle + 1
    }
    return low
  }

  #leave(watcher: Watcher): void {
    this.#watchers.delete(watcher)
    if (this.#watchers.size > 0) return
    this.#ticking?.abort()
    this.#ticking = undefined
  }

  /** A bookmark a minute, while anybody watches. */
  async #tick(): Promise<void> {
    if (this.#ticking) return
    this.#ticking = new AbortController()
    const { signal } = this.#ticking
    for (;;) {
      await this.#clock.sleep(60_000, signal)
      if (signal.aborted) return
      this.bookmark()
    }
  }
}

/** One watch: what is waiting to be read, and whoever waits for it. */
export class Watcher implements AsyncIterableIterator<Change<KubeObject>> {
  readonly matcher: Matcher
  #queue: Change<KubeObject>[] = []
  #head = 0
  #waiting: ((result: IteratorResult<Change<KubeObject>>) => void) | undefined
  #ended = false
  #leave: () => void
  readonly #limit: number

  constructor(matcher: Matcher, limit: number, leave: () => void) {
    this.matcher = matcher
    this.#limit = limit
    this.#leave = leave
  }

  until(signal: AbortSignal): void {
    const close = () => this.close(true)
    signal.addEventListener('abort', close, { once: true })
    const leave = this.#leave
    this.#leave = () => {
      signal.removeEventListener('abort', close)
      leave()
    }
  }

  offer(written: Written): void {
    const was = written.before !== undefined && this.matcher.test(written.before)
    const is = written.after !== undefined && this.matcher.test(written.after)
    if (!was && !is) return
    const type = was ? (is ? 'MODIFIED' : 'DELETED') : 'ADDED'
    this.push(changeOf(written, type))
  }

  bookmark(version: number): void {
    this.push({ type: 'BOOKMARK', resourceVersion: String(version) })
  }

  push(change: Change<KubeObject>): void {
    if (this.#ended) return
    if (this.#waiting) {
      const waiting = this.#waiting
      this.#waiting = undefined
      waiting({ done: false, value: change })
    } else if (this.#queue.push(change) - this.#head > this.#limit) this.close()
  }

  /** Nothing more comes; what waits can still be read, unless `now`. */
  close(now = false): void {
    if (now) {
      this.#queue = []
      this.#head = 0
    }
    if (this.#ended) return
    this.#ended = true
    this.#leave()
    this.#waiting?.({ done: true, value: undefined })
    this.#waiting = undefined
  }

  next(): Promise<IteratorResult<Change<KubeObject>>> {
    if (this.#head < this.#queue.length) {
      const value = this.#queue[this.#head++]!
      if (this.#head === this.#queue.length) {
        this.#queue = []
        this.#head = 0
      }
      return Promise.resolve({ done: false, value })
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve) => {
      this.#waiting = resolve
    })
  }

  return(): Promise<IteratorResult<Change<KubeObject>>> {
    this.close(true)
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

/** What everyone for whom the write means the same is told. */
function changeOf(written: Written, type: 'ADDED' | 'MODIFIED' | 'DELETED'): Change<KubeObject> {
  written.seen[type] ??= Object.freeze({
    type,
    object: type === 'DELETED' ? goneOf(written) : written.after!,
  })
  return written.seen[type]
}

/** The last state, under the version of the write that ended it. */
const goneOf = ({ before, version }: Written): KubeObject =>
  Object.freeze({
    ...before!,
    metadata: Object.freeze({ ...before!.metadata, resourceVersion: String(version) }),
  })

/** Watchers by the most selective thing they ask for. */
class Index {
  #all = new Set<Watcher>()
  #any = new Set<Watcher>()
  #by = {
    node: new Map<string, Set<Watcher>>(),
    name: new Map<string, Set<Watcher>>(),
    namespace: new Map<string, Set<Watcher>>(),
  }

  get size(): number {
    return this.#all.size
  }

  all(): Watcher[] {
    return [...this.#all]
  }

  add(watcher: Watcher): void {
    this.#all.add(watcher)
    const place = placeOf(watcher.matcher)
    if (!place) this.#any.add(watcher)
    else {
      const [by, key] = place
      const set = this.#by[by].get(key)
      if (set) set.add(watcher)
      else this.#by[by].set(key, new Set([watcher]))
    }
  }

  delete(watcher: Watcher): void {
    this.#all.delete(watcher)
    const place = placeOf(watcher.matcher)
    if (!place) this.#any.delete(watcher)
    else {
      const [by, key] = place
      const set = this.#by[by].get(key)
      set?.delete(watcher)
      if (set?.size === 0) this.#by[by].delete(key)
    }
  }

  /** Those who may have to hear of it: each at most once. */
  *concerned(before: KubeObject | undefined, after: KubeObject | undefined): Iterable<Watcher> {
    const object = (after ?? before)!
    yield* this.#any
    yield* this.#by.name.get(object.metadata.name) ?? []
    yield* this.#by.namespace.get(object.metadata.namespace ?? '') ?? []
    if (this.#by.node.size === 0) return
    const was = before && nodeOf(before)
    const is = after && nodeOf(after)
    if (was !== undefined) yield* this.#by.node.get(was) ?? []
    if (is !== undefined && is !== was) yield* this.#by.node.get(is) ?? []
  }
}

const placeOf = (m: Matcher): ['node' | 'name' | 'namespace', string] | undefined => {
  if (m.node !== undefined) return ['node', m.node]
  if (m.name !== undefined) return ['name', m.name]
  if (m.namespace !== undefined) return ['namespace', m.namespace]
  return undefined
}

export const nodeOf = (object: KubeObject): string =>
  (object as { spec?: { nodeName?: string } }).spec?.nodeName ?? ''
