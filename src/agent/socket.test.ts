import assert from 'node:assert/strict'
import { mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { frameLimit, frameOf, parseReply } from '../cni/frame.ts'
import { Fault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { type Handle, serveShim } from './socket.ts'

let dir = ''
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'polynet-socket-'))
})
after(() => rm(dir, { recursive: true }))

const request = (
  command: string,
  containerID = 'c0ffee',
  config = '{"cniVersion":"1.0.0","name":"pods","type":"polynet-cni"}',
) =>
  frameOf(
    'polynet-cni',
    { CNI_COMMAND: command, CNI_CONTAINERID: containerID, CNI_NETNS: '/run/netns/web', CNI_IFNAME: 'eth0' },
    Buffer.from(config),
  )

const ask = (path: string, frame: Uint8Array): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect({ path, allowHalfOpen: true }, () => socket.end(frame))
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('end', () => resolve(Buffer.concat(chunks)))
    socket.on('error', (error) => (chunks.length > 0 ? resolve(Buffer.concat(chunks)) : reject(error)))
  })

const serve = async (t: TestContext, path: string, handle: Handle) => {
  const server = await serveShim(path, handle, silentLog)
  t.after(() => server.close())
  return server
}
const codeOf = (reply: Buffer) => JSON.parse(parseReply(reply)?.stdout || '{}').code
const done = async () => ({ exit: 0, stdout: '' })
const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

test('only root reaches the socket, and it is gone after close', async (t) => {
  const path = join(dir, 'run/agent.sock')
  const server = await serve(t, path, done)
  assert.deepEqual([await mode(join(dir, 'run')), await mode(path)], ['700', '600'])
  await server.close()
  assert.deepEqual(await readdir(join(dir, 'run')), [])
})

test('a socket that a dead agent left is replaced; a living agent and a file are not', async (t) => {
  const path = join(dir, 'agent.sock')
  // Binding and moving away leaves a socket that nobody listens on once its server is closed.
  const dead = createServer()
  await new Promise<void>((resolve) => dead.listen(join(dir, 'dead.sock'), resolve))
  await rename(join(dir, 'dead.sock'), path)
  await new Promise((resolve) => dead.close(resolve))
  const server = await serve(t, path, done)
  assert.equal((await ask(path, request('ADD'))).toString(), '0\n')
  await assert.rejects(
    serveShim(path, done, silentLog),
    new Fault(
      'exists',
      `listen on ${path}`,
      'another agent answers there; stop it, or give this one a path of its own',
    ),
  )
  assert.equal((await ask(path, request('ADD'))).toString(), '0\n')
  await server.close()
  await writeFile(path, 'precious')
  await assert.rejects(
    serveShim(path, done, silentLog),
    new Fault('exists', `listen on ${path}`, 'something that is no socket is there; move it away'),
  )
  await rm(path)
})

test('a path that no unix socket can have is refused', async () => {
  const path = join(dir, 'x'.repeat(100))
  await assert.rejects(serveShim(path, done, silentLog), /too long for a unix socket/)
})

test('close waits for those in flight and leaves the socket of a successor alone', async (t) => {
  const path = join(dir, 'agent.sock')
  let finish = () => {}
  const asked = Promise.withResolvers<void>()
  const server = await serve(t, path, async () => {
    asked.resolve()
    await new Promise<void>((resolve) => {
      finish = resolve
    })
    return { exit: 0, stdout: 'late' }
  })
  const reply = ask(path, request('ADD'))
  await asked.promise
  await rm(path)
  const successor = await serve(t, path, done)
  const closed = server.close().then(() => 'closed')
  assert.equal(await Promise.race([closed, new Promise((r) => setTimeout(r, 50, 'waiting'))]), 'waiting')
  finish()
  assert.equal((await reply).toString(), '0\nlate\n')
  assert.equal(await closed, 'closed')
  assert.equal((await ask(path, request('ADD'))).toString(), '0\n')
  await successor.close()
})

test('what is no request, is too large, or breaks the agent gets an error and disturbs nobody', async (t) => {
  const path = join(dir, 'agent.sock')
  const server = await serve(t, path, async ({ containerID }) => {
    if (containerID === 'boom') throw new TypeError('a bug')
    return { exit: 0, stdout: '' }
  })
  const table: [unknown, Uint8Array][] = [
    [6, Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    [6, Buffer.alloc(frameLimit + 1_000_000, 'x')],
    [6, request('ADD', 'c0ffee', '{')],
    [4, request('ERASE')],
    [11, request('ADD', 'boom')],
    [undefined, request('ADD')],
  ]
  const codes = []
  for (const [, frame] of table) codes.push(codeOf(await ask(path, frame)))
  await server.close()
  assert.deepEqual(
    codes,
    table.map(([code]) => code),
  )
})

test('a shim that goes away before its answer does no harm', async (t) => {
  const path = join(dir, 'agent.sock')
  const asked = Promise.withResolvers<void>()
  const gone = Promise.withResolvers<void>()
  const server = await serve(t, path, async () => {
    asked.resolve()
    await gone.promise
    return { exit: 0, stdout: 'x'.repeat(1_000_000) }
  })
  const socket = connect({ path, allowHalfOpen: true }, () => socket.end(request('ADD')))
  await asked.promise
  socket.destroy()
  gone.resolve()
  await server.close()
})
