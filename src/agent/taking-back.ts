import type { Clock } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'

/** A runtime that was told of a failure asks again itself, mostly sooner than this. */
const firstMs = 250
const lastMs = 30_000

export interface TakingBack {
  /** Something of this sandbox could not be taken away: it is tried until it could. Asked again, it goes on as it does. */
  owe(containerID: string): void
  /** Sandboxes that something is left of. */
  owed(): string[]
  close(): void
}

/**
 * Takes away what could not be taken away when it was asked for, since a
 * plugin refused or the disk was full: a runtime that gave up does not ask
 * again. Each sandbox is tried for itself, ever more slowly up to half a minute,
 * and why it failed is logged when it is new.
 */
export function startTakingBack(deps: {
  /** Takes away what is left of the sandbox; rejects when something stays. */
  takeAway: (containerID: string) => Promise<void>
  clock: Clock
  log: Log
}): TakingBack {
  const { takeAway, clock, log } = deps
  const stop = new AbortController()
  const owed = new Set<string>()

  const settle = async (containerID: string) => {
    let said: string | undefined
    for (let ms = firstMs; ; ms = Math.min(lastMs, 2 * ms)) {
      await clock.sleep(ms, stop.signal)
      if (stop.signal.aborted) return
      try {
        await takeAway(containerID)
        owed.delete(containerID)
        log.info('took away what was left of a sandbox', { container: containerID })
        return
      } catch (error) {
        const { message } = asFault(error, 'take away what is left of a sandbox')
        if (message !== said) log.warn(message, { container: containerID })
        said = message
      }
    }
  }

  return {
    owe(containerID) {
      if (owed.has(containerID) || stop.signal.aborted) return
      owed.add(containerID)
      void settle(containerID)
    },
    owed: () => [...owed],
    close: () => stop.abort(),
  }
}
