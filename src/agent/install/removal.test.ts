import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KubeObject } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { anythingGoes, customResourceDefinitions } from '../../kube/memory/crd.ts'
import { MemoryKube } from '../../kube/memory/store.ts'
import type { Kube } from '../../kube/port.ts'
import { type Clock, ManualClock, realClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import { daemonSetNamed, daemonSets, removalOf } from './removal.ts'

const ref = { namespace: 'polynet-system', name: 'polynet-agent' }

/** An API server with the agents' DaemonSet, and an agent that has seen it. */
async function cluster() {
  const kube = new MemoryKube()
  const metadata = { name: ref.namespace }
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata })
  await kube.create(customResourceDefinitions, anythingGoes(daemonSets))
  await kube.create(resources.nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1', labels: { polynet: 'yes' } },
    spec: {},
  })
  const make = (finalizers: string[] = [], nodeSelector: Record<string, string> = { polynet: 'yes' }) =>
    kube.create(daemonSets, {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { ...ref, finalizers },
      spec: { template: { spec: { nodeSelector } } },
    })
  /** How requests for the DaemonSet, or for the Node, are answered from now on. */
  let answer: (() => Promise<KubeObject>) | undefined
  let nodeAnswer: (() => Promise<KubeObject>) | undefined
  const between = {
    get: (...args: Parameters<Kube['get']>) =>
      (args[0] === daemonSets ? answer : nodeAnswer)?.() ?? kube.get(...args),
    list: (...args: Parameters<Kube['list']>) => kube.list(...args),
  } as Kube
  return {
    kube: between,
    make,
    label: (polynet: string | null) =>
      kube.patch(
        resources.nodes,
        { name: 'n1' },
        { type: 'merge', body: { metadata: { labels: { polynet } } } },
      ),
    remove: () => kube.delete(daemonSets, ref),
    removeNamespace: () => kube.delete(resources.namespaces, { name: ref.namespace }),
    answers: (how: () => Promise<KubeObject>) => {
      answer = how
    },
    nodeAnswers: (how: () => Promise<KubeObject>) => {
      nodeAnswer = how
    },
  }
}

const seen = () => new Promise((resolve) => setTimeout(resolve, 20))
const refused = () => Promise.reject(new Fault('forbidden', 'get DaemonSet', 'not yours'))
const removalIn = (kube: Kube, clock: Clock = realClock) => removalOf(kube, 'n1', ref, clock)

test('a DaemonSet that is there makes it a restart', async () => {
  const { kube, make } = await cluster()
  await make()
  assert.deepEqual(await removalIn(kube).ask(), { removed: false, why: 'its DaemonSet is there' })
})

test('a DaemonSet that is gone, or on its way, makes it a removal', async () => {
  const cases: [finalizers: string[], why: string][] = [
    [[], 'get daemonsets.apps polynet-system/polynet-agent: daemonsets.apps "polynet-agent" not found'],
    [['foregroundDeletion'], 'its DaemonSet is being deleted'],
  ]
  for (const [finalizers, why] of cases) {
    const { kube, make, remove } = await cluster()
    await make(finalizers)
    const removal = removalIn(kube)
    await seen()
    await remove()
    assert.deepEqual(await removal.ask(), { removed: true, why })
  }
})

test('a DaemonSet that does not want its node any more makes it a removal, until it does again', async () => {
  const { kube, make, label } = await cluster()
  await make()
  await label(null)
  const away = { removed: true, why: 'its DaemonSet is for other nodes' }
  assert.deepEqual(await removalIn(kube).ask(), away)
  await label('no')
  assert.deepEqual(await removalIn(kube).ask(), away)
  await label('yes')
  assert.deepEqual(await removalIn(kube).ask(), { removed: false, why: 'its DaemonSet is there' })
})

test('a Node that nobody may see, or that is gone, makes it a restart', async () => {
  const { kube, make, nodeAnswers } = await cluster()
  await make([], { polynet: 'no' })
  for (const kind of ['forbidden', 'missing', 'unavailable'] as const) {
    nodeAnswers(() => Promise.reject(new Fault(kind, 'get Node n1', 'not now')))
    assert.deepEqual(await removalIn(kube).ask(), {
      removed: false,
      why: 'its DaemonSet is there, for which nodes nobody knows: get Node n1: not now',
    })
  }
})

test('a namespace that is on its way makes it a removal, though the DaemonSet is there yet', async () => {
  const { kube, make, removeNamespace, answers } = await cluster()
  const before = await make(['keeps-it'])
  const removal = removalIn(kube)
  await seen()
  await removeNamespace()
  // What goes with a namespace goes in any order.
  answers(async () => before)
  assert.deepEqual(await removal.ask(), { removed: true, why: 'its namespace is being deleted' })
})

test('who may not ask any more was removed with the right to', async () => {
  const { kube, make, answers } = await cluster()
  await make()
  const removal = removalIn(kube)
  await seen()
  answers(refused)
  assert.deepEqual(await removal.ask(), { removed: true, why: 'get DaemonSet: not yours' })
})

test('a DaemonSet that was never seen is not missed: its name may be wrong, or the rights', async () => {
  const { kube, answers } = await cluster()
  const never = removalIn(kube)
  await seen()
  const { removed, why } = await never.ask()
  assert.equal(removed, false)
  assert.match(why, /polynet-agent/)
  answers(refused)
  assert.deepEqual(await removalIn(kube).ask(), { removed: false, why: 'get DaemonSet: not yours' })
})

test('an API server that does not answer, or answers that it cannot, makes it a restart', async () => {
  const { kube, make, answers, nodeAnswers } = await cluster()
  await make([], { polynet: 'no' })
  const clock = new ManualClock()
  const removal = removalIn(kube, clock)
  await seen()
  const silent = () => new Promise<never>(() => {})
  for (const silence of [nodeAnswers, answers]) {
    silence(silent)
    const asked = removal.ask()
    await clock.advance(2000)
    assert.deepEqual(await asked, { removed: false, why: 'the API server does not answer' })
  }
  answers(() => Promise.reject(new Fault('unavailable', 'get DaemonSet', 'no etcd')))
  assert.deepEqual(await removal.ask(), { removed: false, why: 'get DaemonSet: no etcd' })
})

test('a name that is none is refused', () => {
  assert.deepEqual(daemonSetNamed('polynet-system/polynet-agent'), ref)
  for (const text of ['polynet-agent', '/x', 'a/b/c'])
    assert.throws(() => daemonSetNamed(text), /namespace\/name/)
})
