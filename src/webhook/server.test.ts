import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:https'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { selfSigned } from '../lib/certificate.ts'
import { realClock } from '../lib/clock.ts'
import { parsePrefix } from '../lib/ip.ts'
import { silentLog } from '../lib/log.ts'
import type { AdmissionReview } from './admission.ts'
import { serveAdmission } from './server.ts'
import { pod, viewOf } from './view.fixture.ts'

const from = new Date(Date.now() - 60_000)
const identity = (commonName: string) =>
  selfSigned({ commonName, names: ['127.0.0.1'], from, until: new Date(Date.now() + 60_000) })

async function started(from: string[] = []) {
  let change = Promise.withResolvers<void>()
  let network = viewOf().network
  const view = {
    ...viewOf(),
    network: (namespace: string, name: string) => network(namespace, name),
    synced: Promise.resolve(),
    changeWithin: (ms: number) => Promise.race([change.promise, realClock.sleep(ms)]),
    close() {},
  }
  const heard: string[] = []
  const server = await serveAdmission('127.0.0.1:0', {
    view,
    clock: realClock,
    log: silentLog,
    from: from.map((text) => parsePrefix(text)!),
    heard: ({ kind }, path, outcome) => void heard.push(`${path} ${kind.kind} ${outcome}`),
  })
  const ask = async (path: string, body: unknown, ca: string, slowMs = 0) => {
    const asked = request({ host: '127.0.0.1', port: server.port, path, ca, method: 'POST', agent: false })
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    asked.write(text.slice(0, 10))
    if (slowMs) await realClock.sleep(slowMs)
    asked.end(text.slice(10))
    const [answer] = await once(asked, 'response')
    const peer = (answer.socket as TLSSocket).getPeerX509Certificate()?.subject
    const chunks: Buffer[] = []
    for await (const chunk of answer) chunks.push(chunk)
    return { status: answer.statusCode, peer, body: JSON.parse(Buffer.concat(chunks).toString()) }
  }
  const add = (name: string) => {
    const before = network
    network = (ns, n) =>
      n === name ? { ...viewOf().network('blue', 'data')!, metadata: { namespace: ns, name } } : before(ns, n)
    change.resolve()
    change = Promise.withResolvers()
  }
  return { server, ask, add, heard }
}

const reviewOf = (annotations: Record<string, string>): AdmissionReview => ({
  apiVersion: 'admission.k8s.io/v1',
  kind: 'AdmissionReview',
  request: {
    uid: 'u1',
    kind: { group: '', version: 'v1', kind: 'Pod' },
    operation: 'CREATE',
    namespace: 'blue',
    object: pod(annotations),
  },
})

test('reviews are answered by TLS, and another certificate serves without a restart', async () => {
  const { server, ask, heard } = await started()
  const [one, two] = [identity('one'), identity('two')]
  server.use(one)
  const refused = await ask('/validate', reviewOf({ networks: '///' }), one.certificate)
  assert.deepEqual(refused, {
    status: 200,
    peer: 'CN=one',
    body: {
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      response: {
        uid: 'u1',
        allowed: false,
        status: {
          code: 400,
          reason: 'BadRequest',
          message:
            'attach pod blue/web: annotation networks[0]: /// is not [namespace/]name with an interface; write it like management:eth0 data:eth1',
        },
      },
    },
  })
  server.use(two)
  const changed = await ask('/mutate', reviewOf({ networks: 'data' }), two.certificate)
  const { patch, ...response } = changed.body.response
  assert.deepEqual([changed.peer, response], ['CN=two', { uid: 'u1', allowed: true, patchType: 'JSONPatch' }])
  assert.deepEqual(
    JSON.parse(Buffer.from(patch, 'base64').toString()).map((op: { path: string }) => op.path),
    ['/spec/affinity'],
  )
  await assert.rejects(ask('/validate', reviewOf({}), one.certificate), {
    code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
  })
  assert.deepEqual(heard, ['/validate Pod refused', '/mutate Pod changed'])
  assert.ok(new X509Certificate(two.certificate).checkIP('127.0.0.1'))
  await server.close()
})

test('what was written a moment ago is waited for before a pod is refused, or goes unchanged', async () => {
  const { server, ask, add } = await started()
  const { certificate } = identity('x')
  const own = identity('own')
  server.use(own)
  assert.ok(certificate)
  const validated = ask('/validate', reviewOf({ networks: 'blue/new' }), own.certificate)
  const mutated = ask('/mutate', reviewOf({ networks: 'new' }), own.certificate)
  setTimeout(() => add('other'), 50)
  setTimeout(() => add('new'), 100)
  assert.deepEqual((await validated).body.response.allowed, true)
  assert.equal((await mutated).body.response.patchType, 'JSONPatch')
  await server.close()
})

test('what is no review is refused, and says so', async () => {
  const { server, ask } = await started()
  const own = identity('own')
  server.use(own)
  const cases: [path: string, body: unknown, status: number][] = [
    ['/validate', '{"kind": "AdmissionReview', 422],
    ['/validate', 'null', 422],
    ['/validate', { ...reviewOf({}), apiVersion: 'admission.k8s.io/v1beta1' }, 422],
    ['/elsewhere', reviewOf({}), 404],
    ['/validate', `"${'x'.repeat(5 << 20)}"`, 422],
  ]
  for (const [path, body, want] of cases) {
    const { status } = await ask(path, body, own.certificate)
    assert.equal(status, want)
  }
  await server.close()
})

test('where it is said from where API servers ask, others get no connection', async () => {
  for (const [from, answered] of [
    [['127.0.0.0/8'], true],
    [['fd00:192:168:1::/64', '192.168.1.10/32'], false],
  ] as const) {
    const { server, ask } = await started([...from])
    const own = identity('own')
    server.use(own)
    try {
      const asked = ask('/validate', reviewOf({}), own.certificate)
      if (answered) assert.equal((await asked).status, 200)
      else await assert.rejects(asked, { code: 'ECONNRESET' })
    } finally {
      await server.close()
    }
  }
})

test('a request under way is answered before the server ends', async () => {
  const { server, ask } = await started()
  const own = identity('own')
  server.use(own)
  const slow = ask('/validate', reviewOf({}), own.certificate, 200)
  await realClock.sleep(100)
  await Promise.all([server.close(), slow.then(({ status }) => assert.equal(status, 200))])
})
