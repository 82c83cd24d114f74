import { StringDecoder } from 'node:string_decoder'
import type { KubeObject } from '../../api/meta.ts'
import { Fault } from '../../lib/fault.ts'
import type { Change } from '../port.ts'
import { faultOf, type Status } from '../status.ts'
import type { Head } from './answer.ts'
import { type Request, statusIn, type Transport } from './transport.ts'

/**
 * One watch, from its request to its end: changes as the server streams
 * them, one JSON object per line. Ends when the server ends it; rejects when
 * the server refuses, or the connection breaks.
 */
export async function* watchLines<T extends KubeObject>(
  transport: Transport,
  request: Request,
  { signal, seconds }: { signal: AbortSignal; seconds: number },
): AsyncIterable<Change<T>> {
  if (signal.aborted) return
  const stream = new Stream()
  let giveUp = (_: Error) => {}
  const end = () => giveUp(new Error('given up'))
  signal.addEventListener('abort', end, { once: true })
  // A server that takes the connection and says nothing, and one that is gone without a word.
  const mute = setTimeout(end, transport.deadlineMs)
  const silent = setTimeout(end, (seconds + 15) * 1000)
  try {
    giveUp = transport.ask(request, stream)
    const { code } = await stream.answered
    clearTimeout(mute)
    if (code !== 200) throw await refusal(stream, code, request.doing)
    for await (const line of linesOf(stream)) {
      const change = JSON.parse(line) as { type: string; object: T & Status }
      if (change.type === 'ERROR') throw faultOf(change.object, request.doing)
      if (change.type === 'BOOKMARK')
        yield { type: 'BOOKMARK', resourceVersion: change.object.metadata.resourceVersion ?? '' }
      else yield change as Change<T>
    }
  } catch (error) {
    if (signal.aborted) return
    if (error instanceof Fault) throw error
    throw new Fault(
      'unavailable',
      request.doing,
      `${(error as Error).message}; is the API server there?`,
      error,
    )
  } finally {
    clearTimeout(mute)
    clearTimeout(silent)
    signal.removeEventListener('abort', end)
    // Whoever stops reading early must not leave the stream open.
    end()
  }
}

/** An answer for whoever reads it when there is time. */
class Stream {
  readonly #answered = Promise.withResolvers<Head>()
  #pieces: Buffer[] = []
  #ended = false
  #broken: Error | undefined
  #wake = () => {}

  /** Resolves when its status is there; rejects where it never comes. */
  get answered(): Promise<Head> {
    return this.#answered.promise
  }

  head(head: Head): void {
    this.#answered.resolve(head)
  }

  data(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#wake()
  }

  end(error?: Error): void {
    this.#ended = true
    this.#broken = error
    this.#answered.reject(error)
    this.#wake()
  }

  /** What has come of the body since the last time, once there is any; undefined at its end. Rejects where it broke off. */
  async next(): Promise<Buffer | undefined> {
    while (this.#pieces.length === 0 && !this.#ended)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    const pieces = this.#pieces
    this.#pieces = []
    if (pieces.length === 0 && this.#broken) throw this.#broken
    return pieces.length > 0 ? Buffer.concat(pieces) : undefined
  }
}

async function refusal(stream: Stream, code: number, doing: string): Promise<Fault> {
  const pieces: Buffer[] = []
  for (let piece = await stream.next(); piece; piece = await stream.next()) pieces.push(piece)
  return faultOf(statusIn(Buffer.concat(pieces).toString(), code), doing)
}

/** Whole lines, however the bytes were cut. */
async function* linesOf(stream: Stream): AsyncIterable<string> {
  const decoder = new StringDecoder('utf8')
  let pieces: string[] = []
  for (let piece = await stream.next(); piece; piece = await stream.next()) {
    const parts = decoder.write(piece).split('\n')
    const rest = parts.pop()!
    for (const part of parts) {
      const line = pieces.length > 0 ? pieces.join('') + part : part
      pieces = []
      if (line !== '') yield line
    }
    if (rest !== '') pieces.push(rest)
  }
}
