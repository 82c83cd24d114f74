import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants } from 'node:os'
import { errnoName, native } from './libc.ts'
import { rootedIn } from './rooted.ts'

/**
 * Runs programs by posix_spawn. Node's own spawn forks, which copies the page
 * tables of a large process and stops its loop for 5 to 17 ms each time; this
 * takes a quarter of a millisecond whatever the process weighs.
 */
export interface Ended {
  /** Exit code; absent when a signal ended it or it never began. */
  code?: number
  /** `SIGKILL` and the like. */
  signal?: string
  /** Why it never began: `ENOENT`, `EACCES`, `ENOEXEC`, … */
  error?: string
  stdout: Buffer
  /** The first 64 KiB. */
  stderr: string
  /** It was killed, because time was up or because it printed more than it may. */
  killed?: 'timeout' | 'output'
}

export interface SpawnOptions {
  timeoutMs: number
  /** Bytes it may print on stdout before it is killed. */
  outputLimit?: number
}

export type Spawn = (
  path: string,
  argv: string[],
  env: Record<string, string>,
  stdin: Uint8Array,
  options: SpawnOptions,
) => Promise<Ended>

const c = {
  pipe2: native('int pipe2(_Out_ int *fds, int flags)'),
  waitpid: native('int waitpid(int pid, _Out_ int *status, int options)'),
  kill: native('int kill(int pid, int signal)'),
  init: native('int posix_spawn_file_actions_init(void *actions)'),
  dup2: native('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)'),
  destroy: native('int posix_spawn_file_actions_destroy(void *actions)'),
  attrInit: native('int posix_spawnattr_init(void *attr)'),
  attrFlags: native('int posix_spawnattr_setflags(void *attr, short flags)'),
  attrDefault: native('int posix_spawnattr_setsigdefault(void *attr, const void *set)'),
  attrMask: native('int posix_spawnattr_setsigmask(void *attr, const void *set)'),
  spawn: native(
    'int posix_spawn(_Out_ int *pid, const char *path, const void *actions, const void *attr, const char **argv, const char **env)',
  ),
}

const O_CLOEXEC = 0o2000000
const WNOHANG = 1
const SETPGROUP = 2
const SETSIGDEF = 4
const SETSIGMASK = 8
const stderrLimit = 64 << 10
/** How long after its end a program's descendants may go on holding its output. */
const lingerMs = 100

/** The same for every child: a process group of its own, no signal blocked, and SIGPIPE, which Node ignores, as it is by default. */
const attributes = Buffer.alloc(512)
c.attrInit(attributes)
c.attrFlags(attributes, SETPGROUP | SETSIGDEF | SETSIGMASK)
c.attrMask(attributes, Buffer.alloc(128))
c.attrDefault(attributes, sigset(constants.signals.SIGPIPE))

function sigset(signal: number): Buffer {
  const set = Buffer.alloc(128)
  set.writeBigUInt64LE(1n << BigInt(signal - 1))
  return set
}

/**
 * How the program ended, once it has ended and what it printed is in. It gets
 * `env` and nothing of ours, and no open file but the three. Never rejects.
 */
export const spawn: Spawn = (...call) => run((begin) => begin(), ...call)

/** As `spawn`, for a program that sees what is below `root` as its whole file system. It takes CAP_SYS_CHROOT. */
export const spawnIn =
  (root: string): Spawn =>
  (...call) =>
    run((begin) => rootedIn(root, begin), ...call)

type Around = (begin: () => number) => number

async function run(around: Around, ...call: Parameters<Spawn>): Promise<Ended> {
  const [path, argv, env, stdin, { timeoutMs, outputLimit = 4 << 20 }] = call
  const started = start(around, path, argv, env)
  if ('error' in started) return { ...started, stdout: Buffer.alloc(0), stderr: '' }
  const { pid, fds } = started
  let killed: Ended['killed']
  let over = false
  const kill = (why: Ended['killed']) => {
    // Its number may be another's by now.
    if (over) return
    killed ??= why
    c.kill(-pid, constants.signals.SIGKILL)
  }
  const ended = exitOf(pid)
  const timer = setTimeout(kill, timeoutMs, 'timeout')
  const input = new Socket({ fd: fds[0], readable: false, writable: true })
  input.on('error', () => {}) // it need not read what it is given
  input.end(stdin)
  const stdout = collect(fds[1], outputLimit, () => kill('output'))
  const stderr = collect(fds[2], stderrLimit, () => {})
  const status = await ended
  over = true
  clearTimeout(timer)
  // Not before what is in the pipes by then is read: this loop may have stood still for longer.
  const linger = setTimeout(() => setImmediate(() => [stdout, stderr].map((s) => s.stop())), lingerMs)
  const [out, err] = await Promise.all([stdout.whole, stderr.whole])
  clearTimeout(linger)
  input.destroy()
  return { ...outcome(status), stdout: out, stderr: err.toString(), ...(killed && { killed }) }
}

type Started = { pid: number; fds: [number, number, number] } | { error: string }

function start(around: Around, path: string, argv: string[], env: Record<string, string>): Started {
  const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  if ([path, ...argv, ...environment].some((text) => text.includes('\0'))) return { error: 'EINVAL' }
  const open: number[] = []
  const pipe = (): [number, number] | undefined => {
    const fds = [0, 0]
    if (c.pipe2(fds, O_CLOEXEC) !== 0) return undefined
    open.push(...fds)
    return fds as [number, number]
  }
  const [stdin, stdout, stderr] = [pipe(), pipe(), pipe()]
  const close = (fds: number[]) => fds.forEach((fd) => void closeSync(fd))
  if (!stdin || !stdout || !stderr) {
    close(open)
    return { error: 'EMFILE' }
  }
  const theirs = [stdin[0], stdout[1], stderr[1]]
  const actions = Buffer.alloc(512)
  c.init(actions)
  for (const [to, fd] of theirs.entries()) c.dup2(actions, fd, to)
  const pid = [0]
  const failed = around(
    () => c.spawn(pid, path, actions, attributes, [...argv, null], [...environment, null]) as number,
  )
  c.destroy(actions)
  close(theirs)
  if (failed === 0) return { pid: pid[0]!, fds: [stdin[1], stdout[0], stderr[0]] }
  close([stdin[1], stdout[0], stderr[0]])
  return { error: errnoName(failed) }
}

/** What comes out of a pipe, up to `limit`; the rest is read and forgotten, after `over` was told once. */
function collect(fd: number, limit: number, over: () => void): { whole: Promise<Buffer>; stop: () => void } {
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  const pipe = new Socket({ fd, readable: true, writable: false })
  const chunks: Buffer[] = []
  let length = 0
  pipe.on('data', (chunk: Buffer) => {
    const room = Math.max(limit - length, 0)
    if (room > 0) chunks.push(chunk.subarray(0, room))
    length += chunk.length
    if (length > limit && length - chunk.length <= limit) over()
  })
  pipe.on('error', () => {})
  pipe.on('close', () => resolve(Buffer.concat(chunks)))
  return { whole: promise, stop: () => pipe.destroy() }
}

/** Who waits for which child. Every one is asked after by its own id, so that children of others stay theirs. */
const waiting = new Map<number, (status: number) => void>()
let asking: NodeJS.Timeout | undefined

/** The wait status of a child, once it has ended and is reaped. */
function exitOf(pid: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>()
  waiting.set(pid, resolve)
  if (!asking) {
    process.on('SIGCHLD', reap)
    // A worker thread gets no signals.
    asking = setInterval(reap, 100)
  }
  // It may have ended before anybody listened.
  setImmediate(reap)
  return promise
}

function reap(): void {
  for (const [pid, resolve] of waiting) {
    const status = [0]
    const got: number = c.waitpid(pid, status, WNOHANG)
    if (got === 0) continue
    waiting.delete(pid)
    // Somebody else reaped it: nobody knows how it ended.
    resolve(got === pid ? status[0]! : 255 << 8)
  }
  if (waiting.size > 0 || !asking) return
  clearInterval(asking)
  asking = undefined
  process.off('SIGCHLD', reap)
}

function outcome(status: number): Pick<Ended, 'code' | 'signal'> {
  const signal = status & 0x7f
  if (signal === 0) return { code: (status >> 8) & 0xff }
  const [name] = Object.entries(constants.signals).find(([, number]) => number === signal) ?? []
  return { signal: name ?? `signal ${signal}` }
}
