import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type AnswerListener, AnswerReader } from './answer.ts'
import type { ApiServer } from './config.ts'

export interface Question {
  method: string
  path: string
  /** Beside `Host` and `Content-Length`. */
  headers: Record<string, string>
  body?: string
}

/** Who asks hears of the answer as it comes, and once of its end: whole, or broken off by an error. */
export interface Asker extends AnswerListener {
  end(error?: Error): void
}

/** How long a connection may be silent before the kernel asks whether the other side is there. */
const keepAliveMs = 15_000
/** Idle connections go before the server closes them (90 s at kube-apiserver), so that no write meets a closing one. */
const idleMs = 60_000
const idleConnections = 16

/**
 * Connections to one API server, over TLS, TCP or a unix socket: one question
 * at a time on each, and the next one on the same where the server keeps it.
 * Node's own HTTP client takes twice as long for a question, and an agent asks
 * one or more for each pod.
 */
export class Connections {
  readonly #server: ApiServer
  #idle: Connection[] = []
  /** Lets a new connection go without what the first of them has agreed on. */
  #session: Buffer | undefined
  #closed = false

  constructor(server: ApiServer) {
    this.#server = server
  }

  /** Returns how to give up: nothing is heard of it any more then but its end, by that error. */
  ask(question: Question, asker: Asker): (error: Error) => void {
    const { url } = this.#server
    const connection = this.#take()
    connection.ask(headOf(question, `${url.pathname.replace(/\/$/, '')}${question.path}`, url.host), asker)
    return (error) => connection.giveUp(asker, error)
  }

  /** Idle connections end now, others with their answers. */
  close(): void {
    this.#closed = true
    for (const connection of this.#idle) connection.end()
  }

  #take(): Connection {
    const since = performance.now() - idleMs
    for (let one = this.#idle.pop(); one; one = this.#idle.pop())
      if (one.idleSince > since) return one
      else one.end()
    const connection: Connection = new Connection(this.#connect(), {
      idle: () => {
        if (this.#closed || this.#idle.length >= idleConnections) connection.end()
        else this.#idle.push(connection)
      },
      gone: () => {
        this.#idle = this.#idle.filter((one) => one !== connection)
      },
    })
    return connection
  }

  #connect(): Socket {
    const { url, socketPath, ca, cert, key, insecure, serverName } = this.#server
    if (socketPath !== undefined) return connect({ path: socketPath })
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const to = { host, port: Number(url.port || (url.protocol === 'https:' ? 443 : 80)), noDelay: true }
    if (url.protocol !== 'https:')
      return connect({ ...to, keepAlive: true, keepAliveInitialDelay: keepAliveMs })
    const socket = connectTls({
      ...to,
      ca,
      cert,
      key,
      rejectUnauthorized: !insecure,
      // A name for an address there is none: TLS would refuse to send it.
      servername: serverName ?? (isIP(host) ? '' : host),
      ALPNProtocols: ['http/1.1'],
      session: this.#session,
    })
    socket.setKeepAlive(true, keepAliveMs)
    socket.on('session', (session) => {
      this.#session = session
    })
    return socket
  }
}

/** One connection, from its first question to its end. */
class Connection {
  readonly #socket: Socket
  readonly #on: { idle(): void; gone(): void }
  #asker: Asker | undefined
  #reader: AnswerReader | undefined
  idleSince = 0

  constructor(socket: Socket, on: { idle(): void; gone(): void }) {
    this.#socket = socket
    this.#on = on
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#closed())
  }

  ask(text: string, asker: Asker): void {
    this.#asker = asker
    this.#reader = new AnswerReader(asker)
    // While it is idle, no process stays for its sake.
    this.#socket.ref()
    this.#socket.write(text)
  }

  /** Nothing happens where the asker has its answer: somebody else may be asking by now. */
  giveUp(asker: Asker, error: Error): void {
    if (this.#asker === asker) this.#fail(error)
  }

  end(): void {
    this.#socket.destroy()
  }

  #fail(error: Error): void {
    this.end()
    this.#over(error)
  }

  #read(bytes: Buffer): void {
    const reader = this.#reader
    try {
      if (!reader) throw new Error('the server says what nobody has asked for')
      if (!reader.read(bytes)) return
    } catch (error) {
      this.#fail(error as Error)
      return
    }
    if (reader.reusable && this.#socket.writableLength === 0) {
      this.idleSince = performance.now()
      this.#socket.unref()
      this.#reader = undefined
      this.#on.idle()
    } else this.end()
    this.#over()
  }

  #closed(): void {
    this.#on.gone()
    this.#over(this.#reader?.endsHere ? undefined : new Error('the connection broke off'))
  }

  #over(error?: Error): void {
    const asker = this.#asker
    this.#asker = undefined
    asker?.end(error)
  }
}

/** The question as it goes over the wire. Throws where one of its words would become something else there. */
function headOf({ method, path, headers, body }: Question, target: string, host: string): string {
  const lines = [`${method} ${target} HTTP/1.1`, `Host: ${host}`]
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`)
  if (body !== undefined) lines.push(`Content-Length: ${Buffer.byteLength(body)}`)
  if (lines.some((line) => /[^ -~]/.test(line)))
    throw new Error(`${method} ${path}: its headers have characters that no header may have`)
  return `${lines.join('\r\n')}\r\n\r\n${body ?? ''}`
}
