import { type Clock, onwards } from '../lib/clock.ts'
import { asFault, Fault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'

export interface Loop {
  /** Asks for a round soon; many asks become one. */
  wake(): void
  /** Resolves when a round that began after this call has gone well; rejects when that round fails. */
  settled(): Promise<void>
  /** Ends after the round under way; those who wait for another are rejected. */
  close(): Promise<void>
}

/**
 * Repeats `round` whenever it is woken: one at a time, changes within
 * `batchMs` handled together. After a round that took long it rests nine
 * times as long, at most `restMs`, unless somebody waits for the next one: so
 * a cluster that changes all the time costs a tenth of a CPU. A round that
 * fails is logged once and tried again, ever more slowly up to half a minute.
 */
export function startLoop(deps: {
  /** What a round does, for messages: `bring the kernel in step with the plan`. */
  doing: string
  round: () => Promise<void>
  clock: Clock
  log: Log
  batchMs?: number
  restMs?: number
}): Loop {
  const { doing, round, log, batchMs = 0, restMs = 0 } = deps
  const clock = onwards(deps.clock)
  const stop = new AbortController()
  let asked: PromiseWithResolvers<void>[] = []
  let wanted = false
  let wakeUp = () => {}
  let hurry = () => {}
  let rested = 0

  const called = () =>
    wanted || asked.length > 0 || stop.signal.aborted
      ? Promise.resolve()
      : new Promise<void>((resolve) => {
          wakeUp = resolve
        })

  /** Lets changes gather. Who waits for a round does not wait for others to ask for it as well. */
  const gather = async () => {
    const ms = Math.max(batchMs, rested - clock.now())
    if (ms <= 0 || asked.length > 0 || stop.signal.aborted) return
    const over = new AbortController()
    hurry = () => over.abort('asked')
    await clock.sleep(ms, over.signal)
  }

  const run = async () => {
    let failures = 0
    for (;;) {
      await called()
      await gather()
      if (stop.signal.aborted) break
      const askers = asked
      asked = []
      wanted = false
      const begun = clock.now()
      try {
        await round()
        const ended = clock.now()
        rested = ended + Math.min(restMs, 9 * (ended - begun))
        failures = 0
        for (const { resolve } of askers) resolve()
      } catch (error) {
        failures++
        wanted = true
        const fault = asFault(error, doing)
        log.warn(fault.message, { kind: fault.kind, failures })
        for (const { reject } of askers) reject(fault)
        await clock.sleep(Math.min(30_000, 50 * 2 ** failures), stop.signal)
      }
    }
    for (const { reject } of asked) reject(new Fault('unavailable', doing, 'the program is closing'))
  }
  const done = run()

  return {
    wake() {
      wanted = true
      wakeUp()
    },
    settled() {
      const asker = Promise.withResolvers<void>()
      if (stop.signal.aborted) asker.reject(new Fault('unavailable', doing, 'the program is closing'))
      else asked.push(asker)
      wakeUp()
      hurry()
      return asker.promise
    },
    async close() {
      stop.abort()
      wakeUp()
      hurry()
      await done
    },
  }
}
