import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resources } from '../src/api/resources.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import { ManualClock } from '../src/lib/clock.ts'
import { clockThrough, cord, kubeThrough, Outage, through } from './severed.ts'

/** `pending` when the promise does nothing for a turn of the event loop. */
const stateOf = (promise: Promise<unknown>): Promise<string> =>
  Promise.race([
    promise.then(
      (value) => `resolved ${JSON.stringify(value)}`,
      (error) => `rejected ${error.message}`,
    ),
    new Promise<string>((resolve) => setImmediate(resolve, 'pending')),
  ])

const namespace = (name: string) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })

test('calls of a program that is gone do nothing, and those under way are never answered', async () => {
  const line = cord()
  const done: string[] = []
  const gate = Promise.withResolvers<string>()
  const target = {
    act: async (what: string) => {
      done.push(what)
      return what
    },
    wait: () => gate.promise,
  }
  const seen = through(target, line)
  assert.equal(await stateOf(seen.act('before')), 'resolved "before"')
  const waiting = seen.wait()
  line.cut()
  gate.resolve('too late')
  assert.equal(await stateOf(waiting), 'pending')
  assert.equal(await stateOf(seen.act('after')), 'pending')
  assert.deepEqual(done, ['before'])
})

test('who is gone is not woken, and keeps no timer', async () => {
  const line = cord()
  const clock = new ManualClock()
  const sleeping = clockThrough(clock, line).sleep(1000)
  line.cut()
  await clock.advance(2000)
  assert.equal(await stateOf(sleeping), 'pending')
})

test('an outage refuses calls and ends watches; when it is over both work again', async () => {
  const kube = new MemoryKube()
  const outage = new Outage()
  const line = cord()
  const seen = kubeThrough(kube, line, outage)
  const { resourceVersion } = await seen.list(resources.namespaces)
  const changes: string[] = []
  const follow = async (since: string) => {
    for await (const change of seen.watch(resources.namespaces, since, { signal: line.signal }))
      if (change.type !== 'BOOKMARK') changes.push(change.object.metadata.name)
    return 'ended'
  }
  const watching = follow(resourceVersion)
  await kube.create(resources.namespaces, namespace('one'))
  assert.equal(await stateOf(watching), 'pending')
  outage.set(true)
  assert.equal(await watching, 'ended')
  await assert.rejects(seen.list(resources.namespaces), { kind: 'unavailable' })
  await assert.rejects(follow('0'), { kind: 'unavailable' })
  outage.set(false)
  const again = follow(resourceVersion)
  await kube.create(resources.namespaces, namespace('two'))
  assert.equal(await stateOf(again), 'pending')
  assert.deepEqual(changes, ['one', 'one', 'two'])
  line.cut()
})
