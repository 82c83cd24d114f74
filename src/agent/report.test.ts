import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { ManualClock } from '../lib/clock.ts'
import { Fault, type Kind } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { memoryJournal } from './journal/memory.ts'
import { recordKey, recordsOf, type SandboxRecord } from './journal/record.ts'
import { startReporter } from './report.ts'

/** A node whose pods `names` came while the API server was away, and a reporter that starts then. */
async function node(names: string[]) {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock })
  const journal = memoryJournal()
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'lab' } })
  for (const name of names) {
    const { metadata } = await kube.create(resources.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'lab', name },
      spec: { containers: [{ name: 'main', image: 'none' }] },
    })
    const record: SandboxRecord = {
      containerID: `sandbox-of-${name}`,
      pod: { namespace: 'lab', name, uid: metadata.uid ?? '' },
      netns: `/run/netns/${name}`,
      state: 'added',
      attachments: [],
      unreported: { status: `of ${name}` },
    }
    await journal.put(recordKey(record.containerID), record)
  }
  const refused = new Map<string, Kind>()
  const patch = kube.patch.bind(kube)
  kube.patch = async (resource, ref, change) => {
    const kind = refused.get(ref.name)
    if (kind) throw new Fault(kind, `patch ${ref.name}`, 'not now')
    return patch(resource, ref, change)
  }
  return {
    kube,
    clock,
    refused,
    state: (name: string, state: SandboxRecord['state']) =>
      journal.amend(recordKey(`sandbox-of-${name}`), { state }),
    start: () => startReporter({ kube, journal, clock, log: silentLog }),
    /** What pods say, and whose say is still to be written. */
    async text() {
      const { items } = await kube.list(resources.pods)
      return [
        ...items.map(({ metadata }) => `${metadata.name} ${metadata.annotations?.status ?? 'nothing'}`),
        ...recordsOf(journal).flatMap(({ pod, unreported }) => (unreported ? [`left: ${pod.name}`] : [])),
      ]
    },
  }
}

test('a network-status that is refused is tried again and keeps no other waiting', async () => {
  for (const kind of ['unavailable', 'forbidden', 'conflict'] as const) {
    const { clock, refused, start, text } = await node(['a', 'b'])
    refused.set('a', kind)
    const reporter = start()
    await clock.advance(60_000)
    assert.deepEqual(await text(), ['a nothing', 'b of b', 'left: a'], kind)
    refused.clear()
    await clock.advance(60_000)
    assert.deepEqual(await text(), ['a of a', 'b of b'], kind)
    await reporter.close()
  }
})

test('a network-status that was refused before its ADD was over is written then', async () => {
  const { clock, state, start, text } = await node(['a'])
  await state('a', 'adding')
  const reporter = start()
  await clock.advance(10_000)
  assert.deepEqual(await text(), ['a nothing', 'left: a'])
  await state('a', 'added')
  await clock.advance(10_000)
  assert.deepEqual(await text(), ['a of a'])
  await reporter.close()
})

test('a network-status of a pod that is gone, or of which there is another by now, is written nowhere', async () => {
  for (const again of [false, true]) {
    const { kube, clock, start, text } = await node(['a'])
    const { metadata, ...pod } = await kube.get(resources.pods, { namespace: 'lab', name: 'a' })
    await kube.delete(resources.pods, { namespace: 'lab', name: 'a' }, { gracePeriodSeconds: 0 })
    if (again)
      await kube.create(resources.pods, {
        ...pod,
        metadata: { namespace: metadata.namespace, name: metadata.name },
      })
    const reporter = start()
    await clock.advance(60_000)
    assert.deepEqual(await text(), again ? ['a nothing'] : [])
    await reporter.close()
  }
})
