import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { type Clock, realClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import { failure, faultOf, type Status } from '../status.ts'
import type { ApiServer } from './config.ts'

export interface TransportOptions {
  clock?: Clock
  /** How long a request may take with all its retries; a list may take six times that. */
  deadlineMs?: number
  random?: () => number
}

export interface Request {
  /** For faults: `get pods lab/web`. */
  doing: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  body?: unknown
  contentType?: string
  deadlineMs?: number
}

/** How long a connection may be silent before the kernel asks whether the other side is there; the same in use and at rest, so that it is set once. */
const keepAliveMsecs = 15_000

/**
 * Requests to one API server over kept-alive connections. What is safe to
 * repeat is repeated until the deadline: reads after any failure, writes only
 * where the server has certainly not done them.
 */
export class Transport {
  readonly #server: ApiServer
  readonly #clock: Clock
  readonly #random: () => number
  readonly #agent: http.Agent
  readonly deadlineMs: number

  constructor(
    server: ApiServer,
    { clock = realClock, deadlineMs = 10_000, random = Math.random }: TransportOptions,
  ) {
    this.#server = server
    this.#clock = clock
    this.#random = random
    this.deadlineMs = deadlineMs
    // Idle connections go before the server closes them (90 s at kube-apiserver), so that no write meets a closing one.
    const options = { keepAlive: true, keepAliveMsecs, timeout: 60_000, maxFreeSockets: 16 }
    this.#agent =
      server.url.protocol === 'https:'
        ? new https.Agent({
            ...options,
            ca: server.ca,
            cert: server.cert,
            key: server.key,
            rejectUnauthorized: !server.insecure,
            servername: server.serverName,
          })
        : new http.Agent(options)
  }

  /** The JSON that the server answers; rejects with the fault that its Status is. */
  async json<T>(request: Request): Promise<T> {
    const deadline = this.#clock.now() + (request.deadlineMs ?? this.deadlineMs)
    for (let attempt = 0; ; attempt++) {
      const left = deadline - this.#clock.now()
      const outcome = await this.#attempt(request, Math.max(1, left), attempt > 0)
      if (outcome.ok) return outcome.value as T
      const pause = outcome.retryAfterMs ?? Math.min(2000, 50 * 2 ** attempt) * (0.5 + this.#random() / 2)
      if (!outcome.again || this.#clock.now() + pause >= deadline) throw outcome.fault
      await this.#clock.sleep(pause)
    }
  }

  async #attempt(
    request: Request,
    timeoutMs: number,
    repeated: boolean,
  ): Promise<
    { ok: true; value: unknown } | { ok: false; fault: Fault; again: boolean; retryAfterMs?: number }
  > {
    const safe = request.method === 'GET'
    const timeout = new AbortController()
    const timer = setTimeout(() => timeout.abort(), timeoutMs)
    let sent = false
    try {
      const response = await this.open(request, timeout.signal, repeated)
      sent = true
      const text = await textOf(response)
      const code = response.statusCode ?? 0
      if (code < 300) return { ok: true, value: parsed(text, request.doing) }
      const status = statusIn(text, code)
      // 429: turned away at the door. 401: the token may have been rotated just now.
      const again =
        code === 429 ||
        (safe && code >= 500 && code !== 501) ||
        (code === 401 && !repeated && !!this.#server.authorization)
      const seconds = Number(response.headers['retry-after'])
      return {
        ok: false,
        fault: faultOf(status, request.doing),
        again,
        retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
      }
    } catch (error) {
      if (error instanceof Fault) return { ok: false, fault: error, again: false }
      const late = timeout.signal.aborted
      const why = late ? `no answer within ${Math.round(timeoutMs / 1000)} s` : (error as Error).message
      const fault = new Fault('unavailable', request.doing, `${why}; is the API server there?`, error)
      const unsent = !sent && ['ECONNREFUSED', 'ENOENT', 'ENOTFOUND', 'EAI_AGAIN'].includes(codeOf(error))
      return { ok: false, fault, again: !late && (safe || unsent) }
    } finally {
      clearTimeout(timer)
    }
  }

  /** The response once its headers are there; its body is the caller's to read. */
  open(request: Request, signal: AbortSignal, fresh = false): Promise<IncomingMessage> {
    const { url, socketPath } = this.#server
    const body = request.body === undefined ? undefined : JSON.stringify(request.body)
    const authorization = this.#server.authorization?.(fresh)
    return new Promise((resolve, reject) => {
      const call = (url.protocol === 'https:' ? https : http).request({
        agent: this.#agent,
        method: request.method,
        ...(socketPath === undefined
          ? { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port }
          : { socketPath }),
        path: `${url.pathname.replace(/\/$/, '')}${request.path}`,
        signal,
        headers: {
          Accept: 'application/json',
          'User-Agent': 'polynet',
          ...(authorization && { Authorization: authorization }),
          ...(body !== undefined && {
            'Content-Type': request.contentType ?? 'application/json',
            'Content-Length': Buffer.byteLength(body),
          }),
        },
      })
      call.on('socket', (socket) => socket.setKeepAlive(true, keepAliveMsecs))
      call.once('response', resolve)
      call.once('error', reject)
      call.end(body)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

const codeOf = (error: unknown): string => String((error as { code?: string }).code ?? '')

/** Listens for itself: an async iterator takes several times as long, at each answer. */
const textOf = (response: IncomingMessage): Promise<string> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('end', () => resolve(Buffer.concat(chunks).toString()))
    response.on('error', reject)
    response.on('close', () => reject(new Error('the connection broke off')))
  })

function parsed(text: string, doing: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Fault('unavailable', doing, 'the answer is not JSON; is that an API server?', error)
  }
}

/** The Status that a failed request was answered with; one made of the HTTP status where something else answered. */
export function statusIn(text: string, code: number): Status {
  try {
    const status = JSON.parse(text) as Partial<Status>
    if (status.kind === 'Status') return { ...(status as Status), code: status.code ?? code }
  } catch {
    // A proxy's page, or plain text.
  }
  return { ...failure('InternalError', text.trim().slice(0, 200) || `HTTP ${code}`), reason: undefined, code }
}
