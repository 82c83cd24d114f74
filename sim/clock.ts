import type { Clock } from '../src/lib/clock.ts'

/** Real time, of which more goes by when it is told to. */
export class LeapingClock implements Clock {
  #ahead = 0
  readonly #sleepers = new Set<{ at: number; wake: () => void }>()

  now(): number {
    return Date.now() + this.#ahead
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const sleeper = { at: this.now() + ms, wake: () => {} }
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        this.#sleepers.delete(sleeper)
        resolve()
      }
      const timer = setTimeout(done, ms)
      sleeper.wake = done
      signal?.addEventListener('abort', done, { once: true })
      this.#sleepers.add(sleeper)
    })
  }

  /** Lets so much time pass in steps of at most `stepMs`, with some real time between them for what they wake. */
  async leap(ms: number, stepMs = 10_000): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.#ahead += Math.min(left, stepMs)
      const due = [...this.#sleepers].filter(({ at }) => at <= this.now()).sort((a, b) => a.at - b.at)
      for (const { wake } of due) wake()
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }
}
