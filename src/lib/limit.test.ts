import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limit } from './limit.ts'

const idle = () => new Promise((resolve) => setImmediate(resolve))

test('no more than the limit run at once, the others follow in their order, also behind one that fails', async () => {
  const log: string[] = []
  const limited = limit(2)
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const ended = limited(() => {
      log.push(name)
      return promise
    }).catch((error) => String(error))
    return { ended, resolve: () => resolve(name), fail: () => reject('failed') }
  })
  await idle()
  assert.equal(log.join(' '), 'a b')
  b!.fail()
  await idle()
  assert.equal(log.join(' '), 'a b c')
  c!.resolve()
  d!.resolve()
  await idle()
  assert.equal(log.join(' '), 'a b c d')
  a!.resolve()
  assert.deepEqual(await Promise.all([a, b, c, d].map((one) => one!.ended)), ['a', 'failed', 'c', 'd'])
  assert.equal(await limited(async () => 'e'), 'e')
})
