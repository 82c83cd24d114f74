import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lease } from '../../api/core.ts'
import { bidOf, leads, observed, releasedOf, renewed, type Standing, usualTerms } from './standing.ts'

const time = '2026-01-01T00:00:00.000000Z'
const lease = (holderIdentity: string | undefined, more: Partial<Lease['spec']> = {}): Lease => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { namespace: 'polynet-system', name: 'polynet-controller' },
  spec: { leaseDurationSeconds: 15, ...(holderIdentity && { holderIdentity }), ...more },
})
const shown = (spec: Lease['spec'] | undefined): string =>
  spec
    ? `${spec.holderIdentity ?? 'nobody'} for ${spec.leaseDurationSeconds} s, ${spec.leaseTransitions}`
    : 'waits'

// Candidate a, at 100 s of its own time.
const now = 100_000
const bids: [string, Standing | undefined, string][] = [
  ['there is none', undefined, 'a for 15 s, 0'],
  [
    'it was released',
    { identity: 'a', lease: lease(undefined, { leaseTransitions: 3 }), seenAtMs: now },
    'a for 15 s, 4',
  ],
  ['b has it, just seen', { identity: 'a', lease: lease('b'), seenAtMs: now }, 'waits'],
  ['b has it, seen 14.999 s ago', { identity: 'a', lease: lease('b'), seenAtMs: now - 14_999 }, 'waits'],
  ['b has it, seen 15 s ago', { identity: 'a', lease: lease('b'), seenAtMs: now - 15_000 }, 'a for 15 s, 1'],
  [
    'b asked for a minute',
    { identity: 'a', lease: lease('b', { leaseDurationSeconds: 60 }), seenAtMs: now - 59_000 },
    'waits',
  ],
  [
    'b says that it renewed long ago, or in a year: its clock is its own',
    { identity: 'a', lease: lease('b', { renewTime: '1999-01-01T00:00:00.000000Z' }), seenAtMs: now },
    'waits',
  ],
  [
    'it is its own, however old',
    { identity: 'a', lease: lease('a', { leaseTransitions: 2 }), seenAtMs: 0, renewedAtMs: 0 },
    'a for 15 s, 2',
  ],
]
for (const [title, standing, want] of bids)
  test(`bids: ${title}`, () => {
    assert.equal(shown(bidOf(standing ?? { identity: 'a', seenAtMs: 0 }, now, time, usualTerms)), want)
  })

test('what is seen again counts from when it was seen first', () => {
  const first = observed({ identity: 'a', seenAtMs: 0 }, lease('b', { renewTime: time }), 1000)
  assert.equal(observed(first, lease('b', { renewTime: time }), 9000).seenAtMs, 1000)
  assert.equal(observed(first, lease('b', { renewTime: '2026-01-01T00:00:02.000000Z' }), 9000).seenAtMs, 9000)
  assert.equal(observed(first, undefined, 9000).lease, undefined)
})

test('it leads for ten seconds after a renewal began, and not once another has the lease', () => {
  const mine = renewed({ identity: 'a', seenAtMs: 0 }, lease('a'), 1000)
  assert.deepEqual(
    [1000, 10_999, 11_000].map((at) => leads(mine, at, usualTerms)),
    [true, true, false],
  )
  assert.equal(leads(observed(mine, lease('b'), 2000), 2000, usualTerms), false)
  assert.equal(leads(observed(mine, undefined, 2000), 2000, usualTerms), false)
  assert.equal(leads(observed(mine, lease('a'), 2000), 2000, usualTerms), true)
})

test('who finds its own name in a lease, but not that it wrote it, does not lead yet', () => {
  assert.equal(leads(observed({ identity: 'a', seenAtMs: 0 }, lease('a'), 1000), 1000, usualTerms), false)
})

test('a released lease is anybody’s', () => {
  assert.equal(shown(releasedOf(lease('a', { leaseTransitions: 2 }), time)), 'nobody for 1 s, 2')
})

test('the leader stops before anybody begins, however late each heard', () => {
  // Sent at 0, taken by the API server at any time, seen by the other no sooner than that.
  for (const seenAtMs of [0, 1, 5000, 9999]) {
    const mine = renewed({ identity: 'a', seenAtMs: 0 }, lease('a'), 0)
    const other = observed({ identity: 'b', seenAtMs: 0 }, lease('a'), seenAtMs)
    for (let at = seenAtMs; at < 40_000; at += 100)
      assert.ok(
        !leads(mine, at, usualTerms) || bidOf(other, at, time, usualTerms) === undefined,
        `${seenAtMs} ${at}`,
      )
  }
})
