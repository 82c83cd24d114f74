import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WebhookConfiguration } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import type { Kube } from '../kube/port.ts'
import type { Identity } from '../lib/certificate.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { startCertificates } from './certificate.ts'

const { validatingWebhookConfigurations: validating, mutatingWebhookConfigurations: mutating } = resources
const namespace = 'polynet-system'

async function cluster() {
  const clock = new ManualClock()
  const kube = new MemoryKube()
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace },
  })
  const install = async () => {
    for (const resource of [validating, mutating])
      await kube.create(resource, {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: resource.kind,
        metadata: { name: 'polynet' },
        webhooks: [
          { name: 'pods.polynet.dev', clientConfig: {} },
          { name: 'templates.polynet.dev', clientConfig: { caBundle: 'b2xk' } },
        ],
      })
  }
  const replica = () => {
    const used: Identity[] = []
    const names = ['polynet-webhook.polynet-system.svc']
    const use = (identity: Identity) => void used.push(identity)
    return { used, ...startCertificates({ kube, clock, log: silentLog, namespace, names, use }) }
  }
  const bundles = async () => {
    const all = await Promise.all([validating, mutating].map((r) => kube.get(r, { name: 'polynet' })))
    return all.flatMap(({ webhooks = [] }: WebhookConfiguration) =>
      webhooks.map(({ clientConfig }) => Buffer.from(clientConfig.caBundle ?? '', 'base64').toString()),
    )
  }
  return { clock, kube: kube as Kube, install, replica, bundles }
}

const day = 86_400_000

test('two replicas that start at once serve with one certificate, and the API server is told of it', async () => {
  const { clock, install, replica, bundles } = await cluster()
  await install()
  const replicas = [replica(), replica()]
  await clock.advance(1000)
  const [[one], [two]] = replicas.map(({ used }) => used) as [Identity[], Identity[]]
  assert.ok(one && two)
  assert.deepEqual(one, two)
  assert.deepEqual(await bundles(), Array(4).fill(one.certificate))
  assert.deepEqual(
    replicas.map((r) => r.unready()),
    [undefined, undefined],
  )
  await Promise.all(replicas.map((r) => r.close()))
})

test('both follow to the next one in time, and at no moment does one serve what is not trusted', async () => {
  const { clock, install, replica, bundles } = await cluster()
  await install()
  const replicas = [replica(), replica()]
  await clock.advance(1000)
  for (let days = 0; days < 62; days += 0.5) {
    await clock.advance(day / 2)
    for (const bundle of await bundles())
      for (const { used } of replicas) assert.ok(bundle.includes(used.at(-1)!.certificate))
  }
  const served = replicas.map(({ used }) => used.map((identity) => identity.certificate))
  assert.deepEqual(served[0], served[1])
  assert.equal(served[0]!.length, 2)
  await Promise.all(replicas.map((r) => r.close()))
})

test('names that no certificate can be for do not make certificates without end', async () => {
  const { clock, kube, install } = await cluster()
  await install()
  const names = ['']
  const { unready, close } = startCertificates({ kube, clock, log: silentLog, namespace, names, use() {} })
  await clock.advance(60_000)
  const { items } = await kube.list(resources.secrets)
  assert.ok(Number(items[0]!.metadata.resourceVersion) < 30)
  assert.match(unready() ?? '', /^the certificate/)
  await close()
})

test('what was installed again is told again, and a Secret that is gone is made again', async () => {
  const { clock, kube, install, replica, bundles } = await cluster()
  const { used, unready, close } = replica()
  await clock.advance(1000)
  assert.match(unready() ?? '', /^there is no ValidatingWebhookConfiguration polynet/)
  await install()
  await clock.advance(1000)
  assert.equal(unready(), undefined)
  for (const resource of [validating, mutating]) await kube.delete(resource, { name: 'polynet' })
  await install()
  await clock.advance(1000)
  assert.deepEqual(await bundles(), Array(4).fill(used[0]!.certificate))
  await kube.delete(resources.secrets, { namespace, name: 'polynet-webhook-certificate' })
  await clock.advance(1000)
  assert.equal(used.length, 2)
  assert.deepEqual(await bundles(), Array(4).fill(used[1]!.certificate))
  await close()
})
