import { type IncomingMessage, request } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { asFault, Fault, type Kind } from '../src/lib/fault.ts'
import type { ApiAnswer, ApiRequest, CniQuestion, Place, Sent } from './place.ts'
import type { Bound } from './reach.ts'

/** Where a lab's sockets are, below its folder. */
export const sockets = (dir: string) => ({
  /** The API server, as agents and the controller see it. */
  api: join(dir, 'api.sock'),
  /** The API server, as people and stories see it: never away. */
  people: join(dir, 'people.sock'),
  control: join(dir, 'control.sock'),
})

/** What can be asked of a lab beyond what a place does. */
export interface Controlled extends Place {
  /** Path of the pod's network namespace, inside the lab. */
  netnsOf(pod: string): Promise<string>
}

type Call = { method: string; args: unknown[] }
type Answer = { value: unknown } | { kind: Kind; doing: string; problem: string }

/** Answers calls, one per connection: a line of JSON in, one out. */
export function serveControl(path: string, lab: Controlled): Server {
  const methods = new Map<string, (...args: never[]) => Promise<unknown>>([
    ['nodes', () => lab.nodes()],
    ['reach', (pods?: string[], bound?: Bound) => lab.reach(pods, bound)],
    ['send', (sent: Sent) => lab.send(sent)],
    ['exec', (pod: string, argv: string[]) => lab.exec(pod, argv)],
    ['kill', (node: string, what: 'agent' | 'node', at?: string) => lab.kill(node, what, at)],
    ['start', (node: string) => lab.start(node)],
    ['plug', (node: string, nic: string, plugged: boolean) => lab.plug(node, nic, plugged)],
    ['cni', (node: string, asked: CniQuestion) => lab.cni(node, asked)],
    ['outage', (on: boolean) => lab.outage(on)],
    ['leftovers', (node: string) => lab.leftovers(node)],
    ['ready', () => lab.ready()],
    ['netnsOf', (pod: string) => lab.netnsOf(pod)],
    ['close', () => lab.close()],
  ])
  const server = createServer({ allowHalfOpen: true }, async (socket) => {
    socket.on('error', () => {})
    let answer: Answer
    try {
      const { method, args } = JSON.parse(await sentBy(socket)) as Call
      const run = methods.get(method)
      if (!run) throw new Fault('unsupported', `call ${method}`, 'the lab has no such call')
      // What was left out comes as null.
      answer = { value: await run(...(args.map((arg) => arg ?? undefined) as never[])) }
    } catch (error) {
      const { kind, doing, problem } = asFault(error, 'run the lab')
      answer = { kind, doing, problem }
    }
    socket.end(JSON.stringify(answer))
  })
  return server.listen(path)
}

/** All that the other side sends; unlike reading by iteration, it leaves the socket open for the answer. */
const sentBy = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let sent = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      sent += chunk
    })
    socket.on('end', () => resolve(sent))
  })

/** A running lab, from another process. Every method rejects with `unavailable` when it is not there (any more). */
export function connectLab(dir: string): Controlled {
  const { control, people } = sockets(dir)
  const call = async <T>(method: string, ...args: unknown[]): Promise<T> => {
    const socket = connect({ path: control, allowHalfOpen: true })
    const failed = new Promise<never>((_, reject) => {
      socket.once('error', (error) =>
        reject(
          new Fault(
            'unavailable',
            `ask the lab in ${dir}`,
            `${error.message}; start one with npm run lab -- up`,
          ),
        ),
      )
    })
    socket.end(JSON.stringify({ method, args } satisfies Call))
    const reply = await Promise.race([text(socket), failed])
    if (reply === '') throw new Fault('unavailable', `ask the lab in ${dir}`, 'it ended meanwhile')
    const answer = JSON.parse(reply) as Answer
    if ('kind' in answer) throw new Fault(answer.kind, answer.doing, answer.problem)
    return answer.value as T
  }
  return {
    kind: 'lab',
    api: (asked) => apiAt({ socketPath: people }, asked),
    nodes: () => call('nodes'),
    reach: (pods, bound) => call('reach', pods, bound),
    send: (sent) => call('send', sent),
    exec: (pod, argv) => call('exec', pod, argv),
    kill: (node, what, at) => call('kill', node, what, at),
    start: (node) => call('start', node),
    plug: (node, nic, plugged) => call('plug', node, nic, plugged),
    cni: (node, asked) => call('cni', node, asked),
    outage: (on) => call('outage', on),
    leftovers: (node) => call('leftovers', node),
    ready: () => call('ready'),
    netnsOf: (pod) => call('netnsOf', pod),
    // It is gone before it can say that it goes.
    close: () => call<void>('close').catch(() => {}),
  }
}

/** One HTTP request to the server at a URL or behind a unix socket. */
export const apiAt = (
  where: { socketPath: string } | { url: string },
  asked: ApiRequest,
): Promise<ApiAnswer> =>
  new Promise((resolve, reject) => {
    const { method, path, body } = asked
    const headers = { ...asked.headers, 'content-length': Buffer.byteLength(body ?? '') }
    const take = async (answer: IncomingMessage) =>
      resolve({ status: answer.statusCode ?? 0, body: await text(answer) })
    const sent =
      'url' in where
        ? request(new URL(path, where.url), { method, headers }, take)
        : request({ ...where, method, path, headers }, take)
    sent.on('error', (error) => reject(new Fault('unavailable', `${method} ${path}`, error.message)))
    sent.end(body)
  })
