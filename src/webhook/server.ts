import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Identity } from '../lib/certificate.ts'
import type { Clock } from '../lib/clock.ts'
import { answers, asFault, Fault } from '../lib/fault.ts'
import { contains, type Prefix, parseAddress } from '../lib/ip.ts'
import type { Log } from '../lib/log.ts'
import type { AdmissionRequest, AdmissionReview } from './admission.ts'
import { answerTo } from './answer.ts'
import type { WatchedView } from './view.ts'

export interface AdmissionServer {
  port: number
  /** Connections from now on are served with it. */
  use(identity: Identity): void
  /** Takes no more connections; resolves when the requests under way are answered. */
  close(): Promise<void>
}

/** Hears of each request that was answered. */
export type Heard = (request: AdmissionRequest, path: string, outcome: Outcome, seconds: number) => void
export type Outcome = 'allowed' | 'warned' | 'changed' | 'refused'

/** How many strangers are told of: whoever reaches the port decides how many there are. */
const strangersTold = 100

/** Two objects of the largest size that etcd takes, and what is around them. */
const maxBody = 4 * 1024 * 1024

/**
 * Answers AdmissionReviews (admission.k8s.io/v1) by TLS on `host:port`. No
 * connection succeeds before `use`; with `from`, none from elsewhere ever.
 */
export async function serveAdmission(
  listen: string,
  deps: { view: WatchedView; clock: Clock; log: Log; heard?: Heard; from?: readonly Prefix[] },
): Promise<AdmissionServer> {
  const { view, clock, log, heard, from = [] } = deps
  const reviewed = async (request: IncomingMessage): Promise<AdmissionReview> => {
    const begun = performance.now()
    const path = (request.url ?? '').split('?')[0]!
    const asked = requestIn(await bodyOf(request))
    const response = await answerTo(path, asked, view, clock)
    const outcome = outcomeOf(response)
    heard?.(asked, path, outcome, (performance.now() - begun) / 1000)
    const { kind, namespace, name, operation } = asked
    const fields = { kind: kind.kind, namespace, name, operation, why: response.status?.message }
    log[outcome === 'refused' ? 'info' : 'debug'](outcome, fields)
    return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response }
  }
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    try {
      send(response, 200, await reviewed(request))
    } catch (error) {
      const fault = asFault(error, 'review')
      log.warn(fault.message, { kind: fault.kind })
      send(response, answers[fault.kind].http, { error: fault.message })
    }
  }
  const server = createServer({ requestTimeout: 10_000, keepAliveTimeout: 120_000 }, answer)
  const strangers = new Set<string>()
  if (from.length > 0)
    server.on('connection', (socket: Socket) => {
      const { remoteAddress = '' } = socket
      if (isFrom(from, remoteAddress)) return
      socket.destroy()
      if (strangers.has(remoteAddress) || strangers.size >= strangersTold) return
      strangers.add(remoteAddress)
      log.warn('took no connection; if this is an API server, add its address to --from', { remoteAddress })
    })
  const colon = listen.lastIndexOf(':')
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    const host = listen.slice(0, Math.max(0, colon)).replace(/^\[|\]$/g, '')
    server.listen(Number(listen.slice(colon + 1)), host || undefined, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    use: ({ key, certificate }) => server.setSecureContext({ key, cert: certificate }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeIdleConnections()
      }),
  }
}

/** A socket of both families shows IPv4 as `::ffff:192.168.1.10`. */
function isFrom(from: readonly Prefix[], remote: string): boolean {
  const address = parseAddress(remote.replace(/^::ffff:(?=[0-9.]+$)/, '').replace(/%.*$/, ''))
  return address !== undefined && from.some((prefix) => contains(prefix, address))
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBody)
      throw new Fault('invalid', 'read the review', `it is larger than ${maxBody} bytes; no object is`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** The request in the body; whoever reaches the port may send anything. */
function requestIn(body: string): AdmissionRequest {
  const bad = (problem: string) => new Fault('invalid', 'read the review', problem)
  let review: Partial<AdmissionReview> | null
  try {
    review = JSON.parse(body)
  } catch {
    throw bad('it is not JSON; this is for API servers')
  }
  if (review?.kind !== 'AdmissionReview' || review.apiVersion !== 'admission.k8s.io/v1')
    throw bad('it is no AdmissionReview of admission.k8s.io/v1; this is for API servers')
  const { request } = review
  if (typeof request?.uid !== 'string' || typeof request.kind?.kind !== 'string')
    throw bad('it has no request; this is for API servers')
  return request
}

function outcomeOf({ allowed, warnings, patch }: NonNullable<AdmissionReview['response']>): Outcome {
  if (!allowed) return 'refused'
  if (patch !== undefined) return 'changed'
  return warnings ? 'warned' : 'allowed'
}
