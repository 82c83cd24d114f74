import { chmod, lstat, mkdir, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { errorAnswer, frameLimit, parseRequest, replyOf } from '../cni/frame.ts'
import type { CniRequest } from '../cni/request.ts'
import { Fault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import type { CniAnswer } from './agent.ts'

export type Handle = (request: CniRequest) => Promise<CniAnswer>

export interface ShimServer {
  /** Takes the socket away, so that shims help themselves, and resolves when those in flight have their answers. */
  close(): Promise<void>
}

/** How long a shim may take to send a request; it has all of it in hand before it connects. */
const sendingMs = 10_000

/**
 * The agent's side of the shim: a unix socket at `socketPath` that only root
 * can open. A socket that a dead agent left behind is replaced; where an agent
 * answers, or something that is no socket is in the way, rejects with a fault.
 */
export async function serveShim(socketPath: string, handle: Handle, log: Log): Promise<ShimServer> {
  const doing = `listen on ${socketPath}`
  // sockaddr_un: 108 bytes with the zero at the end.
  if (Buffer.byteLength(beside(socketPath)) > 107)
    throw new Fault('invalid', doing, 'the path is too long for a unix socket; use one of 95 bytes or less')
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 })
  await makeWay(socketPath, doing)
  const server = createServer({ allowHalfOpen: true }, (socket) => serve(socket, handle, log))
  await listenForRoot(server, socketPath)
  const ours = await lstat(socketPath)
  return {
    async close() {
      const there = await lstat(socketPath).catch(() => undefined)
      if (there?.ino === ours.ino && there.dev === ours.dev) await rm(socketPath, { force: true })
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Has the server listen at a unix socket that only root can open, in place of one that is there. */
export async function listenForRoot(server: Server, path: string): Promise<void> {
  const fresh = beside(path)
  await rm(fresh, { force: true })
  await listening(server, fresh)
  // Nobody else could connect before this: connecting takes the right to write, which no umask gives to others.
  await chmod(fresh, 0o600)
  await rename(fresh, path)
}

const beside = (path: string): string => `${path}.${process.pid}`

async function makeWay(path: string, doing: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (!there) return
  if (!there.isSocket())
    throw new Fault('exists', doing, 'something that is no socket is there; move it away')
  if (await isAnswered(path))
    throw new Fault(
      'exists',
      doing,
      'another agent answers there; stop it, or give this one a path of its own',
    )
}

/** Whether an agent is behind the socket. */
export const isAnswered = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path)
    probe.on('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.on('error', () => resolve(false))
  })

const listening = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog: 1024 }, () => {
      server.off('error', reject)
      resolve()
    })
  })

function serve(socket: Socket, handle: Handle, log: Log): void {
  const chunks: Buffer[] = []
  let length = 0
  let answered = false
  const late = setTimeout(() => {
    if (length > 0) log.warn(`answer a shim: it sent no whole request in ${sendingMs} ms`)
    socket.destroy()
  }, sendingMs)
  const answer = (reply: CniAnswer) => {
    if (answered) return
    answered = true
    clearTimeout(late)
    // The shim has said all that it has to say, so the end of the connection is that of the answer. Within its own callback a
    // write still counts as pending, for which Node would make an error that nobody sees.
    socket.write(replyOf(reply), () => process.nextTick(() => socket.destroy()))
  }
  socket.on('error', (error) => {
    clearTimeout(late)
    log.debug('answer a shim: it went away', { error: error.message })
  })
  socket.on('data', (chunk: Buffer) => {
    length += chunk.length
    if (length <= frameLimit) chunks.push(chunk)
    else
      answer(
        errorAnswer(6, `the request is larger than ${frameLimit} bytes`, 'make the configuration smaller'),
      )
  })
  socket.on('end', () => {
    clearTimeout(late)
    // An empty one is somebody looking whether an agent is here.
    if (length === 0) socket.destroy()
    else if (!answered) void answerTo(Buffer.concat(chunks), handle, log).then(answer)
  })
}

/** Never rejects: whoever asks gets an answer, and what nobody foresaw is logged. */
async function answerTo(frame: Buffer, handle: Handle, log: Log): Promise<CniAnswer> {
  try {
    const parsed = parseRequest(frame)
    return parsed.ok ? await handle(parsed.request) : parsed.answer
  } catch (error) {
    log.error('answer a shim: unforeseen', { error: error instanceof Error ? error.stack : String(error) })
    return errorAnswer(11, 'the polynet agent failed in a way nobody foresaw', 'its log says where')
  }
}
