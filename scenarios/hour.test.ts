import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Place } from '../lab/place.ts'
import { LeapingClock } from '../sim/clock.ts'
import { startSim } from '../sim/sim.ts'
import { silentLog } from '../src/lib/log.ts'
import { say } from './kubectl.ts'

/** What takes an hour, on the simulation's clock; pages play the same for as long as people wait. */

const wiring = { nodes: ['n1', 'n2', 'n3'], nics: ['eth1'] }
const bystanders = readFileSync(join(import.meta.dirname, 'bystanders.yaml'), 'utf8')
const hourMs = 3_600_000

const pod = (name: string, node: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, annotations: { networks: "blue:eth1" } }
spec: { nodeSelector: { kubernetes.io/hostname: ${node} }, containers: [{ name: main, image: busybox }] }
`

async function cluster() {
  const clock = new LeapingClock()
  const place = await startSim(wiring, silentLog, clock)
  await say(place, 'apply -f -', bystanders)
  await say(place, 'wait pods --all --for=condition=Ready')
  return { clock, place }
}

/** Who of them does not reach whom on the networks that they share; after a moment, which changes may take. */
async function apart(place: Place, pods: string[]): Promise<string[]> {
  for (const until = performance.now() + 60_000; ; ) {
    const probes = await place.reach(pods.map((name) => `default/${name}`))
    const own = probes.filter(({ from, to }) => from.network === to.network)
    const silent = own.filter((probe) => probe.answeredBy !== probe.to.pod)
    const lines = silent.map(
      ({ from, to, address }) => `${from.pod} ${from.interface} > ${to.pod} ${address}`,
    )
    if (own.length > 0 && (lines.length === 0 || performance.now() > until)) return lines
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('an hour without API server: pods that run reach each other, others go at once and come when it is back', async () => {
  const { clock, place } = await cluster()
  try {
    await say(place, 'apply -f -', pod('goes', 'n1'))
    await say(place, 'wait pod goes --for=condition=Ready')
    const ip = await say(place, 'get pod goes -o jsonpath={.status.podIP}')
    await place.outage(true)
    await say(place, 'delete pod goes')
    assert.deepEqual(
      (await place.leftovers('n1')).filter((line) => line.includes(`${ip.trim()}/32`)),
      [],
    )
    await clock.leap(hourMs / 2)
    await place.kill('n2', 'agent')
    await place.start('n2')
    await clock.leap(hourMs / 2)
    assert.deepEqual(await apart(place, ['stays-1', 'stays-2']), [])
    await place.outage(false)
    await say(place, 'apply -f -', pod('comes-1', 'n1') + pod('comes-2', 'n2') + pod('comes-3', 'n3'))
    await clock.leap(60_000)
    await say(place, 'wait pods --all --for=condition=Ready')
    assert.deepEqual(await apart(place, ['stays-1', 'stays-2', 'comes-1', 'comes-2', 'comes-3']), [])
    assert.match(await say(place, 'get networks'), /blue .* True/)
  } finally {
    await place.close()
  }
})

test('a node that is back after an hour has its pods again, and nobody got their addresses meanwhile', async () => {
  const { clock, place } = await cluster()
  try {
    const blocks = async () =>
      (await say(place, 'get addressblocks -A -o json').then(JSON.parse)).items
        .filter((block: { spec: { node: string } }) => block.spec.node === 'n2')
        .map((block: { metadata: { name: string } }) => block.metadata.name)
        .sort()
    const before = await blocks()
    assert.notDeepEqual(before, [])
    await place.kill('n2', 'node')
    await clock.leap(hourMs)
    await say(place, 'apply -f -', pod('meanwhile', 'n3'))
    await say(place, 'wait pod meanwhile --for=condition=Ready')
    assert.deepEqual(await blocks(), before)
    assert.deepEqual(await apart(place, ['stays-1', 'meanwhile']), [])
    await place.start('n2')
    await place.ready()
    await clock.leap(60_000)
    await say(place, 'wait pods --all --for=condition=Ready')
    assert.deepEqual(await apart(place, ['stays-1', 'stays-2', 'meanwhile']), [])
  } finally {
    await place.close()
  }
})
