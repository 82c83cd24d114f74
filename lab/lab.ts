import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { programArgs } from '../scripts/build.ts'
import { resources } from '../src/api/resources.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, removeNamespace } from '../src/datapath/linux/netns.ts'
import { type ServedKube, serve } from '../src/kube/memory/http.ts'
import { serveKube } from '../src/kube/memory/server.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import type { Logs } from '../src/kube/memory/verbs.ts'
import { realClock } from '../src/lib/clock.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Log } from '../src/lib/log.ts'
import { apiAt, type Controlled, sockets } from './control.ts'
import { behind, doorOf } from './door.ts'
import { found } from './founding.ts'
import { allReady, type Kubelet, sayLost, startKubelet } from './kubelet.ts'
import { Machine } from './machine.ts'
import { outputOf } from './output.ts'
import { probeAll } from './packets.ts'
import type { ApiAnswer, ApiRequest, CniQuestion, Sent } from './place.ts'
import { Processes } from './processes.ts'
import { type Bound, endpointNamed, endpointsOf, type Probe } from './reach.ts'
import { startScheduler } from './schedule.ts'
import { sendOne } from './send.ts'
import { addressOf, routerAddress, type Wiring, wiresOf, wiringPlan } from './wires.ts'

export interface LabOptions {
  /** An empty folder, the lab's own. */
  dir: string
  wiring: Wiring
  /** A descriptor that people's API server listens on, beside its unix socket. */
  listener?: number
  log: Log
}

/** One machine with what runs on it beside the agent. */
interface Host {
  machine: Machine
  runtime: Processes
  kubelet?: Kubelet
}

/**
 * A whole cluster on this kernel. Must run inside the lab's own namespaces
 * (`enter`): it makes network namespaces and mounts, and takes none away
 * that its end does not take away by itself.
 */
export class Lab implements Controlled {
  readonly kind = 'lab'
  readonly #options: LabOptions
  readonly #kube = new MemoryKube()
  readonly #paths: Record<string, string>
  readonly #hosts = new Map<string, Host>()
  #agentsApi: ServedKube | undefined
  #controller: ChildProcess | undefined
  #scheduler: { close(): void } | undefined
  #reaching: Promise<Probe[]> = Promise.resolve([])
  #end: () => void = () => {}
  /** Resolves when somebody asked it to close. */
  readonly ended = new Promise<void>((resolve) => {
    this.#end = resolve
  })

  constructor(options: LabOptions) {
    this.#options = options
    const names = wiringPlan(options.wiring).map((plan) => plan.netns)
    this.#paths = Object.fromEntries(names.map((name) => [name, join(options.dir, 'netns', name)]))
  }

  /** Plugs everything together and switches it on; nodes become Ready a moment later. */
  async begin(): Promise<void> {
    const { dir, wiring, log, listener } = this.#options
    shareMounts(dir)
    await found(this.#kube)
    const extras = { logs: this.#logs() }
    await serve(this.#kube, { ...extras, socketPath: sockets(dir).people })
    if (listener !== undefined) behind(doorOf(dir), serveKube(this.#kube, extras)).listen({ fd: listener })
    this.#agentsApi = await serve(this.#kube, { socketPath: sockets(dir).api })
    this.#controller = this.#startController()
    this.#scheduler = startScheduler({ kube: this.#kube, clock: realClock, log })
    for (const path of Object.values(this.#paths)) createNamespace(path)
    await this.#plugIn()
    const wires = wiresOf(wiring)
    for (const [i, name] of wiring.nodes.entries()) {
      const root = join(dir, 'nodes', name)
      mkdirSync(root, { recursive: true })
      const api = `unix:${sockets(dir).api}`
      const machine = new Machine({ name, root, netns: this.#paths[name]!, api, log })
      this.#hosts.set(name, { machine, runtime: new Processes(machine, [addressOf(wires[0]!, i)]) })
    }
    await Promise.all(wiring.nodes.map((name) => this.#switchOn(name)))
  }

  ready(): Promise<void> {
    const { nodes } = this.#options.wiring
    return allReady(this.#kube, realClock, () =>
      nodes.filter((name) => this.#hosts.get(name)?.machine.on === true),
    )
  }

  api(request: ApiRequest): Promise<ApiAnswer> {
    return apiAt({ socketPath: sockets(this.#options.dir).people }, request)
  }

  async nodes(): Promise<string[]> {
    return this.#options.wiring.nodes
  }

  /** One round after another: all use the same port. */
  reach(only?: string[], bound?: Bound): Promise<Probe[]> {
    this.#reaching = this.#reaching.catch(() => []).then(() => this.#reach(only, bound))
    return this.#reaching
  }

  async #reach(only?: string[], bound?: Bound): Promise<Probe[]> {
    const { items } = await this.#kube.list(resources.pods)
    const placed = items.flatMap((pod) => {
      const name = `${pod.metadata.namespace}/${pod.metadata.name}`
      const sandbox = this.#sandboxOf(name)
      const asked = only === undefined || only.includes(name)
      if (!asked || !sandbox?.netns || pod.status?.phase !== 'Running') return []
      return endpointsOf(pod).map((endpoint) => ({ endpoint, netns: sandbox.netns }))
    })
    const switches = wiresOf(this.#options.wiring).map((wire) => ({
      nic: wire.nic,
      netns: this.#paths[wire.switch]!,
    }))
    return probeAll(placed, switches, bound)
  }

  async send(sent: Sent): Promise<string[]> {
    const { items } = await this.#kube.list(resources.pods)
    const endpoints = items.flatMap(endpointsOf)
    const from = endpointNamed(endpoints, sent)
    const pods = items.flatMap((pod) => {
      const name = `${pod.metadata.namespace}/${pod.metadata.name}`
      const netns = this.#sandboxOf(name)?.netns
      return netns && name !== sent.pod ? [{ name, netns }] : []
    })
    const on = this.#options.wiring.nodes.filter((name) => this.#hosts.get(name)?.machine.on)
    const nodes = on.map((name) => ({ name: `node ${name}`, netns: this.#paths[name]! }))
    const outside = { name: 'outside', netns: this.#paths['switch-eth0']! }
    return sendOne(from, await this.netnsOf(sent.pod), sent, [...pods, ...nodes, outside])
  }

  async netnsOf(pod: string): Promise<string> {
    const netns = this.#sandboxOf(pod)?.netns
    if (!netns)
      throw new Fault('missing', `find pod ${pod}`, 'it has no network namespace; see kubectl get pods -A')
    return netns
  }

  async exec(pod: string, argv: string[]): Promise<{ exit: number; output: string }> {
    return outputOf(['nsenter', `--net=${await this.netnsOf(pod)}`, '--', ...argv])
  }

  async kill(node: string, what: 'agent' | 'node', at?: string): Promise<void> {
    const host = this.#host(node)
    if (what === 'agent') {
      host.machine.killAgent()
      if (at !== undefined) host.machine.startAgent(at)
      return
    }
    host.kubelet?.close()
    host.kubelet = undefined
    host.machine.killAgent()
    host.runtime.crash()
    host.machine.powerOff()
    removeNamespace(this.#paths[node]!)
    await sayLost(this.#kube, node, realClock)
  }

  async start(node: string): Promise<void> {
    const { machine } = this.#host(node)
    if (machine.on) return machine.startAgent()
    createNamespace(this.#paths[node]!)
    await this.#plugIn()
    await this.#switchOn(node)
  }

  /** A cable's end in the machine goes with the machine's NIC. */
  async plug(node: string, nic: string, plugged: boolean): Promise<void> {
    const host = this.#host(node)
    if (plugged) return this.#plugIn()
    const [program = '', ...prefix] = host.machine.prefix
    const { exit, output } = await outputOf([program, ...prefix, 'ip', 'link', 'delete', nic])
    if (exit !== 0) throw new Fault('kernel', `unplug ${nic} of ${node}`, output)
  }

  cni(node: string, asked: CniQuestion): Promise<{ exit: number; output: string }> {
    return this.#host(node).runtime.ask(asked)
  }

  async outage(on: boolean): Promise<void> {
    await this.#agentsApi?.outage(on)
  }

  async leftovers(node: string): Promise<string[]> {
    const { machine } = this.#host(node)
    const [program = '', ...prefix] = machine.prefix
    const script = join(import.meta.dirname, 'leftovers.ts')
    const { output } = await outputOf([program, ...prefix, process.execPath, script, machine.root])
    return output.split('\n').filter((line) => line !== '')
  }

  /** What is not ended here ends with the lab's first process. */
  async close(): Promise<void> {
    this.#scheduler?.close()
    for (const { kubelet, machine } of this.#hosts.values()) {
      kubelet?.close()
      machine.killAgent()
    }
    this.#controller?.kill('SIGKILL')
    this.#end()
  }

  /** All cables that are not in; and the machines' own default routes, which are none of Polynet's. */
  async #plugIn(): Promise<void> {
    const { wiring } = this.#options
    applyNamespaces(wiringPlan(wiring), this.#paths)
    for (const node of wiring.nodes) {
      const route = ['ip', 'route', 'replace', 'default', 'via', routerAddress]
      const { exit, output } = await outputOf(['nsenter', `--net=${this.#paths[node]}`, '--', ...route])
      // A machine without eth0 has none.
      if (exit !== 0) this.#options.log.debug('no way to the outside', { node, why: output })
    }
  }

  async #switchOn(name: string): Promise<void> {
    const { wiring, log } = this.#options
    const host = this.#host(name)
    await host.machine.powerOn()
    const address = addressOf(wiresOf(wiring)[0]!, wiring.nodes.indexOf(name))
    const deps = { kube: this.#kube, clock: realClock, log }
    host.kubelet = startKubelet({ ...deps, node: name, addresses: [address], runtime: host.runtime })
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name)
    if (!host)
      throw new Fault('missing', `find node ${name}`, `the lab has ${[...this.#hosts.keys()].join(', ')}`)
    return host
  }

  #sandboxOf(pod: string) {
    for (const { runtime } of this.#hosts.values()) {
      const sandbox = runtime.sandboxOf(pod)
      if (sandbox) return sandbox
    }
    return undefined
  }

  #startController(): ChildProcess {
    const { dir } = this.#options
    const out = openSync(join(dir, 'controller.log'), 'a')
    const child = spawn(
      process.execPath,
      [...programArgs('controller'), '--api', `unix:${sockets(dir).api}`],
      {
        stdio: ['ignore', out, out],
      },
    )
    closeSync(out)
    return child
  }

  #logs(): Logs {
    return (pod, container, options) => {
      const path = this.#hosts.get(pod.node)?.runtime.logOf(pod, container) ?? ''
      return options.follow ? followed(path, options.signal) : logText(path, options.tailLines)
    }
  }
}

async function logText(path: string, tailLines?: number): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '')
  if (tailLines === undefined) return text
  const lines = text.split('\n')
  return lines.slice(Math.max(0, lines.length - 1 - tailLines)).join('\n')
}

/** What is in the log and what comes, until `signal` aborts. */
async function* followed(path: string, signal: AbortSignal): AsyncIterable<string> {
  for (let seen = 0; !signal.aborted; await realClock.sleep(200, signal)) {
    const text = await logText(path)
    if (text.length > seen) yield text.slice(seen)
    seen = text.length
  }
}

/** What is mounted below `dir` is seen by every machine of the lab, and what they mount there is seen here. */
function shareMounts(dir: string): void {
  execFileSync('mount', ['--bind', dir, dir])
  execFileSync('mount', ['--make-shared', dir])
}
