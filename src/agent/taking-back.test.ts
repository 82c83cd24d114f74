import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { startTakingBack } from './taking-back.ts'

/** What holds on for so many attempts, and when each was made, in seconds. */
function holding(attempts: number) {
  const clock = new ManualClock()
  const begun = clock.now()
  const made: string[] = []
  const warnings: string[] = []
  const takingBack = startTakingBack({
    async takeAway(containerID) {
      made.push(`${containerID} ${(clock.now() - begun) / 1000}`)
      if (made.length > attempts) return
      throw new Error(made.length > 6 ? 'the disk is full' : 'it will not let go')
    },
    clock,
    log: { ...silentLog, warn: (message) => warnings.push(message) },
  })
  return { clock, made, warnings, takingBack }
}

test('what holds on is tried ever more slowly, at least every half a minute, until it lets go', async () => {
  const { clock, made, takingBack } = holding(9)
  takingBack.owe('a')
  await clock.advance(10 * 60_000)
  assert.deepEqual(
    made.map((each) => each.split(' ')[1]),
    ['0.25', '0.75', '1.75', '3.75', '7.75', '15.75', '31.75', '61.75', '91.75', '121.75'],
  )
  assert.deepEqual(takingBack.owed(), [])
})

test('why it fails is told when it is new', async () => {
  const { clock, warnings, takingBack } = holding(9)
  takingBack.owe('a')
  await clock.advance(10 * 60_000)
  assert.deepEqual(
    warnings,
    ['it will not let go', 'the disk is full'].map((why) => `take away what is left of a sandbox: ${why}`),
  )
})

test('what is owed twice is tried once at a time, and each for itself', async () => {
  const { clock, made, takingBack } = holding(1)
  takingBack.owe('a')
  takingBack.owe('a')
  takingBack.owe('b')
  await clock.advance(500)
  assert.deepEqual(made, ['a 0.25', 'b 0.25'])
  assert.deepEqual(takingBack.owed(), ['a'])
  await clock.advance(500)
  assert.deepEqual(made.slice(2), ['a 0.75'])
  takingBack.owe('a')
  await clock.advance(500)
  assert.deepEqual(made.slice(3), ['a 1.25'], 'owed anew, it is tried anew')
})

test('nothing is tried once it is closed', async () => {
  const { clock, made, takingBack } = holding(1)
  takingBack.owe('a')
  takingBack.close()
  takingBack.owe('b')
  await clock.advance(60_000)
  assert.deepEqual(made, [])
})
