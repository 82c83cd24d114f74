import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Condition } from '../api/meta.ts'
import { ManualClock } from '../lib/clock.ts'
import { Leisure, sameButWords } from './leisure.ts'

test('a thousand nodes hear of twenty changes a second, and of some at once', async () => {
  const clock = new ManualClock(0)
  const leisure = new Leisure(clock)
  const taken = () => {
    let count = 0
    while (leisure.take(1000)) count++
    return count
  }
  assert.equal(taken(), 200)
  await clock.advance(leisure.waitMs)
  assert.equal(taken(), 1)
  await clock.advance(1000)
  assert.equal(taken(), 20)
  await clock.advance(3_600_000)
  assert.equal(taken(), 200)
})

const ready = (message: string, reason = 'Ready'): Condition => ({
  type: 'Ready',
  status: 'True',
  reason,
  message,
  lastTransitionTime: '2026-01-01T00:00:00Z',
})

const cases: [string, boolean, object, object][] = [
  ['a count', true, { mtu: 1450, nodes: 1 }, { mtu: 1450, nodes: 2 }],
  ['addresses', true, { addresses: '64/65536' }, { addresses: '128/65536' }],
  ['words', true, { conditions: [ready('1 node')] }, { conditions: [ready('2 nodes')] }],
  ['a reason', false, { conditions: [ready('')] }, { conditions: [ready('', 'NotOnEveryNode')] }],
  ['the MTU', false, { nodes: 1 }, { nodes: 1, mtu: 1450 }],
]

for (const [what, waits, a, b] of cases)
  test(`${what} ${waits ? 'waits' : 'does not wait'}`, () => {
    assert.equal(sameButWords(a, b), waits)
  })
