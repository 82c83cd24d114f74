import type { Lease } from '../../api/core.ts'
import { apiVersionOf } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, isFault } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { found } from '../found.ts'
import type { Kube, Ref } from '../port.ts'
import {
  bidOf,
  leads,
  observed,
  releasedOf,
  renewed,
  type Standing,
  type Terms,
  usualTerms,
} from './standing.ts'

export interface Election {
  leads(): boolean
  /** Who leads, as far as this candidate knows; undefined before the API server was reached. */
  leader(): string | undefined
  /** Leaves the lease to the next at once, where this one has it. Whoever leads stops its work before. */
  close(): Promise<void>
}

export interface ElectionDeps {
  kube: Kube
  /** Its time never jumps: not the time of day. */
  clock: Clock
  log: Log
  lease: Required<Ref>
  /** Unlike any other candidate's, also of earlier runs. */
  identity: string
  /** Called once, when it leads. */
  elected: () => void
  /** Called once, when it leads no more though nobody asked. It may not lead again: end the program at once. */
  lost: (why: string) => void
  terms?: Terms
  /** The time of day, for people who read the lease. */
  timeOfDay?: () => number
  /** For the jitter between tries. */
  random?: () => number
}

/**
 * Stands for the leadership that a coordination.k8s.io Lease stands for,
 * as client-go's candidates do, and beside them: of all who do, at most one
 * leads at any time.
 *
 * A request that the leader sent just before it lost may still arrive after
 * another began. It is the same write that the other would make of what it
 * sees; and it carries the resource version that it was made from, so that it
 * is refused when the other was first.
 */
export function startElection(deps: ElectionDeps): Election {
  const { kube, clock, log, lease: ref, identity, elected, lost } = deps
  const { terms = usualTerms, timeOfDay = Date.now, random = Math.random } = deps
  const stop = new AbortController()
  let standing: Standing | undefined
  let over = false

  const isLeading = () => !over && standing !== undefined && leads(standing, clock.now(), terms)

  /** Ends it where this one led and does not any more. */
  const check = (led: boolean) => {
    if (over || !led || isLeading()) return
    over = true
    stop.abort()
    const holder = standing?.lease?.spec.holderIdentity
    lost(
      holder === identity
        ? `no renewal succeeded within ${terms.renewMs / 1000} s`
        : `${holder ?? 'nobody'} has it`,
    )
  }

  /** Requests can hang for longer than the lease counts. */
  const watchOver = async () => {
    while (!stop.signal.aborted) {
      const untilMs = (standing?.renewedAtMs ?? clock.now()) + terms.renewMs
      await clock.sleep(Math.max(1, untilMs - clock.now()), stop.signal)
      if (!stop.signal.aborted) check(true)
    }
  }

  const look = async (): Promise<Standing> => {
    const lease = await found(kube, resources.leases, ref)
    const now = clock.now()
    return observed(standing ?? { identity, seenAtMs: now }, lease, now)
  }

  const attempt = async () => {
    // A leader that nobody has disturbed renews without asking.
    if (!standing || standing.renewedAtMs === undefined) standing = await look()
    const beganMs = clock.now()
    const spec = bidOf(standing, beganMs, microTime(timeOfDay()), terms)
    if (!spec || over) return
    const led = standing.renewedAtMs !== undefined
    try {
      const written = await write(kube, ref, standing.lease, spec)
      // An answer that comes too late makes nobody leader again.
      if (over) return
      standing = renewed(standing, written, beganMs)
      if (led || !isLeading()) return
      log.info('leads', { lease: `${ref.namespace}/${ref.name}`, identity })
      void watchOver()
      elected()
    } catch (error) {
      if (!isFault(error, 'exists', 'conflict', 'missing')) throw error
      standing = await look()
      check(led)
    }
  }

  const run = async () => {
    while (!stop.signal.aborted) {
      const led = standing?.renewedAtMs !== undefined
      try {
        await attempt()
      } catch (error) {
        log.debug(asFault(error, 'stand for election').message)
      }
      check(led)
      await clock.sleep(terms.retryMs * (1 + random() / 5), stop.signal)
    }
  }
  const done = run()

  return {
    leads: isLeading,
    leader: () => standing?.lease?.spec.holderIdentity,
    async close() {
      const led = isLeading()
      stop.abort()
      await done
      over = true
      if (!led || !standing?.lease) return
      try {
        await write(kube, ref, standing.lease, releasedOf(standing.lease, microTime(timeOfDay())))
        log.info('leads no more', { lease: `${ref.namespace}/${ref.name}`, identity })
      } catch (error) {
        // The next one waits until it has run out.
        log.debug(asFault(error, 'release the lease').message)
      }
    },
  }
}

/** Refused when the lease is not what it was: its resource version is still in it. */
const write = (
  kube: Kube,
  ref: Required<Ref>,
  before: Lease | undefined,
  spec: Lease['spec'],
): Promise<Lease> =>
  before
    ? kube.update(resources.leases, { ...before, spec })
    : kube.create(resources.leases, {
        apiVersion: apiVersionOf(resources.leases),
        kind: resources.leases.kind,
        metadata: ref,
        spec,
      })

/** Kubernetes' MicroTime has six digits, always. */
const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')
