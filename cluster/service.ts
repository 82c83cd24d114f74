import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { systemPath } from './debian.ts'

export interface Command {
  argv: string[]
  /** Its output is appended there. */
  log: string
  env?: Record<string, string>
}

/** A program that runs until it is stopped; one that ends by itself is started again after a second. */
export class Service {
  readonly #command: Command
  #child: ChildProcess | undefined
  #wanted = false

  constructor(command: Command) {
    this.#command = command
  }

  get running(): boolean {
    return this.#child !== undefined
  }

  start(): void {
    this.#wanted = true
    if (this.#child) return
    const { argv, log, env = {} } = this.#command
    mkdirSync(dirname(log), { recursive: true })
    const out = openSync(log, 'a')
    const [program = '', ...args] = argv
    const child = spawn(program, args, {
      stdio: ['ignore', out, out],
      env: { PATH: systemPath, HOME: '/root', ...collecting(), ...env },
    })
    closeSync(out)
    this.#child = child
    const again = () => {
      if (this.#child !== child) return
      this.#child = undefined
      setTimeout(() => this.#wanted && this.start(), 1000)
    }
    child.on('error', again)
    child.on('close', again)
  }

  /** Resolves when it has ended: after SIGKILL at once, after SIGTERM within five seconds. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#wanted = false
    const child = this.#child
    this.#child = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
    const target = behind(child)
    send(target, signal)
    const late = setTimeout(() => send(target, 'SIGKILL'), 5000)
    await ended
    clearTimeout(late)
  }
}

/** `nsenter` into another process namespace waits there for the program itself, which is its child. */
function behind({ pid = 0 }: ChildProcess): number {
  try {
    if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('nsenter\0')) return pid
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]) || pid
  } catch {
    return pid
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {}
}

/** How Go's programs collect garbage, when whoever started the cluster has said so. */
const collecting = (): Record<string, string> => {
  const { GOGC } = process.env
  return GOGC === undefined ? {} : { GOGC }
}
