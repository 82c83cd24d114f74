import { type Clock, realClock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import { failure, faultOf, type Status } from '../status.ts'
import type { Head } from './answer.ts'
import type { ApiServer } from './config.ts'
import { type Asker, Connections } from './connections.ts'

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

/**
 * Requests to one API server over kept-alive connections. What is safe to
 * repeat is repeated until the deadline: reads after any failure, writes only
 * where the server has certainly not done them.
 */
export class Transport {
  readonly #server: ApiServer
  readonly #clock: Clock
  readonly #random: () => number
  readonly #connections: Connections
  readonly deadlineMs: number

  constructor(
    server: ApiServer,
    { clock = realClock, deadlineMs = 10_000, random = Math.random }: TransportOptions,
  ) {
    this.#server = server
    this.#clock = clock
    this.#random = random
    this.deadlineMs = deadlineMs
    this.#connections = new Connections(server)
  }

  /** The JSON that the server answers; rejects with the fault that its Status is. */
  async json<T>(request: Request): Promise<T> {
    return parsed(await this.text(request), request.doing) as T
  }

  /** The same, unread: for whoever wants to know only that it is done. */
  async text(request: Request): Promise<string> {
    const deadline = this.#clock.now() + (request.deadlineMs ?? this.deadlineMs)
    for (let attempt = 0; ; attempt++) {
      const left = deadline - this.#clock.now()
      const outcome = await this.#attempt(request, Math.max(1, left), attempt > 0)
      if (outcome.ok) return outcome.text
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
    { ok: true; text: string } | { ok: false; fault: Fault; again: boolean; retryAfterMs?: number }
  > {
    const safe = request.method === 'GET'
    try {
      const { head, text } = await this.#answer(request, timeoutMs, repeated)
      const { code, headers } = head
      if (code < 300) return { ok: true, text }
      const status = statusIn(text, code)
      // 429: turned away at the door. 401: the token may have been rotated just now.
      const again =
        code === 429 ||
        (safe && code >= 500 && code !== 501) ||
        (code === 401 && !repeated && !!this.#server.authorization)
      const seconds = Number(headers.get('retry-after'))
      return {
        ok: false,
        fault: faultOf(status, request.doing),
        again,
        retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
      }
    } catch (error) {
      const late = error instanceof Late
      const why = (error as Error).message
      const fault = new Fault('unavailable', request.doing, `${why}; is the API server there?`, error)
      const unsent = ['ECONNREFUSED', 'ENOENT', 'ENOTFOUND', 'EAI_AGAIN'].includes(codeOf(error))
      return { ok: false, fault, again: !late && (safe || unsent) }
    }
  }

  /** The whole answer, or how the connection failed. */
  #answer(request: Request, timeoutMs: number, fresh: boolean): Promise<{ head: Head; text: string }> {
    return new Promise((resolve, reject) => {
      const pieces: Buffer[] = []
      let head: Head | undefined
      const giveUp = this.ask(
        request,
        {
          head(it) {
            head = it
          },
          data: (piece) => pieces.push(piece),
          end(error) {
            clearTimeout(timer)
            if (error || !head) reject(error)
            else resolve({ head, text: Buffer.concat(pieces).toString() })
          },
        },
        fresh,
      )
      const timer = setTimeout(() => giveUp(new Late(timeoutMs)), timeoutMs)
    })
  }

  /** Asks once, whatever comes of it; returns how to give up. */
  ask(request: Request, asker: Asker, fresh = false): (error: Error) => void {
    const { method, path } = request
    const body = request.body === undefined ? undefined : JSON.stringify(request.body)
    const authorization = this.#server.authorization?.(fresh)
    const headers = {
      Accept: 'application/json',
      'User-Agent': 'polynet',
      ...(authorization && { Authorization: authorization }),
      ...(body !== undefined && { 'Content-Type': request.contentType ?? 'application/json' }),
    }
    return this.#connections.ask({ method, path, headers, ...(body !== undefined && { body }) }, asker)
  }

  close(): void {
    this.#connections.close()
  }
}

class Late extends Error {
  constructor(ms: number) {
    super(`no answer within ${Math.round(ms / 1000)} s`)
  }
}

const codeOf = (error: unknown): string => String((error as { code?: string }).code ?? '')

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
