import { doom, isCrowded, oneByOne } from './links.ts'
import { refused } from './netlink.ts'
import type { Place } from './place.ts'

/** Deletes links of one namespace, all that are waiting by one message: each message waits 20-40 ms for the kernel. */
export class Sweep {
  readonly #place: Place
  readonly #transient: boolean
  readonly #done: () => void
  #waiting: string[] = []
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(place: Place, transient: boolean, done: () => void) {
    this.#place = place
    this.#transient = transient
    this.#done = done
  }

  add(name: string): Promise<void> {
    this.#waiting.push(name)
    this.#next ??= (this.#running ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        const names = this.#waiting
        this.#waiting = []
        this.#running = this.#next
        this.#next = undefined
        return this.#delete(names)
      })
    return this.#next
  }

  async #delete(names: string[]): Promise<void> {
    const leave = await enter()
    try {
      const { deletes } = this.#place
      let { refusals } = await deletes.tryAsync(doom(names))
      if (isCrowded(refusals)) refusals = (await deletes.tryAsync(oneByOne(names))).refusals
      for (const refusal of refusals) if (![2, 3, 19].includes(refusal.code)) throw refused(refusal)
    } finally {
      leave()
      if (this.#waiting.length === 0 && this.#next === undefined) {
        this.#done()
        if (this.#transient) this.#place.close()
      }
    }
  }
}

/** Deletions sit on threads of the pool, which other work needs too: at most so many at once. */
let free = 2
const queue: (() => void)[] = []

async function enter(): Promise<() => void> {
  if (free > 0) free--
  else await new Promise<void>((resolve) => queue.push(resolve))
  return () => {
    const next = queue.shift()
    if (next) next()
    else free++
  }
}
