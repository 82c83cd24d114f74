import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KubeObject } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { anythingGoes, customResourceDefinitions } from '../../kube/memory/crd.ts'
import { MemoryKube } from '../../kube/memory/store.ts'
import type { Kube } from '../../kube/port.ts'
import { ManualClock, realClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import { daemonSetNamed, daemonSets, removalOf } from './removal.ts'

const ref = { namespace: 'polynet-system', name: 'polynet-agent' }

/** An API server with the agents' DaemonSet, and an agent that has seen it. */
async function cluster() {
  const kube = new MemoryKube()
  const metadata = { name: ref.namespace }
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata })
  await kube.create(customResourceDefinitions, anythingGoes(daemonSets))
  const make = (finalizers: string[] = []) =>
    kube.create(daemonSets, { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: { ...ref, finalizers } })
  /** How requests for the DaemonSet are answered from now on. */
  let answer: (() => Promise<KubeObject>) | undefined
  const between = {
    get: (...args: Parameters<Kube['get']>) =>
      (args[0] === daemonSets ? answer?.() : undefined) ?? kube.get(...args),
    list: (...args: Parameters<Kube['list']>) => kube.list(...args),
  } as Kube
  return {
    kube: between,
    make,
    remove: () => kube.delete(daemonSets, ref),
    removeNamespace: () => kube.delete(resources.namespaces, { name: ref.namespace }),
    answers: (how: () => Promise<KubeObject>) => {
      answer = how
    },
  }
}

const seen = () => new Promise((resolve) => setTimeout(resolve, 20))
const refused = () => Promise.reject(new Fault('forbidden', 'get DaemonSet', 'not yours'))

test('a DaemonSet that is there makes it a restart', async () => {
  const { kube, make } = await cluster()
  await make()
  assert.equal(await removalOf(kube, ref, realClock).ask(), 'its DaemonSet is there')
})

test('a DaemonSet that is gone, or on its way, makes it a removal', async () => {
  for (const finalizers of [[], ['foregroundDeletion']]) {
    const { kube, make, remove } = await cluster()
    await make(finalizers)
    const removal = removalOf(kube, ref, realClock)
    await seen()
    await remove()
    assert.equal(await removal.ask(), 'removed')
  }
})

test('a namespace that is on its way makes it a removal, though the DaemonSet is there yet', async () => {
  const { kube, make, removeNamespace, answers } = await cluster()
  const before = await make(['keeps-it'])
  const removal = removalOf(kube, ref, realClock)
  await seen()
  await removeNamespace()
  // What goes with a namespace goes in any order.
  answers(async () => before)
  assert.equal(await removal.ask(), 'removed')
})

test('who may not ask any more was removed with the right to', async () => {
  const { kube, make, answers } = await cluster()
  await make()
  const removal = removalOf(kube, ref, realClock)
  await seen()
  answers(refused)
  assert.equal(await removal.ask(), 'removed')
})

test('a DaemonSet that was never seen is not missed: its name may be wrong, or the rights', async () => {
  const { kube, answers } = await cluster()
  const never = removalOf(kube, ref, realClock)
  await seen()
  assert.match(await never.ask(), /polynet-agent/)
  answers(refused)
  assert.equal(await removalOf(kube, ref, realClock).ask(), 'get DaemonSet: not yours')
})

test('an API server that does not answer, or answers that it cannot, makes it a restart', async () => {
  const { kube, make, answers } = await cluster()
  await make()
  const clock = new ManualClock()
  const removal = removalOf(kube, ref, clock)
  await seen()
  answers(() => new Promise(() => {}))
  const asked = removal.ask()
  await clock.advance(2000)
  assert.equal(await asked, 'the API server does not answer')
  answers(() => Promise.reject(new Fault('unavailable', 'get DaemonSet', 'no etcd')))
  assert.equal(await removal.ask(), 'get DaemonSet: no etcd')
})

test('a name that is none is refused', () => {
  assert.deepEqual(daemonSetNamed('polynet-system/polynet-agent'), ref)
  for (const text of ['polynet-agent', '/x', 'a/b/c'])
    assert.throws(() => daemonSetNamed(text), /namespace\/name/)
})
