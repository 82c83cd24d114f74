import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { KubeObject, Resource } from '../api/meta.ts'
import { type Clock, ManualClock, realClock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { connect } from './cluster/connect.ts'
import { anythingGoes, customResourceDefinitions } from './memory/crd.ts'
import { serve } from './memory/http.ts'
import { MemoryKube } from './memory/store.ts'
import { type Mirror, mirror } from './mirror.ts'
import type { Kube, Selection } from './port.ts'

interface ConfigMap extends KubeObject {
  data?: Record<string, string>
}

const configMaps: Resource<ConfigMap> = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
}

const configMap = (name: string, a = '1'): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default' },
  data: { a },
})

const ref = (name: string) => ({ namespace: 'default', name })

/** What a test has opened, closed also when it fails. */
const open: (() => unknown)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

/** A mirror, and what it has told, as text. */
function watched(kube: Kube, clock: Clock = realClock): { all: Mirror<ConfigMap>; told: string[] } {
  const all = mirror(kube, configMaps, { namespace: 'default' }, { clock, log: silentLog })
  open.push(() => all.close())
  const told: string[] = []
  all.onChange(({ type, object, before }) => {
    const was = before ? ` was ${before.data?.a}` : ''
    told.push(`${type} ${object.metadata.name}=${object.data?.a}${was}`)
  })
  return { all, told }
}

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await sleep(20)
  assert.ok(holds(), `${holds} does not come true`)
}

test('shows what is there, and then each change as it comes', async () => {
  const kube = new MemoryKube()
  await kube.create(configMaps, configMap('a'))
  const { all, told } = watched(kube)
  await all.synced
  assert.equal(all.get(ref('a'))?.data?.a, '1')
  await kube.create(configMaps, configMap('b'))
  await kube.update(configMaps, configMap('a', '2'))
  await kube.delete(configMaps, ref('b'))
  await until(() => told.length === 4)
  assert.deepEqual(told, ['ADDED a=1', 'ADDED b=1', 'MODIFIED a=2 was 1', 'DELETED b=1 was 1'])
  assert.deepEqual(
    all.list().map((o) => o.metadata.name),
    ['a'],
  )
  assert.equal(all.get(ref('b')), undefined)
  all.close()
})

const pasts: [title: string, awayMs: number, written: number][] = [
  ['an older past', 50, 0],
  ['an older past, and has got as far again since', 1000, 10],
]
for (const [title, awayMs, written] of pasts)
  test(`a server that came back with ${title} is read anew`, async () => {
    const [before, after] = [new MemoryKube(), new MemoryKube()]
    for (const name of ['kept', 'forgotten', 'also']) await before.create(configMaps, configMap(name))
    await after.create(configMaps, configMap('kept', 'older'))
    for (let i = 0; i < written; i++)
      await after.create(configMaps, {
        ...configMap(`other-${i}`),
        metadata: { name: `other-${i}`, namespace: 'kube-system' },
      })
    let server: Kube | undefined = before
    const away = new Fault('unavailable', 'ask', 'it is away')
    const there = () => {
      if (!server) throw away
      return server
    }
    const kube = {
      list: async (...args: Parameters<Kube['list']>) => there().list(...args),
      // As a watch cache does with a version that it has not got to: it says nothing.
      async *watch(resource: Resource, since: string, selection: Selection & { signal: AbortSignal }) {
        const asked = there()
        for (;;) {
          if (asked !== server) throw away
          const { resourceVersion } = await asked.list(resource)
          if (Number(resourceVersion) > Number(since)) return yield* asked.watch(resource, since, selection)
          await sleep(10)
        }
      },
    } as Pick<Kube, 'list' | 'watch'> as Kube
    const { all, told } = watched(kube)
    await all.synced
    told.length = 0
    server = undefined
    await sleep(awayMs)
    server = after
    await until(() => told.length >= 4)
    assert.deepEqual(told.toSorted(), [
      'ADDED kept=older',
      'DELETED also=1 was 1',
      'DELETED forgotten=1 was 1',
      'DELETED kept=1 was 1',
    ])
  })

test('after close it tells nothing, and a callback that was taken away is not called', async () => {
  const kube = new MemoryKube()
  const { all, told } = watched(kube)
  await all.synced
  const other: string[] = []
  const unsubscribe = all.onChange(({ type }) => other.push(type))
  unsubscribe()
  await kube.create(configMaps, configMap('a'))
  await until(() => told.length === 1)
  all.close()
  await kube.create(configMaps, configMap('b'))
  await sleep(50)
  assert.deepEqual([told, other], [['ADDED a=1'], []])
})

test('a callback that throws does not keep the others from hearing', async () => {
  const kube = new MemoryKube()
  const all = mirror(kube, configMaps, {}, { clock: realClock, log: silentLog })
  const heard: string[] = []
  all.onChange(() => {
    throw new Error('careless')
  })
  all.onChange(({ object }) => heard.push(object.metadata.name))
  await kube.create(configMaps, configMap('a'))
  await kube.create(configMaps, configMap('b'))
  await until(() => heard.length === 2)
  assert.equal(all.list().length, 2)
  all.close()
})

test('what happened during an outage is told when it ends, deletions among it', async () => {
  const memory = new MemoryKube()
  const server = await serve(memory)
  const kube = await connect(server.url)
  open.push(server.close, () => kube.close())
  for (const name of ['gone', 'kept', 'again', 'changed']) await memory.create(configMaps, configMap(name))
  const { all, told } = watched(kube)
  await all.synced
  told.length = 0
  await server.outage(true)
  await memory.delete(configMaps, ref('gone'))
  await memory.delete(configMaps, ref('again'))
  await memory.create(configMaps, configMap('again', '2'))
  await memory.update(configMaps, configMap('changed', '2'))
  await memory.create(configMaps, configMap('new'))
  // The server comes back without its past: the mirror must compare.
  memory.compact()
  await sleep(100)
  assert.equal(all.list().length, 4)
  await server.outage(false)
  await until(() => told.length >= 5)
  assert.deepEqual(told.toSorted(), [
    'ADDED again=2',
    'ADDED new=1',
    'DELETED again=1 was 1',
    'DELETED gone=1 was 1',
    'MODIFIED changed=2 was 1',
  ])
  assert.deepEqual(
    all
      .list()
      .map((o) => o.metadata.name)
      .toSorted(),
    ['again', 'changed', 'kept', 'new'],
  )
})

test('a watch that the server ends is gone on with, one that breaks off is not', async () => {
  const memory = new MemoryKube()
  const asked: string[] = []
  let current = Promise.withResolvers<void>()
  const kube = {
    list: (...args: Parameters<Kube['list']>) => {
      asked.push('list')
      return memory.list(...args)
    },
    async *watch(resource: Resource, since: string, selection: Selection & { signal: AbortSignal }) {
      asked.push('watch')
      current = Promise.withResolvers<void>()
      const signal = AbortSignal.any([selection.signal, aborted(current.promise)])
      yield* memory.watch(resource, since, { ...selection, signal })
      await current.promise
    },
  } as Pick<Kube, 'list' | 'watch'> as Kube
  const { all, told } = watched(kube)
  await all.synced
  for (const [name, end] of [
    ['a', () => current.resolve()],
    ['b', () => current.reject(new Fault('unavailable', 'watch', 'the connection broke off'))],
    ['c', () => {}],
  ] as const) {
    await memory.create(configMaps, configMap(name))
    await until(() => told.includes(`ADDED ${name}=1`))
    end()
  }
  await until(() => asked.length === 5)
  assert.deepEqual([asked, told.length], [['list', 'watch', 'watch', 'list', 'watch'], 3])
})

/** Once the promise is settled. */
function aborted(promise: Promise<void>): AbortSignal {
  const controller = new AbortController()
  const abort = () => controller.abort()
  promise.then(abort, abort)
  return controller.signal
}

test('a kind that is not there yet is waited for', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  const widgets: Resource = {
    group: 'example.dev',
    version: 'v1',
    kind: 'Widget',
    plural: 'widgets',
    namespaced: true,
  }
  const all = mirror(kube, widgets, {}, { clock, log: silentLog })
  let synced = false
  void all.synced.then(() => {
    synced = true
  })
  await clock.advance(60_000)
  assert.equal(synced, false)
  await kube.create(customResourceDefinitions, anythingGoes(widgets))
  await clock.advance(60_000)
  assert.equal(synced, true)
  all.close()
})

test('a server that says nothing new is still heard of, once a minute', async () => {
  const clock = new ManualClock(0)
  const kube = new MemoryKube({ clock })
  const { all } = watched(kube, clock)
  await all.synced
  assert.equal(all.lastContact, 0)
  await clock.advance(150_000)
  assert.equal(all.lastContact, 120_000)
  all.close()
})
