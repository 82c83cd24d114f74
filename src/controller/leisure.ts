import type { Condition } from '../api/meta.ts'
import type { Clock } from '../lib/clock.ts'
import { equal } from '../lib/json.ts'

/** How many nodes hear something in a second that only people read. */
const hearersPerSecond = 20_000
/** What is saved up while nothing changes, in seconds. */
const savedSeconds = 10

/**
 * How often counts and messages are written: each write of a network is told
 * to every node, so that in a large cluster in which pods come and go, writing
 * each count at once would keep all nodes and the API server busy. A cluster
 * of some dozens of nodes does not notice.
 */
export class Leisure {
  readonly #clock: Clock
  #left = hearersPerSecond * savedSeconds
  #at: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#at = clock.now()
  }

  /** Whether something may be written now that so many nodes hear of. */
  take(hearers: number): boolean {
    this.#save()
    if (this.#left <= 0) return false
    this.#left -= hearers
    return true
  }

  /** When something may be written again. */
  get waitMs(): number {
    this.#save()
    return Math.max(0, Math.ceil((-this.#left * 1000) / hearersPerSecond) + 1)
  }

  #save(): void {
    const now = this.#clock.now()
    const saved = ((now - this.#at) / 1000) * hearersPerSecond
    this.#left = Math.min(hearersPerSecond * savedSeconds, this.#left + saved)
    this.#at = now
  }
}

interface Told {
  nodes?: number
  addresses?: string
  conditions?: Condition[]
}

/** Whether two statuses differ only in what is there for people: counts, and the words of conditions. */
export const sameButWords = (a: Told, b: Told): boolean => equal(wordless(a), wordless(b))

const wordless = ({ nodes: _, addresses: __, conditions = [], ...rest }: Told): object => ({
  ...rest,
  conditions: conditions.map(({ message: _, ...condition }) => condition),
})
