import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { loopbackCertificate } from './certificate.ts'

test('the certificate is what it says: its own issuer, for loopback, for ten years', () => {
  const { certificate } = loopbackCertificate(new Date('2026-01-02T03:04:05Z'))
  const parsed = new X509Certificate(certificate)
  assert.deepEqual(
    [parsed.subject, parsed.subjectAltName, parsed.ca, parsed.validFrom, parsed.validTo],
    [
      'CN=polynet lab',
      'DNS:localhost, IP Address:127.0.0.1',
      true,
      'Jan  2 03:04:05 2026 GMT',
      'Dec 31 03:04:05 2035 GMT',
    ],
  )
  assert.ok(parsed.verify(parsed.publicKey))
})

test('a client that trusts it connects, and one that does not refuses', async () => {
  const { key, certificate } = loopbackCertificate()
  const server = createServer({ key, cert: certificate }, (_, response) => response.end('hello'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const ask = async (ca?: string) => {
    const asked = request({ host: '127.0.0.1', port, ca, agent: false }).end()
    const [answer] = await once(asked, 'response')
    return answer.statusCode
  }
  assert.equal(await ask(certificate), 200)
  await assert.rejects(ask(), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' })
  server.closeAllConnections()
  server.close()
})
