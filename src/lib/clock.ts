/** Time as an argument, so that an hour passes in a test when the test says so. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Resolves after `ms`, or as soon as `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** A timer that is to take longer ends at once. */
const longestMs = 2 ** 31 - 1

export const realClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, Math.min(ms, longestMs))
      signal?.addEventListener('abort', done, { once: true })
    }),
}

/** The clock for what lasts: where the machine's is set back, it goes on from where it was. */
export function onwards(clock: Clock): Clock {
  let last = clock.now()
  let ahead = 0
  return {
    now() {
      const now = clock.now()
      if (now < last) ahead += last - now
      last = now
      return now + ahead
    },
    sleep: (ms, signal) => clock.sleep(ms, signal),
  }
}

/** A clock that stands still until it is told to `advance`; sleepers wake in the order of their time. */
export class ManualClock implements Clock {
  #now: number
  #sleepers: { at: number; wake: () => void }[] = []

  constructor(start = Date.UTC(2026, 0, 1)) {
    this.#now = start
  }

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const sleeper = { at: this.#now + ms, wake: resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener('abort', () => this.#wake(sleeper), { once: true })
    })
  }

  /** Lets `ms` pass; whoever wakes may sleep again and wake again within it. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const next = this.#sleepers.filter((s) => s.at <= until).sort((a, b) => a.at - b.at)[0]
      if (!next) break
      this.#now = Math.max(this.#now, next.at)
      this.#wake(next)
    }
    this.#now = until
  }

  #wake(sleeper: { at: number; wake: () => void }): void {
    const index = this.#sleepers.indexOf(sleeper)
    if (index < 0) return
    this.#sleepers.splice(index, 1)
    sleeper.wake()
  }
}
