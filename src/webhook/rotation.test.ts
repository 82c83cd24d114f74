import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { bundleOf, type Kept, lifetimeMs, overlapMs, rotated } from './rotation.ts'

const names = ['polynet-webhook.polynet-system.svc', '192.168.1.11', 'fd00:10:1::1']
const start = Date.UTC(2026, 0, 1)
const day = 86_400_000

test('the first certificate is for the names asked for, and valid at once', () => {
  const { serving, next, previous } = rotated(undefined, names, start, false)
  const { subjectAltName, validFrom, validTo } = new X509Certificate(serving.certificate)
  assert.deepEqual(
    [subjectAltName, validFrom, validTo, next, previous],
    [
      'DNS:polynet-webhook.polynet-system.svc, IP Address:192.168.1.11, IP Address:FD00:10:1:0:0:0:0:1',
      'Dec 31 23:00:00 2025 GMT',
      'Apr  1 00:00:00 2026 GMT',
      undefined,
      undefined,
    ],
  )
})

test('over months, what serves was trusted an hour before, and never ends', () => {
  let kept = rotated(undefined, names, start, false)
  let trusted = { bundle: bundleOf(kept), since: start }
  const served = new Set<string>()
  for (let now = start; now < start + 200 * day; now += overlapMs / 2) {
    const before = kept
    kept = rotated(kept, names, now, true)
    if (kept.serving !== before.serving)
      assert.ok(trusted.bundle.includes(kept.serving.certificate) && now - trusted.since >= overlapMs)
    // A replica that has not heard of the change still serves with what is trusted.
    assert.ok(bundleOf(kept).includes(before.serving.certificate))
    assert.ok(Date.parse(new X509Certificate(kept.serving.certificate).validTo) - now > lifetimeMs / 4)
    if (bundleOf(kept) !== trusted.bundle) trusted = { bundle: bundleOf(kept), since: now }
    served.add(kept.serving.certificate)
  }
  assert.equal(served.size, 4) // one every sixty days
  assert.ok(bundleOf(kept).length < 3 * 1024)
})

test('a successor that the API server was not told of does not serve', () => {
  const now = start + lifetimeMs - 20 * day
  const staged = rotated(rotated(undefined, names, start, true), names, now, true)
  assert.ok(staged.next)
  assert.equal(rotated(staged, names, now + 10 * overlapMs, false), staged)
  assert.equal(rotated(staged, names, now + 10 * overlapMs, true).serving, staged.next)
})

const other = rotated(undefined, names, start, true)
const broken: [what: string, (kept: Kept) => Kept, number?][] = [
  ['is no certificate', (kept) => ({ serving: { ...kept.serving, certificate: 'x' } })],
  ["has another's key", (kept) => ({ serving: { ...kept.serving, key: other.serving.key } })],
  ['has ended', (kept) => kept, start + lifetimeMs + day],
  ['is for other names', () => rotated(undefined, ['elsewhere'], start, true)],
]
for (const [what, breaking, now = start] of broken)
  test(`a certificate that ${what} is replaced at once`, () => {
    const kept = breaking(rotated(undefined, names, start, true))
    const { serving } = rotated(kept, names, now, true)
    assert.notEqual(serving, kept.serving)
    assert.equal(rotated({ serving }, names, now, true).serving, serving)
  })
