/** The status and the headers of an answer; names in lower case, the last of equal ones counts. */
export interface Head {
  code: number
  headers: ReadonlyMap<string, string>
}

export interface AnswerListener {
  head(head: Head): void
  /** A piece of the body. */
  data(bytes: Buffer): void
}

/** The longest status line with its headers, and the longest line within a body. */
const lineLimit = 64 * 1024

/** What the next bytes are. */
type Part = 'head' | 'counted' | 'size' | 'chunk' | 'chunk end' | 'trailer' | 'until closed' | 'done'

/** One HTTP/1.1 answer (RFC 9112) out of the bytes of a connection, however those were cut. */
export class AnswerReader {
  readonly #listener: AnswerListener
  #part: Part = 'head'
  #bytes: Buffer = Buffer.alloc(0)
  /** Of a body or chunk, as far as its length is known. */
  #left = 0
  #keptAlive = false

  constructor(listener: AnswerListener) {
    this.#listener = listener
  }

  /** Whether the answer is whole with these bytes. Throws where they are not HTTP. */
  read(bytes: Buffer): boolean {
    this.#bytes = this.#bytes.length > 0 ? Buffer.concat([this.#bytes, bytes]) : bytes
    while (this.#part !== 'done' && this.#step()) {}
    return this.#part === 'done'
  }

  /** Whether the answer is whole when nothing more comes. */
  get endsHere(): boolean {
    return this.#part === 'done' || this.#part === 'until closed'
  }

  /** Whether the connection can be asked again, once the answer is whole. */
  get reusable(): boolean {
    return this.#part === 'done' && this.#keptAlive && this.#bytes.length === 0
  }

  /** False when it takes more bytes to go on. */
  #step(): boolean {
    switch (this.#part) {
      case 'head':
        return this.#head()
      case 'counted':
        return this.#body('done')
      case 'chunk':
        return this.#body('chunk end')
      case 'until closed':
        this.#left = this.#bytes.length
        return this.#body('until closed')
      case 'size': {
        const line = this.#until('\r\n')
        if (line === undefined) return false
        const size = /^[0-9a-f]{1,8}(?=[\t ;]|$)/i.exec(line)?.[0]
        if (size === undefined) throw new Error('a chunk of the answer has no size')
        this.#left = Number.parseInt(size, 16)
        this.#part = this.#left > 0 ? 'chunk' : 'trailer'
        return true
      }
      case 'chunk end': {
        const line = this.#until('\r\n')
        if (line) throw new Error('a chunk of the answer is longer than it says')
        if (line !== undefined) this.#part = 'size'
        return line !== undefined
      }
      case 'trailer': {
        const line = this.#until('\r\n')
        if (line === '') this.#part = 'done'
        return line !== undefined
      }
      case 'done':
        return false
    }
  }

  #head(): boolean {
    const text = this.#until('\r\n\r\n')
    if (text === undefined) return false
    const [status = '', ...lines] = text.split('\r\n')
    const [, minor, digits] = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(status) ?? []
    if (digits === undefined) throw new Error('the answer is not HTTP/1.1')
    const code = Number(digits)
    // 100 Continue and the like: the answer is still to come.
    if (code < 200) return true
    const headers = new Map<string, string>()
    for (const line of lines) {
      const colon = line.indexOf(':')
      headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim())
    }
    this.#keptAlive = minor === '1' && headers.get('connection')?.toLowerCase() !== 'close'
    this.#part = this.#bodyOf(code, headers)
    this.#listener.head({ code, headers })
    return true
  }

  #bodyOf(code: number, headers: ReadonlyMap<string, string>): Part {
    if (code === 204 || code === 304) return 'done'
    if (headers.get('transfer-encoding')?.toLowerCase() === 'chunked') return 'size'
    const length = headers.get('content-length')
    if (length === undefined) return 'until closed'
    if (!/^\d{1,15}$/.test(length)) throw new Error('the answer has no length')
    this.#left = Number(length)
    return this.#left > 0 ? 'counted' : 'done'
  }

  /** Hands on what is there of the body or chunk. */
  #body(next: Part): boolean {
    if (this.#bytes.length === 0) return false
    const piece = this.#bytes.subarray(0, this.#left)
    this.#bytes = this.#bytes.subarray(piece.length)
    this.#left -= piece.length
    if (this.#left === 0) this.#part = next
    this.#listener.data(piece)
    return true
  }

  /** The text up to `end`, taken with it; undefined while that has not come. */
  #until(end: string): string | undefined {
    const at = this.#bytes.indexOf(end)
    if (at > lineLimit || (at < 0 && this.#bytes.length > lineLimit))
      throw new Error(`a line or the headers of the answer are longer than ${lineLimit} bytes`)
    if (at < 0) return undefined
    const text = this.#bytes.toString('latin1', 0, at)
    this.#bytes = this.#bytes.subarray(at + end.length)
    return text
  }
}
