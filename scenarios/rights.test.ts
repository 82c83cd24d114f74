import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { LeapingClock } from '../sim/clock.ts'
import { type Asked, allows, grantsOf, grantText, heard } from '../sim/rights.ts'
import { type Program, startSim } from '../sim/sim.ts'
import { writeHost } from '../src/agent/host-physical-network.ts'
import { daemonSets, removalOf } from '../src/agent/install/removal.ts'
import type { Node } from '../src/api/core.ts'
import { crds } from '../src/api/crds.ts'
import { resources } from '../src/api/resources.ts'
import { statefulSets } from '../src/controller/addresses.ts'
import { startCandidate } from '../src/controller/candidate.ts'
import { defaultNetworkOf } from '../src/controller/default-network.ts'
import { lookAt } from '../src/doctor/look.ts'
import { anythingGoes } from '../src/kube/memory/crd.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import { realClock } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'
import { webhookConfigurations } from '../src/webhook/configurations.ts'
import { serviceName, startWebhook } from '../src/webhook/start.ts'
import { kubectl, say } from './kubectl.ts'
import { stories } from './pages.ts'
import { play } from './play.ts'

/** What each program may do at the API server, by the manifest that is installed, beside what it does there. */

const manifest = readFileSync(new URL('../deploy/polynet.yaml', import.meta.url), 'utf8')
const programs: Program[] = ['agent', 'controller', 'webhook']
const asked = new Map<string, { program: Program; asked: Asked }>()
const hear = (program: Program, one: Asked) =>
  void asked.set(JSON.stringify([program, Object.entries(one).sort()]), { program, asked: one })

/** Together they come to every request of agents and controllers that a simulation can show. */
const pages = [
  'scenarios/bad-days/node-back.md',
  'scenarios/bad-days/nic-gone.md',
  'scenarios/bad-input/no-address-left.md',
  'scenarios/networks/changes.md',
  'scenarios/networks/direct.md',
  'scenarios/networks/kept-addresses.md',
]
for (const page of pages)
  test(`stories: ${page}`, { timeout: 120_000 }, async () => {
    const { story } = stories.find((each) => each.page === page)!
    const place = await startSim(
      { nodes: ['n1', 'n2', 'n3'], nics: ['eth1', 'eth2'] },
      silentLog,
      realClock,
      { hear },
    )
    await play(story, place, page).finally(() => place.close())
  })

const podOn = (name: string, more: object) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', annotations: { networks: 'blue:eth1 flat:eth2' }, ...more },
  spec: {
    nodeName: 'n1',
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: 'busybox' }],
  },
})
const wire = (nic: string) => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'PhysicalNetwork',
  metadata: { name: 'phy-net0' },
  spec: { nics: [{ match: { name: nic } }] },
})
const blue = {
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { name: 'blue', namespace: 'default' },
  spec: { subnets: [{ cidr: '10.1.0.0/16' }], physicalNetwork: 'phy-net0' },
}

const flat = {
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { name: 'flat', namespace: 'default' },
  spec: { topology: 'Layer2', subnets: [{ cidr: '10.2.0.0/16' }] },
}

test('what takes time: addresses that are given back or kept, other wires, what nodes left behind', {
  timeout: 120_000,
}, async () => {
  const clock = new LeapingClock()
  const place = await startSim({ nodes: ['n1'], nics: ['eth1', 'eth2'] }, silentLog, clock, { hear })
  const told = (line: string, ...objects: object[]) =>
    say(place, line, objects.map((each) => JSON.stringify(each)).join('\n---\n'))
  const until = async (what: string, is: () => Promise<boolean>) => {
    for (const end = performance.now() + 30_000; !(await is()); await clock.leap(60_000))
      assert.ok(performance.now() < end, `${what}: not in time`)
  }
  const isGone = (line: string) => async () =>
    !(await kubectl(place, `get ${line}`.split(' '))).output.includes('gone-node')
  try {
    await told('apply -f -', wire('eth1'), blue, flat, anythingGoes(statefulSets))
    const set = {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'db', namespace: 'default' },
      spec: { replicas: 1 },
    }
    await told('apply -f -', set)
    const uid = await told('get statefulset db -o jsonpath={.metadata.uid}')
    const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'db', uid, controller: true }
    await told('apply -f -', podOn('db-0', { ownerReferences: [owner] }), podOn('web', {}))
    await told('wait pods --all --for=condition=Ready')
    await told('apply -f -', wire('eth2'))
    const slices = () => told('get attachmentslices -o json')
    await until('who is on a Layer2 network is told', async () => (await slices()).includes('"web"'))
    // Blocks follow when the next pod comes.
    await told('apply -f -', podOn('later', {}))
    await until('who else is there is told', async () => (await slices()).includes('"later"'))
    const json = () => told('get addressblocks -o json')
    await until('blocks behind the other wire', async () => !(await json()).includes('192.168.10.11'))
    const left = {
      metadata: { name: 'gone-node', namespace: 'default' },
      node: 'gone',
      nodeUID: 'gone',
      network: 'blue',
      networkUID: 'gone',
      attachments: [],
    }
    await told(
      'apply -f -',
      { apiVersion: 'polynet.dev/v1alpha1', kind: 'AttachmentSlice', ...left },
      {
        apiVersion: 'polynet.dev/v1alpha1',
        kind: 'HostPhysicalNetwork',
        metadata: { name: 'gone-node' },
        spec: {},
      },
    )
    await until('a slice of no node goes', isGone('attachmentslices'))
    await until('a host that is no node goes', isGone('hostphysicalnetworks'))
    await told('delete pods --all')
    await told('delete statefulset db')
    await until('addresses are given back', async () => !(await json()).includes('cidr'))
  } finally {
    await place.close()
  }
})

test('programs that no simulation starts: who leads, the default network, certificates, removal, doctors', {
  timeout: 60_000,
}, async () => {
  const kube = new MemoryKube({ crds: [...crds(), anythingGoes(daemonSets)] })
  const of = (program: Program) => heard(kube, (one) => hear(program, one))
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'polynet-system' },
  })
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } } as Node
  const { uid = '' } = (await kube.create(resources.nodes, node)).metadata
  const until = async (what: string, is: () => boolean) => {
    for (const end = performance.now() + 30_000; !is(); await realClock.sleep(10))
      assert.ok(performance.now() < end, `${what}: not in time`)
  }

  const lease = { namespace: 'polynet-system', name: 'polynet-controller' }
  const election = { lease, identity: 'one', clock: realClock, lost: assert.fail }
  const controller = startCandidate({
    ...{ kube: of('controller'), clock: realClock, log: silentLog, election },
    defaultNetwork: defaultNetworkOf(['10.244.0.0/16']),
  })
  await until('a controller leads', () => controller.leads() && controller.unready() === undefined)
  await controller.close()

  const service = { namespace: 'polynet-system', name: serviceName, port: 443 }
  const [validating, mutating] = webhookConfigurations({ service })
  await kube.create(resources.validatingWebhookConfigurations, validating as never)
  await kube.create(resources.mutatingWebhookConfigurations, mutating as never)
  // The second one comes when the first one's certificate is about to end.
  for (const days of [0, 70]) {
    const clock = { ...realClock, now: () => Date.now() + days * 86_400_000, sleep: realClock.sleep }
    const webhook = await startWebhook({
      ...{ kube: of('webhook'), clock, log: silentLog, listen: '127.0.0.1:0', namespace: 'polynet-system' },
    })
    await until('a webhook is trusted', () => webhook.unready() === undefined)
    await until(
      'a webhook has a successor',
      () =>
        days === 0 ||
        [...asked.values()].some((each) => each.asked.resource === 'secrets' && each.asked.verb === 'update'),
    )
    await webhook.close()
  }

  const agent = of('agent')
  const daemonSet = { namespace: 'polynet-system', name: 'polynet-agent' }
  await kube.create(daemonSets, { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: daemonSet })
  assert.deepEqual(await removalOf(agent, 'n1', daemonSet, realClock).ask(), {
    removed: false,
    why: 'its DaemonSet is there',
  })
  await lookAt(agent)
  // Twice, as after an answer that was lost.
  const seen = { nics: [], mappings: [], taken: undefined }
  for (let i = 0; i < 2; i++)
    await writeHost({ kube: agent, clock: realClock, node: { name: 'n1', uid } }, undefined, seen)
})

for (const program of programs) {
  const grants = grantsOf(manifest, `polynet-${program}`)
  const mine = () => [...asked.values()].filter((each) => each.program === program).map((each) => each.asked)

  test(`${program}: its roles grant all that it asks for`, () => {
    assert.ok(mine().length > 0)
    const refused = mine().filter((each) => !grants.some((grant) => allows(grant, each)))
    assert.deepEqual([...new Set(refused.map(grantText))], [])
  })

  test(`${program}: its roles grant nothing that it never asks for`, () => {
    const idle = grants.filter((grant) => !mine().some((each) => allows(grant, each)))
    assert.deepEqual(idle.map(grantText), [])
  })
}
