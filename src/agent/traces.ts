import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { CniRequest } from '../cni/request.ts'
import type { Clock } from '../lib/clock.ts'
import { listenForRoot } from './socket.ts'

/** What became of one ADD or DEL, step by step. */
export interface Traced {
  command: 'ADD' | 'DEL'
  namespace: string
  pod: string
  container: string
  /** When the runtime asked, as in RFC 3339. */
  asked: string
  /** What had been done so many milliseconds after it. */
  steps: { ms: number; did: string }[]
  /** When it was answered; absent: it is under way. */
  ms?: number
  /** Why it failed, where it did. */
  problem?: string
}

/** How many are kept, and how large all together may be: what pods and plugins are called is up to tenants. */
const most = 256
const mostBytes = 256 << 10
/** Of one; a pod on more networks of other plugins is cut short. */
const mostSteps = 48
const mostText = 253

/** One as it was said; few are ever looked at. */
interface Trace extends Omit<Traced, 'asked'> {
  /** Milliseconds since the epoch. */
  asked: number
}

/** The last ADD and the last DEL of each pod, as long as there is room for them. */
export class Traces {
  readonly #clock: Clock
  readonly #kept = new Map<string, Trace>()
  readonly #begun = new WeakMap<CniRequest, { trace: Trace; at: number }>()
  /** Whose turn it is, by container. */
  readonly #open = new Map<string, { trace: Trace; at: number }>()
  #bytes = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** To be called when a request has come. */
  begin(request: CniRequest): void {
    const { command, program, args, containerID } = request
    if ((command !== 'ADD' && command !== 'DEL') || program === 'polynet-ipam') return
    const trace: Trace = {
      command,
      namespace: cut(args.K8S_POD_NAMESPACE ?? ''),
      pod: cut(args.K8S_POD_NAME ?? ''),
      container: cut(containerID),
      asked: this.#clock.now(),
      steps: [],
    }
    this.#begun.set(request, { trace, at: performance.now() })
  }

  /** To be called when it is its turn: what was asked for the container before has ended. */
  turn(request: CniRequest): void {
    const open = this.#begun.get(request)
    if (!open) return
    this.#open.set(request.containerID, open)
    if (performance.now() - open.at >= 1) this.did(request.containerID, 'its turn came')
  }

  /** To be called when something has been done for the container that people have a name for. */
  did(containerID: string, what: string): void {
    const open = this.#open.get(containerID)
    if (!open || open.trace.steps.length === mostSteps) return
    open.trace.steps.push({ ms: performance.now() - open.at, did: cut(what) })
  }

  /** To be called with the answer, or why there is none. */
  end(request: CniRequest, problem?: string): void {
    const open = this.#begun.get(request)
    if (!open) return
    if (this.#open.get(request.containerID) === open) this.#open.delete(request.containerID)
    open.trace.ms = performance.now() - open.at
    if (problem !== undefined) open.trace.problem = cut(problem)
    this.#keep(open.trace)
  }

  /** Oldest first; those under way last. */
  list(): Traced[] {
    return [...this.#kept.values(), ...Array.from(this.#open.values(), ({ trace }) => trace)].map(shown)
  }

  #keep(trace: Trace): void {
    const key = `${trace.command} ${trace.namespace}/${trace.pod}`
    this.#forget(key)
    this.#kept.set(key, trace)
    this.#bytes += sizeOf(trace)
    while (this.#kept.size > most || this.#bytes > mostBytes)
      this.#forget(this.#kept.keys().next().value as string)
  }

  #forget(key: string): void {
    const before = this.#kept.get(key)
    if (!before) return
    this.#kept.delete(key)
    this.#bytes -= sizeOf(before)
  }
}

const cut = (text: string): string => (text.length > mostText ? text.slice(0, mostText) : text)

/** As far as a terminal shows it. */
const printable = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?')

const shown = ({ asked, ...trace }: Trace): Traced => ({
  ...trace,
  namespace: printable(trace.namespace),
  pod: printable(trace.pod),
  container: printable(trace.container),
  asked: new Date(asked).toISOString(),
  steps: trace.steps.map(({ ms, did }) => ({ ms, did: printable(did) })),
  ...(trace.problem === undefined ? {} : { problem: printable(trace.problem) }),
})

/** About what it takes in memory. */
const sizeOf = ({ namespace, pod, container, problem = '', steps }: Trace): number =>
  200 +
  namespace.length +
  pod.length +
  container.length +
  problem.length +
  steps.reduce((sum, { did }) => sum + 60 + did.length, 0)

/** Tells whoever connects to the socket, root alone, all of them as JSON. Nothing is read from there. */
export async function serveTraces(path: string, traces: Traces): Promise<{ close(): Promise<void> }> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.setTimeout(5000, () => socket.destroy())
    socket.end(JSON.stringify(traces.list()))
  })
  await listenForRoot(server, path)
  return {
    async close() {
      await rm(path, { force: true })
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
