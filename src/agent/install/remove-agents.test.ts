import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resources } from '../../api/resources.ts'
import { anythingGoes, customResourceDefinitions } from '../../kube/memory/crd.ts'
import { MemoryKube } from '../../kube/memory/store.ts'
import { ManualClock } from '../../lib/clock.ts'
import { daemonSets } from './removal.ts'
import { removeAgents } from './remove-agents.ts'

const namespace = 'polynet-system'
const asked = {
  daemonSet: { namespace, name: 'polynet-agent' },
  labels: 'app.kubernetes.io/component=agent',
  withinMs: 90_000,
}

/** The agents of n1 and n2, and a controller. */
async function installed() {
  const kube = new MemoryKube()
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace },
  })
  await kube.create(customResourceDefinitions, anythingGoes(daemonSets))
  await kube.create(daemonSets, {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { namespace, name: 'polynet-agent' },
  })
  for (const [component, nodeName] of [
    ['agent', 'n1'],
    ['agent', 'n2'],
    ['controller', 'n1'],
  ] as const)
    await kube.create(resources.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        namespace,
        name: `${component}-${nodeName}`,
        labels: { 'app.kubernetes.io/component': component },
      },
      spec: { nodeName, containers: [{ name: 'main', image: 'none' }] },
    })
  const there = async () =>
    [...(await kube.list(daemonSets)).items, ...(await kube.list(resources.pods)).items].map(
      ({ metadata }) => metadata.name,
    )
  const leave = (node: string) =>
    kube.delete(resources.pods, { namespace, name: `agent-${node}` }, { gracePeriodSeconds: 0 })
  return { kube, clock: new ManualClock(), there, leave }
}

const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
}

test('agents are gone when it says so, and nothing else is', async () => {
  const { kube, clock, there, leave } = await installed()
  let ended = false
  const removed = removeAgents(kube, clock, asked).finally(() => {
    ended = true
  })
  await turns()
  assert.deepEqual(await there(), ['agent-n1', 'agent-n2', 'controller-n1'])
  await leave('n1')
  await clock.advance(1000)
  await turns()
  assert.equal(ended, false)
  await leave('n2')
  await clock.advance(1000)
  assert.deepEqual(await removed, [])
  assert.deepEqual(await there(), ['controller-n1'])
})

test('agents of nodes that are off are named, and nobody waits for them for ever', async () => {
  const { kube, clock, leave } = await installed()
  const removed = removeAgents(kube, clock, asked)
  await turns()
  await leave('n1')
  await clock.advance(90_000)
  assert.deepEqual(await removed, ['n2'])
})

test('where no agents are, there is nothing to wait for', async () => {
  const { kube, clock, leave } = await installed()
  for (const node of ['n1', 'n2']) await leave(node)
  await kube.delete(daemonSets, asked.daemonSet)
  assert.deepEqual(await removeAgents(kube, clock, asked), [])
})
