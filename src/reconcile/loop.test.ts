import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { startLoop } from './loop.ts'

const idle = () => new Promise((resolve) => setImmediate(resolve))

test('nothing runs until the loop is woken, and many wakes are one round', async () => {
  let rounds = 0
  const clock = new ManualClock()
  const loop = startLoop({
    doing: 'count',
    round: async () => {
      rounds++
    },
    clock,
    log: silentLog,
    batchMs: 10,
  })
  await idle()
  assert.equal(rounds, 0)
  for (let i = 0; i < 5; i++) loop.wake()
  await clock.advance(10)
  assert.equal(rounds, 1)
  await clock.advance(1000)
  assert.equal(rounds, 1)
  await loop.close()
})

test('settled waits for a round that begins after the call', async () => {
  const log: string[] = []
  let finish = () => {}
  const loop = startLoop({
    doing: 'work',
    round: () => {
      log.push('begin')
      return new Promise((resolve) => {
        finish = resolve
      })
    },
    clock: new ManualClock(),
    log: silentLog,
  })
  loop.wake()
  await idle()
  const settled = loop.settled().then(() => log.push('settled'))
  finish()
  await idle()
  assert.deepEqual(log, ['begin', 'begin'])
  finish()
  await settled
  assert.deepEqual(log, ['begin', 'begin', 'settled'])
  await loop.close()
})

test('changes do not wait for a clock that is set back to get there again', async () => {
  const clock = new ManualClock()
  let [back, rounds] = [0, 0]
  const loop = startLoop({
    doing: 'count',
    round: async () => {
      rounds++
    },
    clock: { now: () => clock.now() - back, sleep: (ms, signal) => clock.sleep(ms, signal) },
    log: silentLog,
    batchMs: 10,
    restMs: 200,
  })
  loop.wake()
  await clock.advance(10)
  back = 3_600_000
  loop.wake()
  await clock.advance(200)
  assert.equal(rounds, 2)
  await loop.close()
})

test('a round that fails rejects who waited and is tried again, more slowly each time', async () => {
  const clock = new ManualClock(0)
  const at: number[] = []
  const loop = startLoop({
    doing: 'ask',
    round: async () => {
      at.push(clock.now())
      if (at.length < 4) throw new Error('away')
    },
    clock,
    log: silentLog,
  })
  await assert.rejects(loop.settled(), /ask: away/)
  await clock.advance(1000)
  assert.deepEqual(at, [0, 100, 300, 700])
  await loop.close()
})

test('closing rejects those who wait and starts no other round', async () => {
  let rounds = 0
  let finish = () => {}
  const loop = startLoop({
    doing: 'work',
    round: () => {
      rounds++
      return new Promise((resolve) => {
        finish = resolve
      })
    },
    clock: new ManualClock(),
    log: silentLog,
  })
  loop.wake()
  await idle()
  const waiting = assert.rejects(loop.settled(), /closing/)
  const closed = loop.close()
  finish()
  await closed
  await waiting
  assert.equal(rounds, 1)
})

test('after a round that took long it rests, unless somebody waits for the next', async () => {
  const clock = new ManualClock(0)
  const at: number[] = []
  const loop = startLoop({
    doing: 'work',
    round: async () => {
      at.push(clock.now())
      await clock.sleep(10)
    },
    clock,
    log: silentLog,
    restMs: 500,
  })
  loop.wake()
  await clock.advance(10)
  loop.wake()
  await clock.advance(89)
  assert.deepEqual(at, [0])
  await clock.advance(11)
  assert.deepEqual(at, [0, 100])
  await clock.advance(10)
  const settled = loop.settled()
  await clock.advance(10)
  await settled
  assert.deepEqual(at, [0, 100, 120])
  await loop.close()
})
