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
  /**
   * Writes what the record says is unreported. Whether it is there within `acknowledgedWithinMs`, which is then for the
   * caller to note; else it is noted here once it is. Never rejects.
   */
  report(record: SandboxRecord): Promise<boolean>
  close(): Promise<void>
}

/**
 * Writes what pods came to into their annotations. What the API server does
 * not take in time, or refuses, stays in the journal and is tried again; a pod
 * that is gone, or another of the same name, ends it.
 */
export function startReporter(deps: { kube: Kube; journal: Journal; clock: Clock; log: Log }): Reporter {
  const { kube, journal, clock, log } = deps
  let closed = false

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
      // An API server that has just started refuses what it will allow, and one that is asked much has conflicts of its own.
      const never =
        isFault(error, 'missing', 'invalid') || (isFault(error, 'conflict') && !(await isThere(record)))
      if (!never) throw error
      log.info('a network-status was not taken', {
        pod: `${namespace}/${name}`,
        why: asFault(error, '').message,
      })
    }
  }

  const isThere = async ({ pod: { namespace, name, uid } }: SandboxRecord): Promise<boolean> => {
    try {
      return (await kube.get(resources.pods, { namespace, name })).metadata.uid === uid
    } catch (error) {
      if (isFault(error, 'missing')) return false
      throw error
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
      const failed: unknown[] = []
      for (const record of recordsOf(journal)) {
        if (closed) return
        // Its ADD is under way, and its first write may have failed already.
        if (record.state === 'adding') {
          late.wake()
          continue
        }
        if (!record.unreported || record.state === 'deleting') continue
        // One that is refused does not keep the others waiting.
        await write(record)
          .then(() => settle(record))
          .catch((error) => failed.push(error))
      }
      if (failed.length > 0) throw failed[0]
    },
  })
  if (recordsOf(journal).some((r) => r.unreported)) late.wake()

  return {
    async report(record) {
      const failed = (error: unknown) => {
        log.warn(asFault(error, 'write network-status').message, {
          pod: `${record.pod.namespace}/${record.pod.name}`,
        })
        late.wake()
        return false
      }
      const written = write(record).then(() => true, failed)
      // The timer is left to run out: ending it early takes more than that.
      const timeIsUp = clock.sleep(acknowledgedWithinMs).then(() => undefined)
      const inTime = await Promise.race([written, timeIsUp])
      if (inTime === undefined) void written.then((is) => (is ? settle(record) : undefined)).catch(failed)
      return inTime ?? false
    },
    close() {
      closed = true
      return late.close()
    },
  }
}
