import type { Lease } from '../../api/core.ts'
import { equal } from '../../lib/json.ts'

/** How long a lease counts, as client-go has it for kube-controller-manager and kube-scheduler. */
export interface Terms {
  /** Others wait for this long after they saw a renewal, then the lease is anybody's. */
  leaseMs: number
  /** The leader stops leading when its last renewal began this long ago. */
  renewMs: number
  /** Between two tries. */
  retryMs: number
}

export const usualTerms: Terms = { leaseMs: 15_000, renewMs: 10_000, retryMs: 2_000 }

/**
 * What a candidate knows of a lease. Times are the candidate's own, of when it
 * saw or did something: what others wrote as their time is for people, so
 * clocks that differ do no harm. They have to run about equally fast only.
 */
export interface Standing {
  identity: string
  /** As it was seen last; undefined: there is none. */
  lease?: Lease
  /** When what it says was seen first. */
  seenAtMs: number
  /** When the last renewal began that is known to have succeeded. */
  renewedAtMs?: number
}

/** The standing after the API server showed the lease. */
export function observed(before: Standing, lease: Lease | undefined, nowMs: number): Standing {
  const same = lease !== undefined && equal(lease.spec, before.lease?.spec)
  const seenAtMs = same ? before.seenAtMs : nowMs
  const { lease: _, renewedAtMs, ...rest } = before
  const mine = lease?.spec.holderIdentity === before.identity && renewedAtMs !== undefined
  return { ...rest, ...(lease && { lease }), seenAtMs, ...(mine && { renewedAtMs }) }
}

/** The standing after the API server took a renewal that began at `beganMs`. */
export const renewed = (before: Standing, lease: Lease, beganMs: number): Standing => ({
  ...before,
  lease,
  seenAtMs: beganMs,
  renewedAtMs: beganMs,
})

/**
 * Whether the candidate leads. It counts from before its renewal was sent and
 * for a shorter time than others, who count from when they saw it: so it stops
 * before another begins, though the API server may be slow for both.
 */
export const leads = ({ renewedAtMs }: Standing, nowMs: number, { renewMs }: Terms): boolean =>
  renewedAtMs !== undefined && nowMs < renewedAtMs + renewMs

/** The lease that the candidate shall try to write now; undefined while it is another's. `time` is for people. */
export function bidOf(
  standing: Standing,
  nowMs: number,
  time: string,
  terms: Terms,
): Lease['spec'] | undefined {
  const { identity, lease, seenAtMs } = standing
  const fresh = { holderIdentity: identity, leaseDurationSeconds: terms.leaseMs / 1000, renewTime: time }
  if (!lease) return { ...fresh, acquireTime: time, leaseTransitions: 0 }
  const { holderIdentity, leaseDurationSeconds, leaseTransitions = 0 } = lease.spec
  if (holderIdentity === identity) return { ...lease.spec, ...fresh }
  const countsMs = leaseDurationSeconds ? leaseDurationSeconds * 1000 : terms.leaseMs
  if (holderIdentity && nowMs < seenAtMs + countsMs) return undefined
  return { ...fresh, acquireTime: time, leaseTransitions: leaseTransitions + 1 }
}

/** The lease of one who leads no more: anybody's at once. */
export const releasedOf = ({ spec }: Lease, time: string): Lease['spec'] => {
  const { holderIdentity: _, ...rest } = spec
  return { ...rest, leaseDurationSeconds: 1, renewTime: time }
}
