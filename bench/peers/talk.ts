import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** A program that answers each line with a line. It ends with its stdin, so with this process. */
export class Talk {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #ended: Promise<unknown>

  constructor([program = '', ...args]: string[]) {
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]()
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve).once('error', resolve))
    // One that was killed is written to no more.
    this.#child.stdin!.on('error', () => {})
  }

  ask(line: string): Promise<string> {
    this.#child.stdin!.write(`${line}\n`)
    return this.line()
  }

  /** What it says next; rejects when it ends. */
  async line(): Promise<string> {
    const { done, value } = await this.#lines.next()
    if (done) throw new Error(`${this.#child.spawnargs.slice(0, 3).join(' ')} ended`)
    return value
  }

  close(): Promise<unknown> {
    this.#child.stdin!.end()
    return this.#ended
  }

  kill(): Promise<unknown> {
    this.#child.kill('SIGKILL')
    return this.#ended
  }
}
