import { createHash, randomBytes } from 'node:crypto'
import { addressesIn, answered } from '../lab/answer.ts'
import type { CniQuestion } from '../lab/place.ts'
import { argsOf, type Process, type Runtime, type Sandbox } from '../lab/runtime.ts'
import type { Agent } from '../src/agent/agent.ts'
import { type MemoryDisk, memoryDisk, memoryJournal } from '../src/agent/journal/memory.ts'
import { startAgent } from '../src/agent/start.ts'
import type { Container, Pod } from '../src/api/core.ts'
import { noPlugins } from '../src/cni/no-plugins.ts'
import type { CniRequest } from '../src/cni/request.ts'
import type { CniResult } from '../src/cni/result.ts'
import { memoryDatapath } from '../src/datapath/memory/datapath.ts'
import type { MemoryFabric } from '../src/datapath/memory/fabric.ts'
import type { Kube } from '../src/kube/port.ts'
import type { Clock } from '../src/lib/clock.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Log } from '../src/lib/log.ts'
import { type Cord, clockThrough, cord, kubeThrough, type Outage, through } from './severed.ts'

export interface MachineDeps {
  node: string
  addresses: string[]
  fabric: MemoryFabric
  kube: Kube
  outage: Outage
  clock: Clock
  log: Log
}

/**
 * One machine of the simulation: its agent, and a container runtime whose
 * sandboxes are namespaces of the fabric and whose containers do nothing
 * until they are killed.
 */
export class Machine implements Runtime {
  readonly #deps: MachineDeps
  readonly #disk: MemoryDisk = memoryDisk()
  readonly #sandboxes = new Map<string, Sandbox & { processes: Set<Process> }>()
  /** DELs that nobody answered: the shim's spool. */
  #spool: CniRequest[] = []
  #running: { agent: Agent; line: Cord; crash(): void } | undefined
  #boots = 1
  /** Aborts the coming back of an agent that killed itself. */
  #back: AbortController | undefined

  constructor(deps: MachineDeps) {
    this.#deps = deps
  }

  /** What its disk holds, as the agent's journal put it there. */
  get journal(): ReadonlyMap<string, unknown> {
    return this.#disk.entries
  }

  sandboxes(): Sandbox[] {
    return [...this.#sandboxes.values()]
  }

  /** With `dieAt`, it dies when it comes to that step, and comes back by itself. */
  startAgent(dieAt?: string): void {
    if (this.#running) return
    const { node, fabric, kube, outage, clock, log } = this.#deps
    const line = cord()
    const journal = memoryJournal(this.#disk, { bootId: `boot-${this.#boots}` })
    const agent = startAgent({
      node,
      kube: kubeThrough(kube, line, outage),
      datapath: through(memoryDatapath(fabric, node), line),
      journal: through(journal, line),
      plugins: noPlugins,
      clock: clockThrough(clock, line),
      log: through(log, line),
      at: (step) => {
        if (step !== dieAt) return
        this.killAgent()
        const back = new AbortController()
        this.#back = back
        void clock.sleep(100, back.signal).then(() => back.signal.aborted || this.startAgent())
      },
    })
    this.#running = { agent, line, crash: () => journal.crash() }
    void this.#workOff(line)
  }

  killAgent(): void {
    this.#back?.abort()
    this.#running?.line.cut()
    this.#running?.crash()
    this.#running = undefined
  }

  /** The next start is another boot; nothing that ran is there any more. */
  powerOff(): void {
    this.killAgent()
    this.#boots++
    this.#spool = []
    for (const sandbox of this.#sandboxes.values()) this.#drop(sandbox.id)
  }

  async run(pod: Pod): Promise<Sandbox> {
    const { namespace = '', name, uid = '' } = pod.metadata
    const id = randomBytes(32).toString('hex')
    const netns = pod.spec.hostNetwork ? '' : `/run/netns/${this.#deps.node}-${id.slice(0, 16)}`
    const sandbox = {
      id,
      netns,
      pod: { namespace, name, uid },
      ips: this.#deps.addresses,
      processes: new Set<Process>(),
    }
    this.#sandboxes.set(id, sandbox)
    if (netns === '') return sandbox
    this.#deps.fabric.addPodNamespace(netns)
    try {
      sandbox.ips = addressesIn(JSON.parse(await this.#ask('ADD', sandbox)) as CniResult)
      return sandbox
    } catch (error) {
      await this.remove(sandbox).catch(() => this.#drop(id))
      throw error
    }
  }

  start(sandbox: Sandbox, _pod: Pod, _container: Container): Process {
    const { promise, resolve } = Promise.withResolvers<number>()
    const process: Process = { ended: promise, kill: (signal) => resolve(signal === 'SIGKILL' ? 137 : 143) }
    this.#sandboxes.get(sandbox.id)?.processes.add(process)
    return process
  }

  async remove(sandbox: Sandbox): Promise<void> {
    const held = this.#sandboxes.get(sandbox.id)
    if (!held) return
    for (const process of held.processes) process.kill('SIGKILL')
    if (held.netns) await this.#ask('DEL', held)
    this.#drop(held.id)
  }

  /** A call that no kubelet asked for. */
  async ask({ command, pods, sandbox }: CniQuestion): Promise<{ exit: number; output: string }> {
    const own = (name: string) =>
      this.sandboxes().find((each) => `${each.pod.namespace}/${each.pod.name}` === name)
    const [name = ''] = pods
    const valid = pods.map((pod) => ({ containerID: own(pod)?.id ?? pod, ifname: 'eth0' }))
    if (command === 'GC') return this.#answered('GC', undefined, { 'cni.dev/valid-attachments': valid })
    const running = own(name)
    if (sandbox === undefined) {
      if (!running) throw new Fault('missing', `find pod ${name}`, 'it has no sandbox on this machine')
      return this.#answered(command, running)
    }
    const [namespace = '', pod = ''] = name.split('/')
    const id = createHash('sha256').update(sandbox).digest('hex')
    const netns = `/run/netns/${this.#deps.node}-${sandbox}`
    if (command === 'ADD') this.#deps.fabric.addPodNamespace(netns)
    const other = { id, netns, pod: running?.pod ?? { namespace, name: pod, uid: '' }, ips: [] }
    const answer = await this.#answered(command, other)
    if (command === 'DEL') this.#deps.fabric.removePodNamespace(netns)
    return answer
  }

  async exec(): Promise<number> {
    return 0
  }

  async connects(): Promise<boolean> {
    return true
  }

  async status(): Promise<void> {
    await this.#ask('STATUS')
  }

  async collect(): Promise<void> {
    const valid = [...this.#sandboxes.keys()].map((containerID) => ({ containerID, ifname: 'eth0' }))
    await this.#ask('GC', undefined, { 'cni.dev/valid-attachments': valid })
  }

  #drop(id: string): void {
    const held = this.#sandboxes.get(id)
    if (held?.netns) this.#deps.fabric.removePodNamespace(held.netns)
    this.#sandboxes.delete(id)
  }

  /** As the shim does: the agent's answer, or what there is to say while it is away. */
  async #ask(command: CniRequest['command'], sandbox?: Sandbox, more: object = {}): Promise<string> {
    const request = requestFor(command, sandbox, more)
    const running = this.#running
    const answer = running && (await Promise.race([running.agent.handle(request), cutOff(running.line)]))
    const doing = `plugin type="polynet-cni" name="polynet" failed (${command.toLowerCase()})`
    if (answer?.exit === 0) return answer.stdout
    if (answer) {
      const { msg, details } = JSON.parse(answer.stdout)
      throw new Fault('plugin', doing, [msg, details].filter(Boolean).join('; '))
    }
    if (command === 'DEL') this.#spool.push(request)
    if (command === 'DEL' || command === 'GC') return ''
    throw new Fault('plugin', doing, 'the polynet agent does not answer; it is tried again')
  }

  /** The same, for people. */
  #answered(command: CniRequest['command'], sandbox?: Sandbox, more?: object) {
    return answered(this.#ask(command, sandbox, more).then((text) => JSON.parse(text || 'null')))
  }

  async #workOff(line: Cord): Promise<void> {
    while (!line.isCut) {
      const running = this.#running
      const first = this.#spool[0]
      if (running?.line === line && first && !running.agent.unready()) {
        const answer = await Promise.race([running.agent.handle(first), cutOff(line)])
        if (answer?.exit === 0) this.#spool.shift()
      } else await this.#deps.clock.sleep(50)
    }
  }
}

const cutOff = (line: Cord): Promise<undefined> =>
  new Promise((resolve) => {
    if (line.isCut) resolve(undefined)
    else line.signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })

const requestFor = (
  command: CniRequest['command'],
  sandbox: Sandbox | undefined,
  more: object,
): CniRequest => ({
  program: 'polynet-cni',
  command,
  containerID: sandbox?.id ?? '',
  netns: sandbox?.netns ?? '',
  ifName: sandbox ? 'eth0' : '',
  args: sandbox ? argsOf(sandbox) : {},
  path: ['/opt/cni/bin'],
  config: { cniVersion: '1.1.0', name: 'polynet', type: 'polynet-cni', ...more },
})
