import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { asFault, Fault } from '../../lib/fault.ts'
import { failure, faultOf, type Status, statusOf } from '../status.ts'
import { discovery } from './discovery.ts'
import { openapi } from './openapi.ts'
import type { MemoryKube } from './store.ts'
import { type Admission, type Answer, type Call, type Logs, Verbs } from './verbs.ts'

export interface Extras {
  /** What a container printed; absent: `kubectl logs` is not implemented. */
  logs?: Logs
  /** Who decides about what clients write; absent: nobody. Programs that hold the `MemoryKube` are not asked about. */
  admission?: Admission
}

/**
 * The API server in memory over HTTP/1.1, as unmodified kubectl and any
 * client speak it. Not listening yet; it asks nobody who they are, so it
 * must listen on loopback or on a socket that only its owner can open.
 */
export function serveKube(kube: MemoryKube, extras: Extras = {}): Server {
  const verbs = new Verbs(kube, extras.logs, extras.admission)
  const server = createServer({ keepAliveTimeout: 90_000, requestTimeout: 60_000 }, (request, response) => {
    void answer(kube, verbs, request, response)
  })
  return server
}

/** The largest body taken, as etcd's limit has it. */
const maxBody = 3 * 1024 * 1024

async function answer(
  kube: MemoryKube,
  verbs: Verbs,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  try {
    refuseForeign(request)
    const url = new URL(request.url ?? '/', 'http://localhost')
    const path = url.pathname.replace(/\/+$/, '') || '/'
    const call: Call = {
      method: request.method ?? 'GET',
      path,
      query: url.searchParams,
      accept: request.headers.accept ?? '',
      contentType: (request.headers['content-type'] ?? '').split(';')[0]!.trim(),
      body: await bodyOf(request),
      signal: gone.signal,
    }
    const plain =
      call.method === 'GET'
        ? (healthOf(path) ?? discovery(path, kube.kinds()) ?? openapi(path, kube.kinds(), call.accept))
        : undefined
    await send(response, plain === undefined ? await verbs.answer(call) : { body: plain })
  } catch (error) {
    const fault =
      error instanceof Fault
        ? error
        : faultOf(failure('InternalError', asFault(error, 'answer').message), 'answer')
    if (response.headersSent) response.destroy()
    else await send(response, refusal(statusOf(fault)))
  }
}

const refusal = (status: Status): Answer => ({
  code: status.code,
  body: status,
  headers: status.details?.retryAfterSeconds
    ? { 'Retry-After': String(status.details.retryAfterSeconds) }
    : undefined,
})

const healthOf = (path: string): string | undefined =>
  ['/healthz', '/livez', '/readyz'].includes(path) ? 'ok' : undefined

/** A page in somebody's browser must not reach this server by a name that resolves to loopback. */
function refuseForeign(request: IncomingMessage): void {
  const host = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  if (host === '' || host === 'localhost' || isIP(host)) return
  throw faultOf(failure('Forbidden', `host ${JSON.stringify(host)} is not this server`), 'answer')
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBody)
      throw faultOf(
        failure('RequestEntityTooLarge', `Request entity too large: limit is ${maxBody}`),
        'answer',
      )
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

async function send(response: ServerResponse, { code = 200, body, headers, stream }: Answer): Promise<void> {
  if (stream) {
    response.writeHead(code, { 'Content-Type': 'application/json', ...headers })
    response.flushHeaders()
    for await (const line of stream) {
      if (response.destroyed) break
      if (!response.write(line)) await drained(response)
    }
    response.end()
    return
  }
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`
  response.writeHead(code, {
    'Content-Type': typeof body === 'string' ? 'text/plain' : 'application/json',
    'Content-Length': Buffer.byteLength(text),
    ...headers,
  })
  response.end(text)
}

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.once('drain', done)
    response.once('close', done)
  })
