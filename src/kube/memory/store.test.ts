import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pod } from '../../api/core.ts'
import { crds } from '../../api/crds.ts'
import type { KubeObject, Resource } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { ManualClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import { kubeConformance } from '../conformance.ts'
import { anythingGoes, type CustomResourceDefinition, customResourceDefinitions } from './crd.ts'
import type { Schema } from './schema.ts'
import { MemoryKube } from './store.ts'

kubeConformance('an API server in memory', async () => {
  const kube = new MemoryKube()
  return { kube, close() {}, bookmark: () => kube.bookmark(), compact: () => kube.compact() }
})

const pod = (name: string, nodeName?: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: { nodeName, containers: [{ name: 'main', image: 'image:1' }] },
})

const things: Resource = {
  group: 'example.dev',
  version: 'v1',
  kind: 'Thing',
  plural: 'things',
  namespaced: false,
}

async function refused(act: Promise<unknown>): Promise<string> {
  const error = await act.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Fault, String(error))
  return `${error.kind}: ${error.message}`
}

test('what Kubernetes has and this server has not is said by name', async () => {
  const kube = new MemoryKube()
  const deployments = { ...things, group: 'apps', kind: 'Deployment', plural: 'deployments' }
  assert.equal(
    await refused(kube.list(deployments)),
    'unsupported: list deployments.apps: this API server does not implement deployments.apps apps/v1; use a real Kubernetes for it',
  )
})

test('objects are frozen, and those of a list and of every watch are the same', async () => {
  const kube = new MemoryKube()
  const created = await kube.create(resources.pods, pod('web', 'n1'))
  const [listed] = (await kube.list(resources.pods)).items
  assert.equal(listed, created)
  assert.throws(() => {
    created.spec.containers[0]!.name = 'other'
  }, TypeError)
})

test('no object brings a prototype of its own', async () => {
  const kube = new MemoryKube()
  const text = JSON.stringify(pod('web')).replace('"spec":{', '"spec":{"__proto__":{"nodeName":"n1"},')
  const created = await kube.create(resources.pods, JSON.parse(text) as Pod)
  assert.equal(created.spec.nodeName, undefined)
})

test('writing again what is there writes nothing', async () => {
  const kube = new MemoryKube()
  const created = await kube.create(resources.pods, pod('web', 'n1'))
  const patch = { type: 'merge', body: { metadata: { labels: {} } } } as const
  const twice = await kube.patch(resources.pods, { namespace: 'default', name: 'web' }, patch)
  assert.equal(twice.metadata.uid, created.metadata.uid)
  const thrice = await kube.patch(resources.pods, { namespace: 'default', name: 'web' }, patch)
  assert.equal(thrice, twice)
})

test('the same seed and clock give the same cluster', async () => {
  const play = async () => {
    let seed = 1
    const random = () => {
      seed = (seed * 16807) % 2147483647
      return seed / 2147483647
    }
    const kube = new MemoryKube({ clock: new ManualClock(), random })
    return await kube.create(resources.pods, {
      ...pod(''),
      metadata: { generateName: 'web-', namespace: 'default', name: '' },
    })
  }
  assert.deepEqual(await play(), await play())
})

test('a binding puts a pod on a node once', async () => {
  const kube = new MemoryKube()
  await kube.create(resources.pods, pod('web'))
  const ref = { namespace: 'default', name: 'web' }
  assert.equal((await kube.bind(ref, 'n1')).spec.nodeName, 'n1')
  assert.match(await refused(kube.bind(ref, 'n2')), /^conflict: .*already assigned to node "n1"/)
})

test('a reader that falls far behind is ended, and can go on from where it was', async () => {
  const kube = new MemoryKube({ history: 10 })
  const { signal } = new AbortController()
  const watch = kube.watch(resources.pods, '', { signal })[Symbol.asyncIterator]()
  const first = watch.next()
  for (let i = 0; i < 200; i++) await kube.create(resources.pods, pod(`p${i}`))
  await first
  let seen = 1
  while (!(await watch.next()).done) seen++
  assert.ok(seen > 90 && seen < 130, `${seen}`)
})

test('the kinds of a definition go with it, and their watches end', async () => {
  const kube = new MemoryKube()
  await kube.create(customResourceDefinitions, anythingGoes(things))
  await kube.create(things, { apiVersion: 'example.dev/v1', kind: 'Thing', metadata: { name: 'one' } })
  const { signal } = new AbortController()
  const seen: string[] = []
  const ended = (async () => {
    for await (const change of kube.watch(things, '', { signal })) seen.push(change.type)
  })()
  await kube.delete(customResourceDefinitions, { name: 'things.example.dev' })
  await ended
  assert.deepEqual(seen, ['ADDED', 'DELETED'])
  assert.match(await refused(kube.list(things)), /^missing: /)
})

test('a definition that changes keeps the objects and judges them anew', async () => {
  const kube = new MemoryKube()
  const definition = await kube.create(customResourceDefinitions, anythingGoes(things))
  const one: KubeObject & { size?: unknown } = {
    apiVersion: 'example.dev/v1',
    kind: 'Thing',
    metadata: { name: 'one' },
    size: 'large',
  }
  const created = await kube.create(things, one)
  const stricter = structuredClone(definition) as CustomResourceDefinition
  stricter.spec.versions[0]!.schema = {
    openAPIV3Schema: { type: 'object', properties: { size: { type: 'integer' } } },
  }
  await kube.update(customResourceDefinitions, stricter)
  assert.equal(await kube.get(things, { name: 'one' }), created)
  const labelled = { ...created, metadata: { ...created.metadata, labels: { a: 'b' } } }
  assert.match(await refused(kube.update(things, labelled)), /size in body must be of type integer/)
})

type Version = Partial<CustomResourceDefinition['spec']['versions'][number]>
const schema = (openAPIV3Schema: Schema): Version => ({ schema: { openAPIV3Schema } })

const definitions: [string, Version, RegExp][] = [
  ['no version to store', { storage: false }, /exactly one version marked as storage/],
  ['no schema', { schema: undefined }, /schemas are required/],
  ['a schema of no object', schema({ type: 'string' }), /must be object/],
  [
    'a field without type',
    schema({ type: 'object', properties: { size: {} } }),
    /properties\[size\]\.type: Required value/,
  ],
  [
    'a list of nothing',
    schema({ type: 'object', properties: { sizes: { type: 'array' } } }),
    /properties\[sizes\]\.items: Required value/,
  ],
  [
    'a rule that does not compile',
    schema({ type: 'object', 'x-kubernetes-validations': [{ rule: 'self.(' }] }),
    /compilation failed/,
  ],
  [
    'a rule that asks for nothing',
    schema({ type: 'object', 'x-kubernetes-validations': [{ rule: '1 + 1' }] }),
    /must evaluate to a bool/,
  ],
]
for (const [what, version, problem] of definitions)
  test(`a definition with ${what} is refused`, async () => {
    const plain = anythingGoes(things)
    const versions = [{ ...plain.spec.versions[0]!, ...version }]
    const crd = { ...plain, spec: { ...plain.spec, versions } }
    assert.match(await refused(new MemoryKube().create(customResourceDefinitions, crd)), problem)
  })

test('a definition is named after its plural and group', async () => {
  const crd = { ...anythingGoes(things), metadata: { name: 'other.example.dev' } }
  const act = new MemoryKube().create(customResourceDefinitions, crd)
  assert.match(await refused(act), /must be spec\.names\.plural\+"\."\+spec\.group/)
})

test('every definition of ours is taken', () => {
  const kube = new MemoryKube({ crds: crds() })
  const names = kube.kinds().map((kind) => kind.resource.kind)
  for (const { spec } of crds()) assert.ok(names.includes(spec.names.kind), spec.names.kind)
})
