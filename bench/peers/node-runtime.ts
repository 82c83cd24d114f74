import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { resources } from '../../src/api/resources.ts'
import { giveBackLeaked } from './leaks.ts'
import type { Place } from './place.ts'
import { podOf, type Way } from './ways.ts'

/** A pod that its kubelet holds back: whoever likes may be its runtime. */
export interface Held {
  name: string
  namespace: string
  uid: string
  /** What containerd would call its sandbox, where that is not the pod's name. */
  sandbox?: string
  /** How many networks it is to be on. */
  networks: number
}

export interface Question {
  /**
   * Makes or removes the pods' network namespaces, attaches and detaches them,
   * looks what addresses they have, or measures what daemons do at rest.
   */
  command: 'make' | 'remove' | 'ADD' | 'DEL' | 'look' | 'rest'
  pods: Held[]
  atOnce: number
  /** Answers at once, without what daemons do afterwards. */
  hasty?: boolean
  /** What is executed instead of the node's first conf, and what it makes. */
  by?: Plugin
}

export interface Plugin {
  conf: { name: string; cniVersion: string; type: string }
  interface: string
}

export interface Answer {
  /** Of each that succeeded, from the first plugin's start to the last one's result. */
  times: number[]
  /** Why the others failed. */
  failed: string[]
  ms: number
  /** Of all processes that had part in it: what was executed, and the daemons; with what they did within 1.5 s after it, less what they do at rest. */
  cpu: number
  /** By pod and interface, of those that were attached or looked at: the first IPv4 address. */
  addresses: Record<string, Record<string, string>>
  /** When the last result was there, in microseconds of the machine's monotonic clock. */
  atUs: number
}

const daemons = {
  bridge: [],
  polynet: ['/usr/bin/polynet-agent'],
  multus: ['/usr/src/multus-cni/bin/multus-daemon', '/ip-control-loop'],
}

/** The runtime of `runtime.ts` on the way's node. It ends with this process. */
export class NodeRuntime {
  readonly #way: Way
  readonly #place: Place
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(place: Place, way: Way, child: ChildProcess) {
    this.#place = place
    this.#way = way
    this.#child = child
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  static async start(place: Place, way: Way): Promise<NodeRuntime> {
    const prefix = await place.cluster.prefixOf(way.node)
    const into = [`--target=${place.init}`, '--mount', '--net', '--pid', '--', ...prefix]
    const script = join(import.meta.dirname, 'runtime.ts')
    const args = [JSON.stringify(daemons[way.side]), ...(place.hurried ? ['hurried'] : [])]
    const child = spawn('nsenter', [...into, process.execPath, script, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const runtime = new NodeRuntime(place, way, child)
    await runtime.#line()
    return runtime
  }

  /** Pods that the node's daemons know of after a moment, each with a namespace. `of`: how the names of their networks begin. */
  async pods(prefix: string, count: number, networks: number, of = this.#way.prefix): Promise<Held[]> {
    const pods: Held[] = []
    // As many as a cluster takes at once without a word, however busy the machine is.
    while (pods.length < count) {
      const some = Array.from({ length: Math.min(10, count - pods.length) }, async (_, i): Promise<Held> => {
        const pod = podOf({ ...this.#way, prefix: of }, `${prefix}-${pods.length + i}`, networks, true)
        const { metadata } = await this.#place.kube.create(resources.pods, pod)
        return { name: metadata.name, namespace: this.#way.namespace, uid: metadata.uid ?? '', networks }
      })
      pods.push(...(await Promise.all(some)))
    }
    await this.#ask({ command: 'make', pods, atOnce: 1 })
    return pods
  }

  cni(command: 'ADD' | 'DEL', pods: Held[], atOnce = 1): Promise<Answer> {
    return this.#ask({ command, pods, atOnce })
  }

  /** One pod, and its result as soon as it is there; rejects when it failed. `by`: one more interface, of another plugin. */
  async add(pod: Held, by?: Plugin): Promise<Answer> {
    const answer = await this.#ask({ command: 'ADD', pods: [pod], atOnce: 1, hasty: true, by })
    if (answer.failed[0]) throw new Error(answer.failed[0])
    return answer
  }

  /** The same in a sandbox of its own, of which nothing stays: as kubelet tries a pod again and again. */
  async tryOnce(pod: Held, sandbox: string): Promise<Answer> {
    const pods = [{ ...pod, sandbox }]
    await this.#ask({ command: 'make', pods, atOnce: 1 })
    try {
      return await this.add(pods[0]!)
    } finally {
      await this.#ask({ command: 'DEL', pods, atOnce: 1, hasty: true })
      await this.#ask({ command: 'remove', pods, atOnce: 1 })
    }
  }

  /** Which addresses they have. */
  async look(pods: Held[]): Promise<Answer['addresses']> {
    return (await this.#ask({ command: 'look', pods, atOnce: 1 })).addresses
  }

  async remove(pods: Held[]): Promise<void> {
    await this.#ask({ command: 'remove', pods, atOnce: 1 })
    for (const { namespace, name } of pods)
      await this.#place.kube.delete(resources.pods, { namespace, name }, { gracePeriodSeconds: 0 })
    if (this.#way.side === 'multus') await giveBackLeaked(this.#place)
  }

  /** Has what daemons do at rest measured again: just after their start it is more. */
  async rest(): Promise<void> {
    await this.#ask({ command: 'rest', pods: [], atOnce: 1 })
  }

  close(): void {
    this.#child.stdin!.end()
  }

  async #ask(question: Question): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(question)}\n`)
    const answer = JSON.parse(await this.#line())
    if (answer.error) throw new Error(`${question.command} on ${this.#way.node}: ${answer.error}`)
    return answer
  }

  async #line(): Promise<string> {
    const { done, value } = await this.#lines.next()
    if (done) throw new Error(`the runtime on ${this.#way.node} ended`)
    return value
  }
}
