import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crds } from '../api/crds.ts'
import type { Network } from '../api/network.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { realClock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { watch } from './watched.ts'

test('once closed nothing is said to be in view, and nothing more is asked for', async () => {
  const kube = new MemoryKube({ crds: crds() })
  const asked: string[] = []
  const list = kube.list.bind(kube)
  // Of blocks, the API server says nothing.
  const silent: typeof kube.list = (resource, selection) => {
    asked.push(`${selection?.namespace} ${resource.plural}`)
    return resource.plural === 'addressblocks' ? new Promise(() => {}) : list(resource, selection)
  }
  const watched = watch({
    kube: Object.assign(kube, { list: silent }),
    clock: realClock,
    log: silentLog,
    node: 'n1',
  })
  await watched.synced()
  const blue = { metadata: { namespace: 'blue', name: 'net' }, spec: {} } as Network
  watched.render([blue])
  const waiting = watched.synced().then(
    () => 'in view',
    (error) => isFault(error, 'unavailable') && error.message,
  )
  watched.close()
  assert.equal(await waiting, 'see what the cluster holds: the agent is closing')
  await assert.rejects(watched.synced(), (error) => isFault(error, 'unavailable'))
  watched.render([blue, { ...blue, metadata: { namespace: 'red', name: 'net' } }])
  assert.deepEqual(
    asked.filter((one) => one.endsWith('addressblocks')),
    ['blue addressblocks'],
  )
})

test('whoever compares own slices hears when a namespace comes into view, also where none of them is there', async () => {
  const kube = new MemoryKube({ crds: crds() })
  const watched = watch({ kube, clock: realClock, log: silentLog, node: 'n1' })
  await watched.synced()
  const heard = Promise.withResolvers<boolean>()
  watched.onOwnSlice(() => heard.resolve(watched.slicesIn('blue') !== undefined))
  watched.render([{ metadata: { namespace: 'blue', name: 'net' }, spec: { topology: 'Layer2' } } as Network])
  const late = setTimeout(() => heard.reject(new Error('nobody was told')), 10_000)
  assert.equal(await heard.promise, true)
  clearTimeout(late)
  watched.close()
})
