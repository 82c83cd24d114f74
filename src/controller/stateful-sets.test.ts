import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../api/address-block.ts'
import { resources } from '../api/resources.ts'
import { anythingGoes, customResourceDefinitions } from '../kube/memory/crd.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { ManualClock } from '../lib/clock.ts'
import { Fault, isFault } from '../lib/fault.ts'
import { statefulSets } from './addresses.ts'
import { keptForMs, StatefulHolderLooks } from './stateful-sets.ts'

const keptFor = (pod: string): AddressBlock => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AddressBlock',
  metadata: { namespace: 'default', name: pod },
  spec: {
    network: 'blue',
    networkUID: 'blue-uid',
    cidr: '10.1.240.7/32',
    node: 'n1',
    nodeUID: 'n1-uid',
    holder: `statefulset-pod default/${pod}`,
  },
})

test('a pod is long gone when no look has seen it for a day, and not when it was there meanwhile', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  const looks = new StatefulHolderLooks({ kube, clock })
  const blocks = ['db-0', 'db-1'].map(keptFor)
  assert.equal(await looks.look(blocks), undefined, 'no StatefulSets')
  await kube.create(customResourceDefinitions, anythingGoes(statefulSets))
  await kube.create(statefulSets, {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: 'default', name: 'db' },
    spec: { replicas: 2 },
  })
  const ref = { namespace: 'default', name: 'db-1' }
  const come = () =>
    kube.create(resources.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: ref,
      spec: { containers: [{ name: 'c', image: 'x' }] },
    })
  const go = () => kube.delete(resources.pods, ref, { gracePeriodSeconds: 0 })
  const seen = async () => {
    const known = await looks.look(blocks)
    const [pods, sets] = [known?.pods, known?.statefulSets].map((list) => list?.map((o) => o.metadata.name))
    return `${sets}: ${pods}; long gone ${[...(known?.longGone ?? [])].join()}`
  }
  assert.equal(await seen(), 'db: ; long gone ')
  await clock.advance(keptForMs / 2)
  await come()
  assert.equal(await seen(), 'db: db-1; long gone ')
  await go()
  assert.equal(await seen(), 'db: ; long gone ')
  await clock.advance(keptForMs / 2)
  assert.equal(await seen(), 'db: ; long gone default/db-0')
  await clock.advance(keptForMs / 2)
  assert.equal(await seen(), 'db: ; long gone default/db-0,default/db-1')
  await come()
  assert.equal(await seen(), 'db: db-1; long gone default/db-0')
})

test('those that are asked for are asked for sixteen at once, and no more once one is refused', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  await kube.create(customResourceDefinitions, anythingGoes(statefulSets))
  const get = kube.get.bind(kube)
  let [underWay, most, asked] = [0, 0, 0]
  let away = false
  kube.get = async (resource, ref) => {
    asked++
    most = Math.max(most, ++underWay)
    await new Promise((resolve) => setImmediate(resolve))
    underWay--
    if (away) throw new Fault('unavailable', 'get a pod', 'the API server does not answer')
    return get(resource, ref)
  }
  const looks = new StatefulHolderLooks({ kube, clock })
  const blocks = Array.from({ length: 100 }, (_, i) => keptFor(`db-${i}`))
  assert.deepEqual((await looks.look(blocks))?.pods, [])
  assert.deepEqual({ most, asked }, { most: 16, asked: 101 })
  away = true
  await assert.rejects(looks.look(Array.from({ length: 100 }, (_, i) => keptFor(`set-${i}-0`))), (error) =>
    isFault(error, 'unavailable'),
  )
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(asked, 101 + 16)
})
