import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bootLab } from '../lab/boot.ts'
import { wayIn } from '../lab/enter.ts'
import type { Place } from '../lab/place.ts'
import { startSim } from '../sim/sim.ts'
import { say } from './kubectl.ts'

const wiring = { nodes: ['n1', 'n2'], nics: ['eth1'] }
const bystanders = readFileSync(join(import.meta.dirname, 'bystanders.yaml'), 'utf8')
const way = wayIn()
const skip = way.how === 'none' ? way.why : false

const many = 200
const pods = Array.from({ length: many }, (_, i) => `p${i + 1}`)
const manifest = pods
  .map(
    (name) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { many: "yes" }, annotations: { networks: "blue:eth1" } }
spec:
  nodeName: n1
  containers: [{ name: main, image: busybox }]
`,
  )
  .join('---')

test(`${many} pods at once on one node all come up, and all go, on sim`, { timeout: 120_000 }, () =>
  comeAndGo(startSim(wiring)),
)

test(`${many} pods at once on one node all come up, and all go, on lab`, {
  skip,
  timeout: 240_000,
}, async () => {
  if (way.how === 'none') return
  const name = `many-${process.pid}`
  await comeAndGo(bootLab(way, { name, wiring }).then(({ place }) => place))
})

async function comeAndGo(starting: Promise<Place>): Promise<void> {
  const place = await starting
  const neighbours = async () => {
    const probes = await place.reach(['default/stays-1', 'default/stays-2'])
    return probes.filter(({ from, to }) => from.network === to.network)
  }
  try {
    await say(place, 'apply -f -', bystanders)
    await say(place, 'wait pods --all --for=condition=Ready')
    const before = await heldOn(place)
    const began = performance.now()
    await say(place, 'apply -f -', manifest)
    await say(place, 'wait pods --all --for=condition=Ready --timeout=120s')
    const up = performance.now()
    assert.match(await say(place, 'get events --field-selector type=Warning'), /^No resources found/)
    const status = JSON.parse(await say(place, 'get pods -l many=yes -o json')) as {
      items: { status: { podIP: string } }[]
    }
    assert.equal(new Set(status.items.map((pod) => pod.status.podIP)).size, many)
    const probes = await place.reach(['default/p1', `default/p${many}`])
    assert.deepEqual(
      probes.filter(({ from, to }) => from.network === to.network).map((probe) => probe.answeredBy),
      probes.filter(({ from, to }) => from.network === to.network).map((probe) => probe.to.pod),
    )
    await say(place, 'delete pods -l many=yes --timeout=120s')
    console.log(
      `${place.kind}: ${many} pods in ${Math.round(up - began)} ms, gone in ${Math.round(performance.now() - up)} ms`,
    )
    // Blocks of addresses stay a while; nothing else does.
    assert.deepEqual(await heldOn(place), before)
    assert.deepEqual(
      (await neighbours()).map((probe) => probe.answeredBy),
      (await neighbours()).map((probe) => probe.to.pod),
    )
  } finally {
    await place.close()
  }
}

/** What pods hold on n1: sandboxes, addresses, links and what hangs on them. */
async function heldOn(place: Place): Promise<string[]> {
  const lines = await place.leftovers('n1')
  return lines.filter(
    (line) => !/^(route|neighbour|forwarding) |^journal block/.test(line) || / pn[0-9a-f]{12}/.test(line),
  )
}
