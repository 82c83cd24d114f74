import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault, isFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { startLoop } from '../reconcile/loop.ts'
import type { Journal } from './journal/journal.ts'
import { recordKey, recordsOf, type SandboxRecord } from './journal/record.ts'

/** How long an ADD waits for the API server to have the pod's network-status, so that containers usually find it when they start. */
const acknowledgedWithinMs = 300

export interface Reporter {
  /** Writes what the record says is unreported; resolves when it is there, or after `acknowledgedWithinMs`. Never rejects. */
  report(record: SandboxRecord): Promise<void>
  close(): Promise<void>
}

/**
 * Writes what pods came to into their annotations. What the API server does
 * not take in time stays in the journal and is written when it is back; a pod
 * that is gone, or another of the same name, ends it.
 */
export function startReporter(deps: { kube: Kube; journal: Journal; clock: Clock; log: Log }): Reporter {
  const { kube, journal, clock, log } = deps

  const write = async (record: SandboxRecord) => {
    const { namespace, name, uid } = record.pod
    try {
      await kube.patch(
        resources.pods,
        { namespace, name },
        // The UID is a precondition: the API server refuses to change it.
        { type: 'merge', body: { metadata: { uid, annotations: record.unreported } } },
      )
    } catch (error) {
      if (!isFault(error, 'missing', 'conflict', 'invalid', 'forbidden')) throw error
      log.info('a network-status was not taken', { pod: `${namespace}/${name}`, why: error.message })
    }
  }

  const settle = async (record: SandboxRecord) => {
    await journal.amend(recordKey(record.containerID), { unreported: null })
  }

  const late = startLoop({
    doing: 'write network-status that is late',
    clock,
    log,
    batchMs: 1000,
    round: async () => {
      for (const record of recordsOf(journal)) {
        if (!record.unreported || record.state !== 'added') continue
        await write(record)
        await settle(record)
      }
    },
  })
  if (recordsOf(journal).some((r) => r.unreported)) late.wake()

  return {
    async report(record) {
      const giveUp = new AbortController()
      const written = write(record)
        .then(() => settle(record))
        .catch((error) => {
          log.warn(asFault(error, 'write network-status').message, {
            pod: `${record.pod.namespace}/${record.pod.name}`,
          })
          late.wake()
        })
      await Promise.race([written, clock.sleep(acknowledgedWithinMs, giveUp.signal)])
      // With a reason of its own it makes no exception, whose stack costs more than the timer.
      giveUp.abort('answered')
    },
    close: () => late.close(),
  }
}
