import type { Network } from '../api/network.ts'
import type { Clock } from '../lib/clock.ts'

/** How long a network's namespace stays after its last pod, so that restarts do not build it again. */
export const lingerMs = 5 * 60_000

/** Networks in use stay rendered; those that no pod uses any more stay for `lingerMs`. */
export class Lingering {
  readonly #clock: Clock
  readonly #lastUse = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Which of `networks` to render, given the UIDs that attachments use now. */
  keep(networks: Network[], inUse: Set<string>): Network[] {
    const now = this.#clock.now()
    for (const uid of inUse) this.#lastUse.set(uid, now)
    return networks.filter((n) => {
      const last = this.#lastUse.get(n.metadata.uid ?? '')
      if (last === undefined) return false
      if (now - last < lingerMs) return true
      this.#lastUse.delete(n.metadata.uid ?? '')
      return false
    })
  }
}
