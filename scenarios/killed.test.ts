import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bootLab } from '../lab/boot.ts'
import { wayIn } from '../lab/enter.ts'
import type { Place } from '../lab/place.ts'
import { startSim } from '../sim/sim.ts'
import { type Step, steps } from '../src/agent/sandboxes.ts'
import { say } from './kubectl.ts'

const wiring = { nodes: ['n1', 'n2'], nics: ['eth1'] }
const bystanders = readFileSync(join(import.meta.dirname, 'bystanders.yaml'), 'utf8')
const way = wayIn()

/** Those that only a pod with an interface of another plugin comes to; there is none on simulated machines. */
const foreign: Step[] = ['add:foreign', 'del:foreign']

const bridged = `
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: bridged }
spec:
  config: |
    { "cniVersion": "1.0.0", "type": "bridge", "bridge": "br-green", "isGateway": true, "ipMasq": false,
      "ipam": { "type": "host-local", "subnet": "10.9.0.0/24" } }
`
const comes = (step: Step) => `
apiVersion: v1
kind: Pod
metadata:
  name: comes
  annotations:
    ${foreign.includes(step) ? 'k8s.v1.cni.cncf.io/networks: "blue@eth1,bridged@eth2,blue@eth3"' : 'networks: "blue:eth1 blue:eth2"'}
spec:
  nodeSelector: { kubernetes.io/hostname: n1 }
  containers: [{ name: main, image: busybox }]
`

test('the agent is killed at each step on sim', { timeout: 120_000 }, (t) => everyStep(t, startSim(wiring)))

const skip = way.how === 'none' ? way.why : false
test('the agent is killed at each step on lab', { skip, timeout: 240_000 }, async (t) => {
  if (way.how === 'none') return
  const name = `killed-${process.pid}`
  await everyStep(
    t,
    bootLab(way, { name, wiring }).then(({ place }) => place),
  )
})

async function everyStep(t: import('node:test').TestContext, starting: Promise<Place>): Promise<void> {
  const place = await starting
  try {
    await say(place, 'apply -f -', `${bystanders}---${bridged}`)
    await say(place, 'wait pods --all --for=condition=Ready')
    if (place.kind === 'lab') {
      // What host-local keeps for good is there from its first use.
      await say(place, 'apply -f -', comes('add:foreign'))
      await say(place, 'wait pod comes --for=condition=Ready')
      await say(place, 'delete pod comes')
    }
    const rest = await atRest(place)
    for (const step of steps.filter((each) => place.kind === 'lab' || !foreign.includes(each)))
      await t.test(
        `killed at ${step}, it comes back, the pod comes and goes, and nothing is left`,
        async () => {
          if (step.startsWith('add:')) await place.kill('n1', 'agent', step)
          await say(place, 'apply -f -', comes(step))
          await say(place, 'wait pod comes --for=condition=Ready --timeout=30s')
          const told = await say(place, 'describe pod comes')
          if (step.startsWith('add:')) assert.match(told, /FailedCreatePodSandBox .* agent.* does not answer/)
          if (step.startsWith('del:')) await place.kill('n1', 'agent', step)
          await say(place, 'delete pod comes --timeout=30s')
          assert.deepEqual(await different(place, rest), [])
        },
      )
    const probes = await place.reach(['default/stays-1', 'default/stays-2'])
    const own = probes.filter(({ from, to }) => from.network === to.network)
    assert.deepEqual(
      own.filter((probe) => probe.answeredBy !== probe.to.pod),
      [],
    )
  } finally {
    await place.close()
  }
}

/** Everything that Polynet has on n1. */
async function atRest(place: Place): Promise<string[]> {
  for (let before = await place.leftovers('n1'); ; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const now = await place.leftovers('n1')
    if (now.join() === before.join()) return now
    before = now
  }
}

/** What is not as it was, once what is under way is over; after some time, whatever it is. */
async function different(place: Place, rest: string[]): Promise<string[]> {
  for (const until = performance.now() + 60_000; ; ) {
    const now = await place.leftovers('n1')
    const found = [
      ...rest.filter((line) => !now.includes(line)).map((line) => `lost ${line}`),
      ...now.filter((line) => !rest.includes(line)).map((line) => `has ${line}`),
    ]
    if (found.length === 0 || performance.now() > until) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
