import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from './turns.ts'

/** An action that notes when it starts and ends, and ends when told. */
function action(log: string[], name: string) {
  let finish = () => {}
  const ended = new Promise<void>((resolve) => {
    finish = resolve
  })
  const act = async () => {
    log.push(`${name} starts`)
    await ended
    log.push(`${name} ends`)
  }
  return { act, finish }
}

const idle = () => new Promise((resolve) => setImmediate(resolve))

test('actions of one key follow each other, those of another do not wait', async () => {
  const log: string[] = []
  const turns = new Turns()
  const [a1, a2, b] = [action(log, 'a1'), action(log, 'a2'), action(log, 'b')]
  const all = [turns.take('a', a1.act), turns.take('a', a2.act), turns.take('b', b.act)]
  await idle()
  assert.deepEqual(log, ['a1 starts', 'b starts'])
  for (const { finish } of [a1, a2, b]) finish()
  await Promise.all(all)
  assert.deepEqual(log, ['a1 starts', 'b starts', 'a1 ends', 'b ends', 'a2 starts', 'a2 ends'])
})

test('an action that fails lets the next one of its key run', async () => {
  const turns = new Turns()
  const failing = turns.take('a', async () => {
    throw new Error('no')
  })
  const next = turns.take('a', async () => 'yes')
  await assert.rejects(failing)
  assert.equal(await next, 'yes')
})

test('over waits for all that is under way, whether it fails or not', async () => {
  const log: string[] = []
  const turns = new Turns()
  const [one, next] = [action(log, 'one'), action(log, 'next')]
  const failing = turns.take('b', async () => {
    throw new Error('no')
  })
  const all = [turns.take('a', one.act), turns.take('a', next.act), assert.rejects(failing)]
  const over = turns.over().then(() => log.push('over'))
  one.finish()
  await idle()
  assert.deepEqual(log, ['one starts', 'one ends', 'next starts'])
  next.finish()
  await Promise.all([...all, over])
  assert.deepEqual(log.slice(-2), ['next ends', 'over'])
})
