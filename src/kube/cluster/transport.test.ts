import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { resources } from '../../api/resources.ts'
import { Fault } from '../../lib/fault.ts'
import { failure, type Reason } from '../status.ts'
import { apiServer } from './config.ts'
import { type ConnectedKube, connect } from './connect.ts'

/** A server that answers as told, the client of it, and what was asked. */
async function scripted(
  answer: (request: IncomingMessage, response: ServerResponse, count: number) => void,
  act: (kube: ConnectedKube, asked: string[]) => Promise<void>,
): Promise<void> {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    answer(request, response, asked.length)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const kube = await connect(`http://127.0.0.1:${port}`, { deadlineMs: 1000 })
  try {
    await act(kube, asked)
  } finally {
    kube.close()
    server.closeAllConnections()
    server.close()
  }
}

const json = (response: ServerResponse, body: unknown, code = 200, headers = {}): void => {
  response.writeHead(code, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

const refuse = (response: ServerResponse, reason: Reason, headers = {}): void => {
  const status = failure(reason, `it is ${reason}`)
  json(response, status, status.code, headers)
}

const web = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web', namespace: 'lab' },
  spec: { containers: [] },
}
const ref = { namespace: 'lab', name: 'web' }

async function kindOf(act: Promise<unknown>): Promise<string> {
  const error = await act.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Fault, String(error))
  return error.kind
}

for (const reason of ['InternalError', 'ServiceUnavailable', 'Timeout', 'TooManyRequests'] as const)
  test(`a read that is answered ${reason} is asked again`, () =>
    scripted(
      (_, response, count) => (count < 3 ? refuse(response, reason) : json(response, web)),
      async (kube, asked) => {
        assert.equal((await kube.get(resources.pods, ref)).metadata.name, 'web')
        assert.equal(asked.length, 3)
      },
    ))

test('a write that may have been done is not repeated; one that was turned away is', () =>
  scripted(
    (_, response, count) =>
      count === 1
        ? refuse(response, 'InternalError')
        : count === 2
          ? refuse(response, 'TooManyRequests')
          : json(response, web),
    async (kube, asked) => {
      assert.equal(await kindOf(kube.create(resources.pods, web)), 'unavailable')
      assert.equal(asked.length, 1)
      await kube.create(resources.pods, web)
      assert.equal(asked.length, 3)
    },
  ))

test('after a connection that broke a read is asked again, a write is not', () =>
  scripted(
    (request, response, count) =>
      request.method === 'POST' || count === 2 ? request.socket.destroy() : json(response, web),
    async (kube, asked) => {
      assert.equal(await kindOf(kube.create(resources.pods, web)), 'unavailable')
      assert.equal(asked.length, 1)
      await kube.get(resources.pods, ref)
      assert.equal(asked.length, 3)
    },
  ))

test('Retry-After is waited for, and not beyond the deadline', () =>
  scripted(
    (_, response) => refuse(response, 'TooManyRequests', { 'retry-after': '30' }),
    async (kube, asked) => {
      const began = performance.now()
      assert.equal(await kindOf(kube.get(resources.pods, ref)), 'unavailable')
      assert.ok(performance.now() - began < 900)
      assert.equal(asked.length, 1)
    },
  ))

test('a server that says nothing is unavailable after the deadline', () =>
  scripted(
    () => {},
    async (kube) => {
      const began = performance.now()
      assert.equal(await kindOf(kube.get(resources.pods, ref)), 'unavailable')
      const waited = performance.now() - began
      assert.ok(waited > 900 && waited < 3000, `${waited}`)
    },
  ))

test('what is no API server is unavailable, in words', () =>
  scripted(
    (_, response) => response.writeHead(200).end('<html>'),
    (kube) => assert.rejects(kube.get(resources.pods, ref), /not JSON; is that an API server\?/),
  ))

test('pages are fetched until there are no more; when the server forgets them, all comes at once', () =>
  scripted(
    (_, response, count) => {
      const page = (names: string[], more?: string) =>
        json(response, {
          kind: 'PodList',
          metadata: { resourceVersion: '7', continue: more },
          items: names.map((name) => ({ metadata: { name } })),
        })
      if (count === 1) page(['a'], 'next')
      else if (count === 2) refuse(response, 'Expired')
      else page(['a', 'b'])
    },
    async (kube, asked) => {
      const { items, resourceVersion } = await kube.list(resources.pods, { namespace: 'lab', labels: 'a=b' })
      assert.deepEqual(
        items.map((o) => `${o.apiVersion} ${o.kind} ${o.metadata.name}`),
        ['v1 Pod a', 'v1 Pod b'],
      )
      assert.equal(resourceVersion, '7')
      assert.deepEqual(asked, [
        'GET /api/v1/namespaces/lab/pods?labelSelector=a%3Db&limit=500',
        'GET /api/v1/namespaces/lab/pods?labelSelector=a%3Db&limit=500&continue=next',
        'GET /api/v1/namespaces/lab/pods?labelSelector=a%3Db',
      ])
    },
  ))

test('a watch reads changes however the bytes are cut, drops half a line, and says that it broke off', () => {
  const change = (name: string) => ({
    type: 'ADDED',
    object: { ...web, metadata: { name, annotations: { note: 'grüße 漢字 🦊' } } },
  })
  const bytes = Buffer.from(
    [
      JSON.stringify(change('a')),
      JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '9' } } }),
      JSON.stringify(change('b')),
      '{"type":"ADDED","obj',
    ].join('\n'),
  )
  return scripted(
    async (_, response) => {
      response.writeHead(200)
      for (let i = 0; i < bytes.length; i += 7) {
        response.write(bytes.subarray(i, i + 7))
        // Else what is written together is read together.
        await sleep(1)
      }
      // Sent off, then broken off.
      setTimeout(() => response.destroy(), 100)
    },
    async (kube) => {
      const seen: unknown[] = []
      const { signal } = new AbortController()
      await assert.rejects(async () => {
        for await (const c of kube.watch(resources.pods, '5', { signal })) seen.push(c)
      }, /the connection broke off; is the API server there\?/)
      assert.deepEqual(seen, [change('a'), { type: 'BOOKMARK', resourceVersion: '9' }, change('b')])
    },
  )
})

test('a watch that the server refuses in the middle is that fault', () =>
  scripted(
    (_, response) => {
      response.writeHead(200)
      response.end(`${JSON.stringify({ type: 'ERROR', object: failure('Expired', 'too old') })}\n`)
    },
    async (kube) => {
      const { signal } = new AbortController()
      const watch = kube.watch(resources.pods, '5', { signal })[Symbol.asyncIterator]()
      assert.equal(await kindOf(watch.next()), 'expired')
    },
  ))

test('a refused token is read again, once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'polynet-token-'))
  const file = (name: string, text: string) => writeFileSync(join(folder, name), text)
  const seen: unknown[] = []
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization)
    if (seen.length === 1) file('token', 'new\n')
    if (request.headers.authorization === 'Bearer new') json(response, web)
    else refuse(response, 'Unauthorized')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  file('token', 'old\n')
  file(
    'config',
    `{current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], clusters: [{name: k, cluster: {server: 'http://127.0.0.1:${port}'}}], users: [{name: u, user: {tokenFile: token}}]}`,
  )
  const kube = await connect(join(folder, 'config'))
  await kube.get(resources.pods, ref)
  assert.deepEqual(seen, ['Bearer old', 'Bearer new'])
  kube.close()
  server.close()
  rmSync(folder, { recursive: true })
})

test('the server is where --api, or else the environment says', () => {
  const folder = mkdtempSync(join(tmpdir(), 'polynet-config-'))
  const at = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const config = (server: string, user = '{}', cluster = '') =>
    `{current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], clusters: [{name: k, cluster: {server: '${server}'${cluster}}}], users: [{name: u, user: ${user}}]}`
  const plain = at(
    'plain',
    config('https://10.0.0.1:6443', '{token: secret}', ', insecure-skip-tls-verify: true'),
  )
  assert.equal(apiServer('unix:/run/api.sock').socketPath, '/run/api.sock')
  assert.equal(apiServer('http://127.0.0.1:8080').url.port, '8080')
  const read = apiServer(undefined, { KUBECONFIG: plain })
  assert.deepEqual(
    [read.url.host, read.insecure, read.authorization?.()],
    ['10.0.0.1:6443', true, 'Bearer secret'],
  )
  at('ca.pem', 'CERTIFICATE')
  const data = Buffer.from('KEY').toString('base64')
  const withFiles = at(
    'files',
    config('https://k:1', `{client-key-data: ${data}}`, ', certificate-authority: ca.pem'),
  )
  assert.deepEqual([apiServer(withFiles).ca, apiServer(withFiles).key], ['CERTIFICATE', 'KEY'])
  const wrong: [string, RegExp][] = [
    [join(folder, 'none'), /ENOENT.*name another one with --api/],
    [at('empty', ''), /it has no context ""; add it/],
    [at('exec', config('https://k', '{exec: {command: login}}')), /credentials from a program/],
    [at('server', config('here')), /"here" is not a URL/],
  ]
  for (const [path, problem] of wrong) assert.throws(() => apiServer(path), problem)
  rmSync(folder, { recursive: true })
})
