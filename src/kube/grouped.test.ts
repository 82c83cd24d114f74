import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KubeObject } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { Grouped } from './grouped.ts'
import { MemoryKube } from './memory/store.ts'
import { mirror } from './mirror.ts'

const groupOf = ({ metadata }: KubeObject) => metadata.labels?.group

test('each group has its own objects, in the order in which they came, whatever becomes of them', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  const all = mirror(kube, resources.pods, { namespace: 'default' }, { clock, log: silentLog })
  const groups = new Grouped(all, groupOf)
  await all.synced
  const seen = async () => {
    await clock.advance(0)
    return ['blue', 'red'].map((g) => groups.of(g).map(({ metadata }) => metadata.name)).join(' | ')
  }
  const revisions = () => ['blue', 'red'].map((g) => groups.revisionOf(g))
  const put = (name: string, group?: string) =>
    kube.create(resources.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'default', name, ...(group ? { labels: { group } } : {}) },
      spec: { containers: [{ name: 'c', image: 'x' }] },
    })
  const label = (name: string, labels: Record<string, string | null>) =>
    kube.patch(
      resources.pods,
      { namespace: 'default', name },
      { type: 'merge', body: { metadata: { labels } } as never },
    )
  const remove = (name: string) =>
    kube.delete(resources.pods, { namespace: 'default', name }, { gracePeriodSeconds: 0 })
  try {
    assert.deepEqual([await seen(), revisions()], [' | ', [0, 0]])
    for (const [name, group] of [['a', 'blue'], ['b', 'red'], ['c', 'blue'], ['d']] as const)
      await put(name, group)
    assert.equal(await seen(), 'a,c | b')
    const [blue, red] = revisions()

    await label('a', { other: 'x' })
    assert.equal(await seen(), 'a,c | b', 'changed, and where it was')
    assert.notEqual(revisions()[0], blue)
    assert.equal(revisions()[1], red, 'nothing of the other group')

    await label('a', { group: 'red' })
    assert.equal(await seen(), 'c | b,a')
    await label('b', { group: null })
    assert.equal(await seen(), 'c | a')
    await label('d', { group: 'blue' })
    assert.equal(await seen(), 'c,d | a')

    const before = revisions()
    await remove('a')
    assert.deepEqual([await seen(), revisions()], ['c,d | ', [before[0], 0]])
    await put('e', 'red')
    assert.equal(await seen(), 'c,d | e')
    assert.ok(!before.includes(groups.revisionOf('red')), 'one that there was before means what it meant')
  } finally {
    all.close()
  }
})
