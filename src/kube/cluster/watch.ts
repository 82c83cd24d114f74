import type { IncomingMessage } from 'node:http'
import { StringDecoder } from 'node:string_decoder'
import type { KubeObject } from '../../api/meta.ts'
import { Fault } from '../../lib/fault.ts'
import type { Change } from '../port.ts'
import { faultOf, type Status } from '../status.ts'
import { type Request, statusIn, type Transport } from './transport.ts'

/**
 * One watch, from its request to its end: changes as the server streams
 * them, one JSON object per line. Ends when the server ends it or the
 * connection breaks; rejects when the server refuses.
 */
export async function* watchLines<T extends KubeObject>(
  transport: Transport,
  request: Request,
  { signal, seconds }: { signal: AbortSignal; seconds: number },
): AsyncIterable<Change<T>> {
  if (signal.aborted) return
  const ended = new AbortController()
  const end = () => ended.abort()
  signal.addEventListener('abort', end, { once: true })
  // A server that takes the connection and says nothing, and one that is gone without a word.
  const mute = setTimeout(end, transport.deadlineMs)
  const silent = setTimeout(end, (seconds + 15) * 1000)
  try {
    const response = await transport.open(request, ended.signal)
    clearTimeout(mute)
    if (response.statusCode !== 200) throw await refusal(response, request.doing)
    for await (const line of linesOf(response)) {
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
    ended.abort()
  }
}

async function refusal(response: IncomingMessage, doing: string): Promise<Fault> {
  let text = ''
  for await (const chunk of response as AsyncIterable<Buffer>) text += chunk.toString()
  return faultOf(statusIn(text, response.statusCode ?? 0), doing)
}

/** Whole lines, however the bytes were cut; ends quietly where the connection breaks off, without the half line. */
async function* linesOf(response: IncomingMessage): AsyncIterable<string> {
  const decoder = new StringDecoder('utf8')
  let pieces: string[] = []
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      const parts = decoder.write(chunk).split('\n')
      const rest = parts.pop()!
      for (const part of parts) {
        const line = pieces.length > 0 ? pieces.join('') + part : part
        pieces = []
        if (line !== '') yield line
      }
      if (rest !== '') pieces.push(rest)
    }
  } catch {
    // The watch has ended; whoever wants more asks again from the last version seen.
  }
}
