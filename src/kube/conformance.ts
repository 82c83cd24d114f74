import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Lease, Pod } from '../api/core.ts'
import type { KubeObject, OwnerReference, Resource } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { Fault, type Kind } from '../lib/fault.ts'
import type { Change, Kube } from './port.ts'
import { causesOf } from './status.ts'

/** An API server to hold to the suite. */
export interface Started {
  kube: Kube
  close(): Promise<void> | void
  /** Sends every watch a bookmark now. Absent where the server does so when it likes. */
  bookmark?(): void
  /** Forgets history. Absent where that cannot be asked for. */
  compact?(): void
  /** Resolves when pods can be made in a new namespace. Absent where that is at once. */
  settled?(namespace: string): Promise<void>
}

/** Why cases that the server cannot play are left out. */
export interface Without {
  /** Nothing collects garbage and empties namespaces (no kube-controller-manager). */
  controllers?: string
}

interface Widget extends KubeObject {
  spec?: {
    size?: number
    color?: string
    name?: string
    parts?: { id: string; weight?: number }[]
    [unknown: string]: unknown
  }
  status?: { phase?: string }
}

interface ConfigMap extends KubeObject {
  data?: Record<string, string>
}

const widgets: Resource<Widget> = {
  group: 'conformance.polynet.dev',
  version: 'v1',
  kind: 'Widget',
  plural: 'widgets',
  namespaced: true,
}

const configMaps: Resource<ConfigMap> = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
}

const definitions: Resource = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
}

const definition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.conformance.polynet.dev' },
  spec: {
    group: widgets.group,
    scope: 'Namespaced',
    names: { kind: 'Widget', plural: 'widgets' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                required: ['size'],
                properties: {
                  size: { type: 'integer', minimum: 1, maximum: 10 },
                  color: { type: 'string', enum: ['red', 'blue'], default: 'red' },
                  name: {
                    type: 'string',
                    pattern: '^[a-z]+$',
                    maxLength: 8,
                    'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'name is fixed' }],
                  },
                  parts: {
                    type: 'array',
                    maxItems: 3,
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['id'],
                    items: {
                      type: 'object',
                      required: ['id'],
                      properties: {
                        id: { type: 'string', maxLength: 8 },
                        weight: { type: 'integer', default: 1 },
                      },
                    },
                  },
                },
                'x-kubernetes-validations': [
                  {
                    rule: "self.color != 'blue' || self.size > 2",
                    message: 'blue widgets are larger than 2',
                  },
                ],
              },
              status: { type: 'object', properties: { phase: { type: 'string' } } },
            },
          },
        },
      },
    ],
  },
} as KubeObject

/**
 * What Polynet relies on an API server for; every expectation is what a real
 * kube-apiserver does. Each case works in a namespace of its own.
 */
export function kubeConformance(name: string, start: () => Promise<Started>, without: Without = {}): void {
  describe(name, () => {
    let server: Started
    let kube: Kube
    let count = 0
    const run = Math.random().toString(36).slice(2, 8)

    before(async () => {
      server = await start()
      kube = server.kube
      await kube.create(definitions, definition).catch((error: unknown) => {
        if (!(error instanceof Fault && error.kind === 'exists')) throw error
      })
      // A real server takes a moment to serve a new kind.
      await eventually(async () => {
        await kube.list(widgets)
        return true
      })
    })

    after(async () => {
      await kube?.delete(definitions, definition.metadata)
      await server?.close()
    })

    async function namespace(): Promise<string> {
      const metadata = { name: `conformance-${run}-${count++}` }
      await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata })
      await server.settled?.(metadata.name)
      return metadata.name
    }

    const widget = (home: string, id: string, spec: Widget['spec'] = { size: 1 }): Widget => ({
      apiVersion: 'conformance.polynet.dev/v1',
      kind: 'Widget',
      metadata: { name: id, namespace: home },
      spec,
    })

    const configMap = (home: string, id: string, labels?: Record<string, string>): ConfigMap => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: id, namespace: home, labels },
      data: { a: '1' },
    })

    const pod = (home: string, id: string, nodeName?: string): Pod => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: id, namespace: home },
      spec: {
        nodeName,
        containers: [{ name: 'main', image: 'image:1', env: [{ name: 'A', value: '1' }] }],
      },
    })

    /** Changes as text, until there are `length` of them. */
    async function changes<T extends KubeObject>(
      resource: Resource<T>,
      since: string,
      selection: { namespace?: string; labels?: string; fields?: string },
      length: number,
    ): Promise<string[]> {
      const control = new AbortController()
      const timer = setTimeout(() => control.abort(), 5000)
      const seen: string[] = []
      for await (const change of kube.watch(resource, since, { ...selection, signal: control.signal })) {
        if (change.type === 'BOOKMARK') continue
        seen.push(`${change.type} ${change.object.metadata.name}`)
        if (seen.length >= length) break
      }
      clearTimeout(timer)
      return seen
    }

    test('what was created is there, with what the server adds', async () => {
      const home = await namespace()
      const created = await kube.create(widgets, widget(home, 'one'))
      const { uid, resourceVersion, creationTimestamp, generation } = created.metadata
      assert.match(uid ?? '', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
      assert.match(resourceVersion ?? '', /^[0-9]+$/)
      assert.match(creationTimestamp ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
      assert.equal(generation, 1)
      assert.deepEqual(await kube.get(widgets, { namespace: home, name: 'one' }), created)
    })

    const refusals: [string, Kind, (home: string) => Promise<unknown>][] = [
      ['getting what is not there', 'missing', (n) => kube.get(widgets, { namespace: n, name: 'x' })],
      [
        'getting from a namespace that is not there',
        'missing',
        () => kube.get(widgets, { namespace: 'no-such', name: 'x' }),
      ],
      ['a name that leads elsewhere', 'missing', (n) => kube.get(widgets, { namespace: n, name: '..' })],
      ['an empty name', 'missing', (n) => kube.get(widgets, { namespace: n, name: '' })],
      [
        'a kind that nobody defined',
        'missing',
        () => kube.list({ ...widgets, plural: 'gadgets', kind: 'Gadget' }),
      ],
      [
        'creating in a namespace that is not there',
        'missing',
        () => kube.create(widgets, widget('no-such', 'x')),
      ],
      ['creating without a namespace', 'invalid', () => kube.create(widgets, widget('', 'x'))],
      ['a name with capitals', 'invalid', (n) => kube.create(widgets, widget(n, 'Capital'))],
      ['a label that is none', 'invalid', (n) => kube.create(configMaps, configMap(n, 'x', { 'a b': 'c' }))],
      [
        'a pod without containers',
        'invalid',
        (n) => kube.create(resources.pods, { ...pod(n, 'x'), spec: { containers: [] } }),
      ],
      ['updating what is not there', 'missing', (n) => kube.update(configMaps, configMap(n, 'x'))],
      ['deleting what is not there', 'missing', (n) => kube.delete(widgets, { namespace: n, name: 'x' })],
      [
        'patching what is not there',
        'missing',
        (n) => kube.patch(widgets, { namespace: n, name: 'x' }, { type: 'merge', body: {} }),
      ],
      [
        'a selector that is none',
        'invalid',
        (n) => kube.list(configMaps, { namespace: n, labels: 'a in (b' }),
      ],
      [
        'a field that cannot be selected by',
        'invalid',
        (n) => kube.list(resources.pods, { namespace: n, fields: 'spec.flavour=sweet' }),
      ],
    ]
    for (const [what, kind, act] of refusals)
      test(`${what} is ${kind}`, async () => {
        const home = await namespace()
        const fault = await faultOf(act(home))
        assert.equal(fault.kind, kind, fault.message)
      })

    test('creating twice is exists', async () => {
      const home = await namespace()
      await kube.create(widgets, widget(home, 'one'))
      assert.equal((await faultOf(kube.create(widgets, widget(home, 'one')))).kind, 'exists')
    })

    test('generateName is completed, differently each time', async () => {
      const home = await namespace()
      const anonymous = {
        ...configMap(home, ''),
        metadata: { generateName: 'cm-', namespace: home, name: '' },
      }
      const names = [await kube.create(configMaps, anonymous), await kube.create(configMaps, anonymous)]
      for (const { metadata } of names) assert.match(metadata.name, /^cm-[a-z0-9]{5}$/)
      assert.notEqual(names[0]?.metadata.name, names[1]?.metadata.name)
    })

    test('an update with an old version is a conflict; one that changes nothing makes no version', async () => {
      const home = await namespace()
      const first = await kube.create(widgets, widget(home, 'one'))
      const second = await kube.update(widgets, { ...first, spec: { ...first.spec, size: 2 } })
      assert.notEqual(second.metadata.resourceVersion, first.metadata.resourceVersion)
      assert.equal(second.metadata.generation, 2)
      const stale = await faultOf(kube.update(widgets, { ...first, spec: { ...first.spec, size: 3 } }))
      assert.equal(stale.kind, 'conflict')
      const third = await kube.update(widgets, second)
      assert.equal(third.metadata.resourceVersion, second.metadata.resourceVersion)
      const labelled = await kube.update(widgets, {
        ...second,
        metadata: { ...second.metadata, labels: { a: 'b' } },
      })
      assert.equal(labelled.metadata.generation, 2)
    })

    test('custom objects and leases need a version to be updated, config maps do not', async () => {
      const home = await namespace()
      const lease: Lease = {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: 'leader', namespace: home },
        spec: { holderIdentity: 'a' },
      }
      await kube.create(widgets, widget(home, 'one'))
      await kube.create(configMaps, configMap(home, 'one'))
      await kube.create(resources.leases, lease)
      assert.equal((await faultOf(kube.update(widgets, widget(home, 'one', { size: 2 })))).kind, 'invalid')
      assert.equal((await faultOf(kube.update(resources.leases, lease))).kind, 'invalid')
      const updated = await kube.update(configMaps, { ...configMap(home, 'one'), data: { a: '2' } })
      assert.deepEqual(updated.data, { a: '2' })
    })

    test('lists select by namespace, labels and fields', async () => {
      const home = await namespace()
      await kube.create(configMaps, configMap(home, 'a', { tier: 'web', zone: '1' }))
      await kube.create(configMaps, configMap(home, 'b', { tier: 'web' }))
      await kube.create(configMaps, configMap(home, 'c', { tier: 'db' }))
      await kube.create(resources.pods, pod(home, 'p1', 'n1'))
      await kube.create(resources.pods, pod(home, 'p2', 'n2'))
      await kube.create(resources.pods, pod(home, 'p3'))
      const names = async (resource: Resource, selection: { labels?: string; fields?: string }) =>
        (await kube.list(resource, { namespace: home, ...selection })).items
          .map((o) => o.metadata.name)
          .join(' ')
      const found = [
        await names(configMaps, { labels: 'tier' }),
        await names(configMaps, { labels: 'tier=web' }),
        await names(configMaps, { labels: 'tier in (web,db),!zone' }),
        await names(configMaps, { labels: 'tier!=web,tier' }),
        await names(configMaps, { fields: 'metadata.name=c' }),
        await names(resources.pods, { fields: 'spec.nodeName=n1' }),
        await names(resources.pods, { fields: 'spec.nodeName=' }),
        await names(resources.pods, { fields: 'spec.nodeName!=n1' }),
        await names(resources.pods, { fields: 'spec.nodeName=n2,status.phase=Running' }),
      ]
      assert.deepEqual(found, ['a b c', 'a b', 'b c', 'c', 'c', 'p1', 'p3', 'p2 p3', ''])
      assert.deepEqual((await kube.list(widgets, { namespace: 'no-such' })).items, [])
    })

    test('a list longer than a page comes whole and in order', async () => {
      const home = await namespace()
      const ids = Array.from({ length: 510 }, (_, i) => `cm-${String(i).padStart(3, '0')}`)
      await Promise.all(
        ids.toReversed().map((id) => kube.create(configMaps, configMap(home, id, { many: 'true' }))),
      )
      const { items } = await kube.list(configMaps, { namespace: home, labels: 'many=true' })
      assert.deepEqual(
        items.map((o) => o.metadata.name),
        ids,
      )
      assert.ok(items.every((o) => o.kind === 'ConfigMap' && o.apiVersion === 'v1'))
    })

    test('a watch tells what happened since a version, in order', async () => {
      const home = await namespace()
      const { resourceVersion } = await kube.list(widgets, { namespace: home })
      const created = await kube.create(widgets, widget(home, 'one'))
      await kube.update(widgets, { ...created, spec: { size: 2 } })
      await kube.create(widgets, widget(home, 'two'))
      await kube.delete(widgets, { namespace: home, name: 'one' })
      assert.deepEqual(await changes(widgets, resourceVersion, { namespace: home }, 4), [
        'ADDED one',
        'MODIFIED one',
        'ADDED two',
        'DELETED one',
      ])
      const since = created.metadata.resourceVersion ?? ''
      assert.deepEqual(await changes(widgets, since, { namespace: home }, 3), [
        'MODIFIED one',
        'ADDED two',
        'DELETED one',
      ])
    })

    test('a watch tells what happens while it lasts, and ends when it is aborted', async () => {
      const home = await namespace()
      const { resourceVersion } = await kube.list(configMaps, { namespace: home })
      const control = new AbortController()
      const seen: Change<ConfigMap>[] = []
      const ended = (async () => {
        const selection = { namespace: home, fields: 'metadata.name=one', signal: control.signal }
        for await (const change of kube.watch(configMaps, resourceVersion, selection))
          if (change.type !== 'BOOKMARK') seen.push(change)
      })()
      await kube.create(configMaps, configMap(home, 'other'))
      const created = await kube.create(configMaps, configMap(home, 'one'))
      await eventually(() => seen.length === 1)
      assert.deepEqual(seen, [{ type: 'ADDED', object: created }])
      control.abort()
      await ended
    })

    test('what comes to match a watch is added, what no longer does is deleted', async () => {
      const home = await namespace()
      const { resourceVersion } = await kube.list(configMaps, { namespace: home })
      const label = (id: string, value: string | null) =>
        kube.patch(
          configMaps,
          { namespace: home, name: id },
          { type: 'merge', body: { metadata: { labels: { on: value } } } },
        )
      await kube.create(configMaps, configMap(home, 'a', { on: 'yes' }))
      await kube.create(configMaps, configMap(home, 'b'))
      await label('b', 'yes')
      await label('a', null)
      await label('a', 'no')
      await label('b', 'no')
      assert.deepEqual(await changes(configMaps, resourceVersion, { namespace: home, labels: 'on=yes' }, 4), [
        'ADDED a',
        'ADDED b',
        'DELETED a',
        'DELETED b',
      ])
    })

    test('the last version of what was deleted is newer than all before', async () => {
      const home = await namespace()
      const created = await kube.create(configMaps, configMap(home, 'one'))
      const since = created.metadata.resourceVersion ?? ''
      await kube.delete(configMaps, { namespace: home, name: 'one' })
      for await (const change of kube.watch(configMaps, since, {
        namespace: home,
        signal: AbortSignal.timeout(5000),
      })) {
        if (change.type === 'BOOKMARK') continue
        assert.equal(change.type, 'DELETED')
        assert.ok(Number(change.object.metadata.resourceVersion) > Number(since))
        assert.deepEqual(change.object.data, { a: '1' })
        break
      }
    })

    test('bookmarks say how far a quiet watch has seen', async (t) => {
      const home = await namespace()
      const { resourceVersion } = await kube.list(widgets, { namespace: home })
      if (!server.bookmark) return t.skip('this server sends bookmarks when it likes')
      const control = new AbortController()
      const selection = { namespace: home, signal: control.signal }
      const watch = kube.watch(widgets, resourceVersion, selection)[Symbol.asyncIterator]()
      const first = watch.next()
      await kube.create(configMaps, configMap(home, 'elsewhere'))
      const poke = setInterval(() => server.bookmark?.(), 20)
      const { value } = await first
      clearInterval(poke)
      control.abort()
      await watch.return?.()
      assert.equal(value?.type, 'BOOKMARK')
      assert.ok(Number((value as { resourceVersion: string }).resourceVersion) > Number(resourceVersion))
    })

    test('a watch from a version that is forgotten is expired', async (t) => {
      const home = await namespace()
      const { resourceVersion } = await kube.list(widgets, { namespace: home })
      if (!server.compact) return t.skip('this server forgets when it likes')
      await kube.create(widgets, widget(home, 'one'))
      server.compact()
      assert.equal((await faultOf(changes(widgets, resourceVersion, { namespace: home }, 1))).kind, 'expired')
    })

    test('a merge patch sets, and removes with null', async () => {
      const home = await namespace()
      await kube.create(configMaps, configMap(home, 'one', { a: '1', b: '2' }))
      const ref = { namespace: home, name: 'one' }
      const body = { metadata: { labels: { a: null, c: '3' } }, data: { z: '26' } }
      await kube.patch(configMaps, ref, { type: 'merge', body })
      const patched = await kube.get(configMaps, ref)
      assert.deepEqual(patched.metadata.labels, { b: '2', c: '3' })
      assert.deepEqual(patched.data, { a: '1', z: '26' })
    })

    test('a JSON patch applies whole or not at all', async () => {
      const home = await namespace()
      await kube.create(configMaps, configMap(home, 'one'))
      const ref = { namespace: home, name: 'one' }
      await kube.patch(configMaps, ref, {
        type: 'json',
        body: [
          { op: 'test', path: '/data/a', value: '1' },
          { op: 'add', path: '/metadata/annotations', value: {} },
          { op: 'add', path: '/metadata/annotations/polynet.dev~1b', value: '2' },
          { op: 'remove', path: '/data/a' },
        ],
      })
      const patched = await kube.get(configMaps, ref)
      assert.deepEqual(patched.metadata.annotations, { 'polynet.dev/b': '2' })
      assert.equal(patched.data?.a, undefined)
      const body = [
        { op: 'add', path: '/data/b', value: '2' },
        { op: 'test', path: '/data/b', value: 'other' },
      ]
      assert.equal((await faultOf(kube.patch(configMaps, ref, { type: 'json', body }))).kind, 'invalid')
      assert.equal((await kube.get(configMaps, ref)).data?.b, undefined)
    })

    test('a strategic merge patch merges containers by name, and replaces lists without a key', async () => {
      const home = await namespace()
      const ref = { namespace: home, name: 'one' }
      await kube.create(resources.pods, pod(home, 'one'))
      await kube.patch(resources.pods, ref, {
        type: 'strategic',
        body: { spec: { containers: [{ name: 'main', image: 'image:2' }] } },
      })
      const image = await kube.get(resources.pods, ref)
      assert.equal(image.spec.containers[0]?.image, 'image:2')
      assert.deepEqual(image.spec.containers[0]?.env, [{ name: 'A', value: '1' }])
      const status = (type: string, value: string) =>
        kube.patch(resources.pods, ref, {
          type: 'strategic',
          subresource: 'status',
          body: { status: { conditions: [{ type, status: value }] } },
        })
      await status('Ready', 'False')
      await status('polynet.dev/Attached', 'True')
      await status('Ready', 'True')
      const patched = await kube.get(resources.pods, ref)
      const shown = patched.status?.conditions?.map((c) => `${c.type}=${c.status}`).sort()
      assert.deepEqual(
        shown?.filter((c) => /^Ready|^polynet/.test(c)),
        ['Ready=True', 'polynet.dev/Attached=True'],
      )
      await kube.patch(resources.pods, ref, {
        type: 'strategic',
        subresource: 'status',
        body: { status: { conditions: [{ type: 'Ready', $patch: 'delete' }] } },
      })
      const dropped = await kube.get(resources.pods, ref)
      assert.equal(
        dropped.status?.conditions?.some((c) => c.type === 'Ready'),
        false,
      )
    })

    test('custom objects take no strategic merge patch', async () => {
      const home = await namespace()
      await kube.create(widgets, widget(home, 'one'))
      const fault = await faultOf(
        kube.patch(widgets, { namespace: home, name: 'one' }, { type: 'strategic', body: {} }),
      )
      assert.equal(fault.kind, 'unsupported')
    })

    test('a patch that names a version conflicts with a newer one', async () => {
      const home = await namespace()
      const first = await kube.create(widgets, widget(home, 'one'))
      const ref = { namespace: home, name: 'one' }
      const patch = (size: number) =>
        kube.patch(widgets, ref, {
          type: 'merge',
          body: { metadata: { resourceVersion: first.metadata.resourceVersion }, spec: { size } },
        })
      await patch(2)
      assert.equal((await faultOf(patch(3))).kind, 'conflict')
      assert.equal((await kube.get(widgets, ref)).spec?.size, 2)
    })

    test('finalizers hold back what is deleted, and none can be added then', async () => {
      const home = await namespace()
      const ref = { namespace: home, name: 'one' }
      const finalizers = (list: string[]) =>
        kube.patch(widgets, ref, { type: 'merge', body: { metadata: { finalizers: list } } })
      await kube.create(widgets, {
        ...widget(home, 'one'),
        metadata: { name: 'one', namespace: home, finalizers: ['polynet.dev/a', 'polynet.dev/b'] },
      })
      await kube.delete(widgets, ref)
      const marked = await kube.get(widgets, ref)
      assert.match(marked.metadata.deletionTimestamp ?? '', /Z$/)
      await kube.delete(widgets, ref)
      assert.equal(
        (await faultOf(finalizers(['polynet.dev/a', 'polynet.dev/b', 'polynet.dev/c']))).kind,
        'invalid',
      )
      await finalizers(['polynet.dev/b'])
      assert.equal((await kube.get(widgets, ref)).metadata.finalizers?.length, 1)
      await finalizers([])
      assert.equal((await faultOf(kube.get(widgets, ref))).kind, 'missing')
    })

    test('a deletion for another object or version is a conflict', async () => {
      const home = await namespace()
      const ref = { namespace: home, name: 'one' }
      const first = await kube.create(widgets, widget(home, 'one'))
      const second = await kube.update(widgets, { ...first, spec: { size: 2 } })
      const other = { uid: '00000000-0000-4000-8000-000000000000' }
      assert.equal((await faultOf(kube.delete(widgets, ref, other))).kind, 'conflict')
      const { uid, resourceVersion } = first.metadata
      assert.equal((await faultOf(kube.delete(widgets, ref, { uid, resourceVersion }))).kind, 'conflict')
      await kube.delete(widgets, ref, { uid, resourceVersion: second.metadata.resourceVersion })
      assert.equal((await faultOf(kube.get(widgets, ref))).kind, 'missing')
    })

    test('a pod on a node ends gracefully, until its end is confirmed; one on no node goes at once', async () => {
      const home = await namespace()
      await kube.create(resources.pods, pod(home, 'waiting'))
      await kube.create(resources.pods, pod(home, 'running', 'n1'))
      await kube.delete(resources.pods, { namespace: home, name: 'waiting' })
      assert.equal(
        (await faultOf(kube.get(resources.pods, { namespace: home, name: 'waiting' }))).kind,
        'missing',
      )
      const ref = { namespace: home, name: 'running' }
      await kube.delete(resources.pods, ref)
      const ending = await kube.get(resources.pods, ref)
      assert.equal(ending.metadata.deletionGracePeriodSeconds, 30)
      assert.ok(ending.metadata.deletionTimestamp)
      await kube.delete(resources.pods, ref, { gracePeriodSeconds: 0, uid: ending.metadata.uid })
      assert.equal((await faultOf(kube.get(resources.pods, ref))).kind, 'missing')
    })

    test("a pod's spec cannot be changed but for its images", async () => {
      const home = await namespace()
      await kube.create(resources.pods, pod(home, 'one', 'n1'))
      const ref = { namespace: home, name: 'one' }
      const moved = kube.patch(resources.pods, ref, { type: 'merge', body: { spec: { nodeName: 'n2' } } })
      assert.equal((await faultOf(moved)).kind, 'invalid')
    })

    test('what has lost all its owners is collected', { skip: without.controllers ?? false }, async () => {
      const home = await namespace()
      const owner = async (id: string): Promise<OwnerReference> => {
        const { apiVersion, kind, metadata } = await kube.create(widgets, widget(home, id))
        return { apiVersion, kind, name: metadata.name, uid: metadata.uid ?? '' }
      }
      const [a, b] = [await owner('a'), await owner('b')]
      const owned = (id: string, ownerReferences: OwnerReference[]) =>
        kube.create(configMaps, {
          ...configMap(home, id),
          metadata: { name: id, namespace: home, ownerReferences, labels: { owned: 'true' } },
        })
      await owned('of-a', [a])
      await owned('of-both', [a, b])
      const names = async () =>
        (await kube.list(configMaps, { namespace: home, labels: 'owned' })).items
          .map((o) => `${o.metadata.name}:${o.metadata.ownerReferences?.map((r) => r.name).join('+')}`)
          .join(' ')
      assert.equal(await names(), 'of-a:a of-both:a+b')
      await kube.delete(widgets, { namespace: home, name: 'a' })
      await eventually(async () => (await names()) === 'of-both:b')
      await kube.delete(widgets, { namespace: home, name: 'b' })
      await eventually(async () => (await names()) === '')
    })

    test('a namespace takes with it what is in it', { skip: without.controllers ?? false }, async () => {
      const home = await namespace()
      await kube.create(widgets, widget(home, 'one'))
      await kube.create(configMaps, configMap(home, 'one'))
      await kube.delete(resources.namespaces, { name: home })
      await eventually(async () => {
        const fault = await kube.get(resources.namespaces, { name: home }).catch((error: unknown) => error)
        return fault instanceof Fault && fault.kind === 'missing'
      })
      assert.deepEqual((await kube.list(widgets, { namespace: home })).items, [])
    })

    test('while something holds it back, nothing new comes into a namespace that ends', async () => {
      const home = await namespace()
      await kube.create(widgets, {
        ...widget(home, 'one'),
        metadata: { name: 'one', namespace: home, finalizers: ['polynet.dev/hold'] },
      })
      await kube.delete(resources.namespaces, { name: home })
      const { status } = await kube.get(resources.namespaces, { name: home })
      assert.equal(status?.phase, 'Terminating')
      assert.equal((await faultOf(kube.create(widgets, widget(home, 'two')))).kind, 'forbidden')
      await eventually(async () =>
        Boolean((await kube.get(widgets, { namespace: home, name: 'one' })).metadata.deletionTimestamp),
      )
      await kube.patch(
        widgets,
        { namespace: home, name: 'one' },
        { type: 'merge', body: { metadata: { finalizers: null } } },
      )
    })

    test('defaults are filled in, unknown fields dropped', async () => {
      const home = await namespace()
      const created = await kube.create(
        widgets,
        widget(home, 'one', { size: 1, flavour: 'sweet', parts: [{ id: 'a' }, { id: 'b', weight: 7 }] }),
      )
      assert.deepEqual(created.spec, {
        size: 1,
        color: 'red',
        parts: [
          { id: 'a', weight: 1 },
          { id: 'b', weight: 7 },
        ],
      })
    })

    const wrong: [string, Widget['spec'], string[]][] = [
      ['a missing field', {}, ['spec.size']],
      ['a wrong type', { size: 'x' as unknown as number }, ['spec.size']],
      ['too large, and not in the enum', { size: 11, color: 'green' }, ['spec.color', 'spec.size']],
      ['a pattern', { size: 1, name: 'A1' }, ['spec.name']],
      ['a length', { size: 1, name: 'abcdefghi' }, ['spec.name']],
      ['too many items', { size: 1, parts: ['a', 'b', 'c', 'd'].map((id) => ({ id })) }, ['spec.parts']],
      ['the same key twice', { size: 1, parts: [{ id: 'a' }, { id: 'a' }] }, ['spec.parts[1]']],
      ['a rule', { size: 1, color: 'blue' }, ['spec']],
    ]
    for (const [what, spec, fields] of wrong)
      test(`${what} is invalid, with every cause`, async () => {
        const home = await namespace()
        const fault = await faultOf(kube.create(widgets, widget(home, 'one', spec)))
        assert.equal(fault.kind, 'invalid')
        const named = new Set(causesOf(fault).map((c) => c.field))
        named.delete('<nil>')
        assert.deepEqual([...named].sort(), fields, fault.message)
      })

    test('a rule about the change holds for changes only', async () => {
      const home = await namespace()
      const first = await kube.create(widgets, widget(home, 'one', { size: 1, name: 'abc' }))
      const fault = await faultOf(kube.update(widgets, { ...first, spec: { size: 1, name: 'xyz' } }))
      assert.match(fault.message, /name is fixed/)
      assert.equal((await kube.update(widgets, { ...first, spec: { size: 2, name: 'abc' } })).spec?.size, 2)
    })

    test('the status is written by itself, the rest without it', async () => {
      const home = await namespace()
      const ref = { namespace: home, name: 'one' }
      const created = await kube.create(widgets, { ...widget(home, 'one'), status: { phase: 'made up' } })
      assert.equal(created.status, undefined)
      const ready = await kube.update(
        widgets,
        { ...created, spec: { size: 9 }, status: { phase: 'Ready' } },
        'status',
      )
      assert.deepEqual([ready.spec?.size, ready.status?.phase, ready.metadata.generation], [1, 'Ready', 1])
      const grown = await kube.update(widgets, { ...ready, spec: { size: 2 }, status: { phase: 'lost' } })
      assert.deepEqual([grown.spec?.size, grown.status?.phase, grown.metadata.generation], [2, 'Ready', 2])
      await kube.patch(widgets, ref, {
        type: 'merge',
        subresource: 'status',
        body: { spec: { size: 5 }, status: { phase: 'Gone' } },
      })
      const patched = await kube.get(widgets, ref)
      assert.deepEqual([patched.spec?.size, patched.status?.phase], [2, 'Gone'])
    })

    test("a pod's annotations can be written with its status, its status not without", async () => {
      const home = await namespace()
      const ref = { namespace: home, name: 'one' }
      await kube.create(resources.pods, pod(home, 'one', 'n1'))
      await kube.patch(resources.pods, ref, {
        type: 'merge',
        subresource: 'status',
        body: { metadata: { annotations: { 'polynet.dev/x': 'y' } }, status: { podIP: '10.244.0.7' } },
      })
      const annotated = await kube.get(resources.pods, ref)
      assert.equal(annotated.metadata.annotations?.['polynet.dev/x'], 'y')
      assert.equal(annotated.status?.podIP, '10.244.0.7')
      await kube.patch(resources.pods, ref, { type: 'merge', body: { status: { podIP: '10.244.0.8' } } })
      const plain = await kube.get(resources.pods, ref)
      assert.equal(plain.status?.podIP, '10.244.0.7')
    })

    test('events are found by the object they are about, and live beside it', async () => {
      const home = await namespace()
      const event = (id: string, about: string, inside: string) =>
        kube.create(resources.events, {
          apiVersion: 'v1',
          kind: 'Event',
          metadata: { name: id, namespace: home },
          involvedObject: { kind: 'Pod', apiVersion: 'v1', namespace: inside, name: about },
          reason: 'Tested',
          message: 'It was tested.',
          type: 'Normal',
        })
      await event('one', 'a', home)
      await event('two', 'b', home)
      const { items } = await kube.list(resources.events, {
        namespace: home,
        fields: 'involvedObject.name=a,involvedObject.kind=Pod',
      })
      assert.deepEqual(
        items.map((e) => e.metadata.name),
        ['one'],
      )
      assert.equal((await faultOf(event('three', 'c', 'elsewhere'))).kind, 'invalid')
    })

    test('what was handed in and out is not shared', async () => {
      const home = await namespace()
      const mine = configMap(home, 'one')
      await kube.create(configMaps, mine)
      mine.data!.a = 'changed'
      assert.equal((await kube.get(configMaps, { namespace: home, name: 'one' })).data?.a, '1')
    })
  })
}

/** The fault that an act is refused with. */
async function faultOf(act: Promise<unknown>): Promise<Fault> {
  const error = await act.then(
    (value) => assert.fail(`was not refused: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  if (error instanceof Fault) return error
  throw error
}

/** Waits until `holds`, as long as anything may take on a busy machine: a collector of garbage hears of new kinds twice a minute. */
async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  const began = Date.now()
  const until = began + 90_000
  for (;;) {
    const result = await Promise.resolve(holds()).catch((error: unknown) => {
      if (Date.now() > until) throw error
      return false
    })
    if (result) return
    assert.ok(Date.now() < until, `${holds} does not come true`)
    await sleep(Math.min(500, 20 + (Date.now() - began) / 10))
  }
}
