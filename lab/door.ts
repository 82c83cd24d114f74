import { randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import type { Server as HttpServer } from 'node:http'
import { createServer, type Server } from 'node:https'
import { join } from 'node:path'
import { loopbackCertificate } from './certificate.ts'
import { kubeconfigText } from './kubeconfig.ts'

/**
 * How people get to the lab's API server by TCP. Whoever can write to it can
 * run programs as the lab's user, and every user of a machine can reach its
 * loopback: so it takes the token that stands in the kubeconfig, by TLS.
 */
export interface Door {
  key: string
  certificate: string
  token: string
}

/** Makes a door for the lab in `dir`, and the kubeconfig that opens it; its path. */
export function makeDoor(dir: string, name: string, port: number): string {
  const door: Door = { ...loopbackCertificate(), token: randomBytes(32).toString('base64url') }
  writeFileSync(join(dir, 'door.json'), JSON.stringify(door), { mode: 0o600 })
  const path = join(dir, 'kubeconfig')
  const { certificate, token } = door
  const server = `https://127.0.0.1:${port}`
  writeFileSync(path, kubeconfigText({ name: `polynet-${name}`, server, certificate, token }), {
    mode: 0o600,
  })
  return path
}

export const doorOf = (dir: string): Door => JSON.parse(readFileSync(join(dir, 'door.json'), 'utf8'))

/** `server` behind the door: what comes with the token is handed on, the rest is answered 401. */
export function behind(door: Door, server: HttpServer): Server {
  const wanted = Buffer.from(`Bearer ${door.token}`)
  return createServer({ key: door.key, cert: door.certificate }, (request, response) => {
    const given = Buffer.from(request.headers.authorization ?? '')
    if (given.length === wanted.length && timingSafeEqual(given, wanted)) {
      server.emit('request', request, response)
      return
    }
    response.writeHead(401, { 'content-type': 'application/json' })
    response.end(JSON.stringify(unauthorized))
  })
}

const unauthorized = {
  kind: 'Status',
  apiVersion: 'v1',
  status: 'Failure',
  message: 'Unauthorized',
  reason: 'Unauthorized',
  code: 401,
}
