import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crds } from '../api/crds.ts'
import { resources } from '../api/resources.ts'
import { customResourceDefinitions } from '../kube/memory/crd.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import type { RenderedAttachment, SandboxRecord } from './journal/record.ts'
import { lingerMs } from './lingering.ts'
import { startSlices } from './slices.ts'

type Network = 'blue' | 'red'

/** A node's slices, on an API server in memory, and how pods come and go; what is asked of the server is counted. */
async function node(options: { kept?: boolean } = {}) {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  for (const definition of crds()) await kube.create(customResourceDefinitions, definition)
  // Slices go with their Node.
  const { metadata } = await kube.create(resources.nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1' },
    spec: {},
  })
  const records = new Map<string, SandboxRecord>()
  const going = new Set<string>()
  const asked: string[] = []
  const counted = new Proxy(kube, {
    get(of, name) {
      const value = Reflect.get(of, name)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (name !== 'list') asked.push(String(name))
        return value.apply(of, args)
      }
    },
  })
  const slices = startSlices({
    kube: counted,
    clock,
    log: silentLog,
    node: { name: 'n1', uid: metadata.uid ?? '' },
    records: () => [...records.values()],
    isKept: () => options.kept === true,
    isGoing: ({ name }) => going.has(name),
    there: () => undefined,
  })
  const pass = async (ms: number) => {
    for (let i = 0; i < 20; i++) {
      await clock.advance(ms / 20)
      // What was woken asks the API server, and goes on when it has answered.
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  return {
    asked,
    pass,
    close: () => slices.close(),
    add(pod: string, ...networks: Network[]) {
      this.addFrom('default', pod, ...networks)
    },
    /** A pod on networks of that namespace. */
    addFrom(namespace: string, pod: string, ...networks: Network[]) {
      const record = recordOf(pod, networks, namespace)
      records.set(pod, record)
      slices.changed(record)
    },
    remove(pod: string) {
      const record = records.get(pod)!
      records.delete(pod)
      slices.changed(record)
    },
    makeNamespace: (name: string) =>
      kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }),
    deleteNetwork(name: Network) {
      going.add(name)
      slices.wake()
    },
    /** Each slice as `network: pods`. */
    async seen() {
      const { items } = await kube.list(resources.attachmentSlices)
      return items.map((s) => `${s.network}: ${s.attachments.map((a) => a.pod).join(' ')}`.trim()).sort()
    },
  }
}

/** blue is a Layer3 network, red a Layer2 one. */
const recordOf = (pod: string, networks: Network[], namespace: string): SandboxRecord => ({
  containerID: `sandbox-of-${pod}`,
  pod: { namespace: 'default', name: pod, uid: `${pod}-uid` },
  netns: `/run/netns/${pod}`,
  state: 'added',
  attachments: networks.map(
    (name, i) =>
      ({
        kind: 'polynet',
        interface: `eth${i}`,
        network: { namespace, name, uid: `${name}-uid-${namespace}` },
        default: i === 0,
        held: { addresses: [{ address: `10.${i + 1}.0.7/16` }] },
        port: { link: { kind: 'veth', ...(name === 'red' && { bridge: 'pnbr' }) } },
      }) as unknown as RenderedAttachment,
  ),
})

test('of a Layer3 network a slice says that there are pods, once', async () => {
  const n1 = await node()
  n1.add('a', 'blue')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), ['blue:'])
  n1.add('b', 'blue')
  await n1.pass(2000)
  n1.remove('a')
  n1.remove('b')
  await n1.pass(2000)
  n1.add('c', 'blue')
  await n1.pass(2 * lingerMs)
  assert.deepEqual(n1.asked, ['create'])
  await n1.close()
})

test('it goes some minutes after the last pod', async () => {
  const n1 = await node()
  n1.add('a', 'blue')
  await n1.pass(2000)
  n1.remove('a')
  await n1.pass(lingerMs / 2)
  assert.deepEqual(await n1.seen(), ['blue:'])
  await n1.pass(lingerMs)
  assert.deepEqual(await n1.seen(), [])
  await n1.close()
})

test('pods of a Layer2 network are named at once, and their slice goes with the last', async () => {
  const n1 = await node()
  n1.add('a', 'blue', 'red')
  n1.add('b', 'red')
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), ['blue:', 'red: a b'])
  n1.remove('a')
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), ['blue:', 'red: b'])
  n1.remove('b')
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), ['blue:'])
  await n1.close()
})

test('pods with an address that is kept for somebody are named', async () => {
  const n1 = await node({ kept: true })
  n1.add('a', 'blue')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), ['blue: a'])
  n1.remove('a')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), [])
  await n1.close()
})

test('a network that is deleted has its pods named, and goes with the last', async () => {
  const n1 = await node()
  n1.add('a', 'blue')
  n1.add('b', 'blue')
  await n1.pass(2000)
  n1.deleteNetwork('blue')
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), ['blue: a b'])
  n1.remove('a')
  await n1.pass(2000)
  n1.remove('b')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), [])
  await n1.close()
})

test('and at once when a node only had pods of it', async () => {
  const n1 = await node()
  n1.add('a', 'blue')
  await n1.pass(2000)
  n1.remove('a')
  await n1.pass(2000)
  n1.deleteNetwork('blue')
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), [])
  await n1.close()
})

test('a slice that the API server does not take keeps no other from being written', async () => {
  const n1 = await node()
  // More interfaces than a slice may name; and one in a namespace that is gone, or about to go.
  for (let i = 0; i < 33; i++) n1.add(`many-${i}`, ...Array<Network>(32).fill('red'))
  n1.addFrom('gone', 'left', 'red')
  await n1.pass(200)
  n1.add('a', 'blue')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), ['blue:'])
  for (let i = 1; i < 33; i++) n1.remove(`many-${i}`)
  await n1.pass(200)
  assert.deepEqual(await n1.seen(), ['blue:', `red:${' many-0'.repeat(32)}`])
  await n1.close()
})

test('and is tried again', async () => {
  const n1 = await node()
  n1.addFrom('late', 'a', 'red')
  await n1.pass(2000)
  assert.deepEqual(await n1.seen(), [])
  await n1.makeNamespace('late')
  await n1.pass(60_000)
  assert.deepEqual(await n1.seen(), ['red: a'])
  await n1.close()
})
