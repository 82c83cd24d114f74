import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { test } from 'node:test'
import { selfSigned } from '../../lib/certificate.ts'
import type { ApiServer } from './config.ts'
import { Connections, type Question } from './connections.ts'

/** The server's answer, or how asking it failed. */
const asked = (connections: Connections, question: Partial<Question> = {}): Promise<string> =>
  new Promise((resolve) => {
    let text = ''
    connections.ask(
      { method: 'GET', path: '/', headers: {}, ...question },
      {
        head: ({ code }) => {
          text = `${code} `
        },
        data: (bytes) => {
          text += bytes
        },
        end: (error) => resolve(error ? error.message : text),
      },
    )
  })

async function serving(
  server: Server,
  as: Partial<ApiServer> & { scheme?: string },
  act: (connections: Connections) => Promise<void>,
): Promise<void> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const connections = new Connections({ url: new URL(`${as.scheme ?? 'http'}://127.0.0.1:${port}`), ...as })
  try {
    await act(connections)
  } finally {
    connections.close()
    await new Promise((resolve) => server.close(resolve))
  }
}

/** Says by which connection it was asked, counted from one. */
function counting(more?: RequestListener): RequestListener {
  const seen: IncomingMessage['socket'][] = []
  return (request, response) => {
    if (!seen.includes(request.socket)) seen.push(request.socket)
    more?.(request, response)
    response.end(`by ${seen.indexOf(request.socket) + 1}`)
  }
}

test('a connection is asked again, and never two questions at once', () =>
  serving(createServer(counting()), {}, async (connections) => {
    assert.equal(await asked(connections), '200 by 1')
    assert.equal(await asked(connections, { method: 'PATCH', body: 'ü' }), '200 by 1')
    const both = await Promise.all([asked(connections), asked(connections)])
    assert.deepEqual(both.sort(), ['200 by 1', '200 by 2'])
  }))

test('a connection that the server closes is not asked again', () =>
  serving(
    createServer(counting((_, response) => response.setHeader('connection', 'close'))),
    {},
    async (connections) => {
      assert.equal(await asked(connections), '200 by 1')
      assert.equal(await asked(connections), '200 by 2')
    },
  ))

test('a connection that breaks off is an error, also in the middle of an answer', () =>
  serving(
    createServer((_, response) => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('blue', () => response.destroy())
    }),
    {},
    async (connections) => assert.match(await asked(connections), /broke off|ECONNRESET/),
  ))

test('who gave up hears of it once, and keeps nobody else from an answer', () =>
  serving(
    createServer((request, response) => {
      if (request.url === '/answered') response.end('there')
    }),
    {},
    async (connections) => {
      const ends: string[] = []
      const deaf = { head() {}, data() {}, end: (error?: Error) => ends.push(String(error?.message)) }
      const giveUp = connections.ask({ method: 'GET', path: '/silent', headers: {} }, deaf)
      giveUp(new Error('late'))
      giveUp(new Error('later'))
      const answered = asked(connections, { path: '/answered' })
      giveUp(new Error('last'))
      assert.equal(await answered, '200 there')
      assert.deepEqual(ends, ['late'])
    },
  ))

test('nothing in a header becomes a header of its own', () =>
  serving(createServer(counting()), {}, async (connections) => {
    for (const value of ['a\r\nHost: b', 'a\nb', 'ü'])
      await assert.rejects(asked(connections, { headers: { Authorization: value } }), /no header may have/)
  }))

test('over TLS, only the server that is trusted is asked', async () => {
  const until = new Date(Date.now() + 60_000)
  const of = (name: string) => selfSigned({ commonName: 'server', names: [name], from: new Date(0), until })
  const [right, other] = [of('127.0.0.1'), of('api.test')]
  const cases: [trusted: Partial<ApiServer>, identity: typeof right, answer: RegExp][] = [
    [{ ca: right.certificate }, right, /^200 by 1$/],
    [{}, right, /self-signed certificate/],
    [{ ca: other.certificate }, right, /self-signed certificate/],
    [{ ca: other.certificate }, other, /IP: 127.0.0.1 is not in the cert's list/],
    [{ ca: other.certificate, serverName: 'api.test' }, other, /^200 by 1$/],
    [{ insecure: true }, right, /^200 by 1$/],
  ]
  for (const [trusted, { key, certificate }, answer] of cases)
    await serving(
      createTlsServer({ key, cert: certificate }, counting()),
      { scheme: 'https', ...trusted },
      async (c) => assert.match(await asked(c), answer),
    )
})
