import type { ChildProcess } from 'node:child_process'
import { closeSync, lstatSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Fault } from '../src/lib/fault.ts'
import { type Controlled, connectLab } from './control.ts'
import { makeDoor } from './door.ts'
import { enter, type Way } from './enter.ts'
import { initIn, isAlive, tail } from './resident.ts'
import type { Wiring } from './wires.ts'

export interface BootOptions {
  name: string
  wiring: Wiring
  /** Of the API server on 127.0.0.1; 0 or absent: any that is free. */
  port?: number
  /** The lab goes on when this process ends; else it ends with it, however that ends. */
  stay?: boolean
}

export interface Booted {
  place: Controlled
  kubeconfig: string
}

const prefix = 'polynet-lab-'

/** Agents' sockets are below it, and their paths have an end; and nodes have `/run` and `/var/lib` of their own. */
const base = tmpdir().length > 30 || /^\/(run|var\/lib)(\/|$)/.test(tmpdir()) ? '/tmp' : tmpdir()

/** Where everything of the lab of this name is. */
export function labDir(name: string): string {
  if (!/^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/.test(name))
    throw new Fault('invalid', `name a lab ${name}`, 'it must be at most 20 letters, digits and dashes')
  return join(base, prefix + name)
}

export const kubeconfigOf = (name: string): string => join(labDir(name), 'kubeconfig')

/** The names of the labs that run, of this user. What others left behind without running any more is removed. */
export function labs(): string[] {
  return readdirSync(base)
    .filter((entry) => entry.startsWith(prefix))
    .map((entry) => entry.slice(prefix.length))
    .filter((name) => {
      const dir = join(base, prefix + name)
      if (lstatSync(dir, { throwIfNoEntry: false })?.uid !== process.getuid?.()) return false
      if (isAlive(dir)) return true
      rmSync(dir, { recursive: true, force: true })
      return false
    })
    .sort()
}

/**
 * A lab whose nodes are all Ready. Rejects with `exists` when one of that
 * name runs, and with `unavailable` when it does not come up.
 */
export async function bootLab(way: Exclude<Way, { how: 'none' }>, options: BootOptions): Promise<Booted> {
  const { name, wiring, port = 0, stay = false } = options
  const doing = `start lab ${name}`
  const dir = labDir(name)
  labs()
  const listener = await listenerOn(port)
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    listener.close()
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new Fault('exists', doing, `${dir} is there: it runs already; take another --name`)
  }
  const kubeconfig = makeDoor(dir, name, listener.port)
  const log = openSync(join(dir, 'lab.log'), 'a')
  const child = enter(way, 'main.ts', [dir, JSON.stringify(wiring), ...(stay ? ['stay'] : [])], {
    input: stay ? 'ignore' : 'pipe',
    output: log,
    listener: listener.fd,
  })
  closeSync(log)
  listener.close()
  writeFileSync(join(dir, 'pid'), String(child.pid ?? 0))
  if (stay) child.unref()
  const place = connectLab(dir)
  await up(child, place, doing, join(dir, 'lab.log'))
  return { place: { ...place, close: () => closed(place, child) }, kubeconfig }
}

/** The running lab of that name. */
export function findLab(name: string): Controlled {
  if (!labs().includes(name)) {
    const others = labs()
    const remedy = others.length > 0 ? `running: ${others.join(', ')}` : 'start it with npm run lab -- up'
    throw new Fault('missing', `find lab ${name}`, `it does not run; ${remedy}`)
  }
  return connectLab(labDir(name))
}

/** The lab's first process, as processes outside see it. */
export const initOf = (name: string): number => initIn(labDir(name))

const bootWithinMs = 60_000

async function up(child: ChildProcess, place: Controlled, doing: string, log: string): Promise<void> {
  let over: Error | undefined
  let late: NodeJS.Timeout | undefined
  const gone = new Promise<never>((_, reject) => {
    const end = (why: string) => {
      clearTimeout(late)
      over = new Fault('unavailable', doing, why)
      reject(over)
    }
    late = setTimeout(() => {
      end(`its nodes are not Ready after ${bootWithinMs / 1000} s: ${tail(log)}\n${agentTails(dirname(log))}`)
      child.kill('SIGKILL')
    }, bootWithinMs)
    child.once('error', (error) => end(error.message))
    child.once('exit', (code) => {
      const said = tail(log)
      end(`it ended with ${code}${said ? `: ${said}` : ''}`)
    })
  })
  gone.catch(() => {})
  while (!over) {
    try {
      await Promise.race([place.ready(), gone])
      clearTimeout(late)
      return
    } catch (error) {
      if (over || !(error instanceof Fault && error.kind === 'unavailable')) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw over
}

const agentTails = (dir: string): string =>
  readdirSync(join(dir, 'nodes'))
    .map((node) => `${node}: ${tail(join(dir, 'nodes', node, 'agent.log'))}`)
    .join('\n')

/** Resolves when nothing of the lab is left. */
async function closed(place: Controlled, child: ChildProcess): Promise<void> {
  const exited = new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve())
  })
  await place.close()
  await exited
}

/**
 * A TCP socket bound to the loopback of this process's own network, for the
 * lab, whose network is another: that is how kubectl gets in.
 */
export async function listenerOn(port: number): Promise<{ fd: number; port: number; close(): void }> {
  const { bind, close, socket, socketName } = await import('../src/datapath/linux/syscall.ts')
  const address = Buffer.alloc(16)
  address.writeUInt16LE(2, 0)
  address.writeUInt16BE(port, 2)
  address.set([127, 0, 0, 1], 4)
  const fd = socket(2, 1, 0)
  bind(fd, address)
  return { fd, port: socketName(fd).readUInt16BE(2), close: () => close(fd) }
}
