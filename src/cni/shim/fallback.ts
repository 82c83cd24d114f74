import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { connect, type Socket } from 'node:net'
import { basename } from 'node:path'
import { errorAnswer, frameLimits, frameOf, parseReply, specVersions } from '../frame.ts'

/**
 * What `polynet-cni.c` does, on Node, for a machine without a C compiler:
 * a hundred times slower (110 ms), the same in every other respect.
 * Arguments: the path by which the runtime executed it.
 */
const setting = (name: string, otherwise: string): string => process.env[name] || otherwise

const deadline = Date.now() + Number(setting('POLYNET_TIMEOUT_MS', '110000'))
const command = setting('CNI_COMMAND', '')
let version = '1.0.0'

function end(exit: number, stdout: string): never {
  let rest = Buffer.from(stdout)
  while (rest.length > 0) rest = rest.subarray(writeSync(1, rest))
  process.exit(exit)
}

function fail(code: number, msg: string, details: string): never {
  const { exit, stdout } = errorAnswer(code, msg, details, version)
  end(exit, stdout)
}

async function stdin(): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of process.stdin) {
    chunks.push(chunk)
    length += chunk.length
    if (length > frameLimits.config)
      fail(7, 'the network configuration on stdin is larger than 1 MiB', 'make it smaller')
  }
  return Buffer.concat(chunks)
}

function findVersion(config: Buffer): void {
  try {
    const found = JSON.parse(config.toString()).cniVersion
    if (typeof found === 'string' && /^[0-9.]{1,15}$/.test(found)) version = found
  } catch {} // the agent says what is wrong with it, or nobody needs to know
}

/** How long an agent may be away before the shim helps itself. Who asks for an address is the agent's own child. */
function patienceMs(program: string): number {
  const given = setting('POLYNET_WAIT_MS', '')
  if (given !== '') return Number(given)
  if (command === 'GC' || program === 'polynet-ipam') return 0
  return command === 'DEL' ? 1000 : 5000
}

/** Connects to the agent, which may be away until `late`. */
async function reach(path: string, late: number): Promise<Socket> {
  for (;;) {
    const socket = connect({ path, allowHalfOpen: true })
    const why = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined))
      socket.once('error', resolve)
    })
    if (!why) return socket
    const away = why.code === 'ENOENT' || why.code === 'ECONNREFUSED'
    if (!away || Date.now() >= late || Date.now() >= deadline) throw why
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function ask(path: string, frame: Uint8Array, late: number): Promise<Buffer> {
  const socket = await reach(path, late)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    socket.end(frame)
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('end', () => resolve(Buffer.concat(chunks)))
    // An agent that refuses a frame may answer and close before it has read all of it.
    socket.on('error', (error) => (chunks.length > 0 ? resolve(Buffer.concat(chunks)) : reject(error)))
    setTimeout(() => reject(new Error('Connection timed out')), deadline - Date.now()).unref()
  })
}

function spool(dir: string, frame: Uint8Array): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (readdirSync(dir).length > 10_000) throw new Error('Disk quota exceeded')
  const nanoseconds = BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n)
  const name = `${nanoseconds.toString().padStart(21, '0')}-${process.pid}`
  const file = openSync(`${dir}/.${name}`, 'wx', 0o600)
  let rest = frame
  while (rest.length > 0) rest = rest.subarray(writeSync(file, rest))
  fsyncSync(file)
  closeSync(file)
  renameSync(`${dir}/.${name}`, `${dir}/${name}`)
  const folder = openSync(dir, 'r')
  fsyncSync(folder)
  closeSync(folder)
}

if (command === '')
  fail(
    4,
    'CNI_COMMAND is not set',
    'the container runtime executes this program; see the CNI specification, section 2',
  )
const config = await stdin()
findVersion(config)
if (command === 'VERSION')
  end(0, `${JSON.stringify({ cniVersion: version, supportedVersions: specVersions })}\n`)
const program = basename(process.argv[2] ?? '')
const frame = frameOf(program, process.env, config)
const path = setting('POLYNET_SOCKET', '/run/polynet/agent.sock')
const removed = existsSync(setting('POLYNET_REMOVED', '/var/lib/polynet/removed'))
let why = 'Protocol error'
try {
  const answer = parseReply(await ask(path, frame, removed ? 0 : Date.now() + patienceMs(program)))
  if (answer) end(answer.exit, answer.stdout)
} catch (error) {
  why = (error as Error).message
}
why = `${path}: ${why}; look at the polynet agent on this node`
if (command === 'GC') end(0, '')
if (command !== 'DEL') {
  const code = command === 'STATUS' ? 50 : 11
  if (removed)
    fail(
      code,
      'polynet was removed from this node',
      "install it again, or replace its conf in the CNI directory by another plugin's",
    )
  fail(code, 'the polynet agent on this node does not answer', why)
}
const dir = setting('POLYNET_SPOOL', '/var/lib/polynet/spool')
try {
  spool(dir, frame)
} catch (error) {
  const remedy = 'make room there, or start the polynet agent on this node'
  fail(
    11,
    'the polynet agent does not answer and the DEL cannot be kept for it',
    `${dir}: ${(error as Error).message}; ${remedy}`,
  )
}
end(0, '')
