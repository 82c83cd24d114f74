/**
 * One thing after another for each key, different keys side by side. CNI
 * forbids parallel operations on one container (SPEC 1.1 section 2), but
 * runtimes that time out do it.
 */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  take<T>(key: string, act: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key)
    const mine = before ? before.then(act, act) : act()
    this.#last.set(key, mine)
    const forget = () => {
      if (this.#last.get(key) === mine) this.#last.delete(key)
    }
    mine.then(forget, forget)
    return mine
  }

  /** Whether something is under way for the key, or waits. */
  has(key: string): boolean {
    return this.#last.has(key)
  }

  /** Resolves when all that is under way now is over. */
  async over(): Promise<void> {
    await Promise.allSettled(this.#last.values())
  }
}
