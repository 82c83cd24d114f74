import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { wiringPlan } from '../lab/wires.ts'
import { programArgs } from '../scripts/build.ts'
import type { Node, Pod } from '../src/api/core.ts'
import type { Network } from '../src/api/network.ts'
import { resources } from '../src/api/resources.ts'
import { buildShim } from '../src/cni/shim/build.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, ownNetns, removeNamespace } from '../src/datapath/linux/netns.ts'
import { connect } from '../src/kube/cluster/connect.ts'
import type { Kube } from '../src/kube/port.ts'
import { realClock } from '../src/lib/clock.ts'
import { type Ended, spawn as execute } from '../src/lib/spawn.ts'
import { emptyNamespace } from '../src/plan/node-plan.ts'

const node = 'n1'
const address = '192.168.1.11'

/** The default network, and three that pods ask for. IPv4 alone, as the plugin it is compared with. */
const networks: [namespace: string, name: string, cidr: string][] = [
  ['polynet-system', 'default', '10.244.0.0/16'],
  ['bench', 'blue', '10.1.0.0/16'],
  ['bench', 'red', '10.2.0.0/16'],
  ['bench', 'green', '10.3.0.0/16'],
]

export interface BenchPod {
  name: string
  uid: string
  /** Of its network namespace, which is there. */
  netns: string
  /** How many networks it is on. */
  networks: number
}

/**
 * One node, its agent a process as on any node, in this process's own network
 * namespace, which must be empty; and an API server in memory beside it, in
 * a process of its own so that nobody takes its time for somebody else's.
 */
export class BenchNode {
  readonly dir: string
  readonly kube: Kube
  readonly shim: string
  #flags: string[]
  readonly #api: ChildProcess
  #agent: ChildProcess

  private constructor(dir: string, kube: Kube, shim: string, api: ChildProcess, flags: string[]) {
    this.dir = dir
    this.kube = kube
    this.shim = shim
    this.#api = api
    this.#flags = flags
    this.#agent = this.#start()
  }

  get agent(): ChildProcess {
    return this.#agent
  }

  /** Where its agent answers for its health, and gives its metrics. */
  get probes(): string {
    return join(this.dir, 'probes.sock')
  }

  /** `dir` is an empty folder. `flags` are Node's, for the agent. */
  static async start(dir: string, flags: string[] = []): Promise<BenchNode> {
    const wiring = { nodes: [node], nics: [] }
    const paths: Record<string, string> = { [node]: ownNetns }
    for (const { netns } of wiringPlan(wiring)) paths[netns] ??= join(dir, 'netns', netns)
    for (const [name, path] of Object.entries(paths)) if (name !== node) createNamespace(path)
    applyNamespaces(wiringPlan(wiring), paths)
    const socket = join(dir, 'api.sock')
    const api = spawn(process.execPath, [join(import.meta.dirname, 'api.ts'), socket], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(api.stdout!, 'data')
    const kube = await connect(`unix:${socket}`)
    await populate(kube)
    for (const path of ['opt/cni/bin', 'etc/cni/net.d', 'pods'])
      mkdirSync(join(dir, path), { recursive: true })
    const { path: shim, kind } = await buildShim(join(dir, 'opt/cni/bin'))
    if (kind !== 'c') throw new Error('measure the shim: there is no C compiler; install gcc')
    const started = new BenchNode(dir, kube, shim, api, flags)
    await started.#ready()
    return started
  }

  /** Makes pods with their namespaces, and gives the agent the time to hear of them. */
  async pods(prefix: string, count: number, networks: number): Promise<BenchPod[]> {
    const pods = Array.from({ length: count }, async (_, i): Promise<BenchPod> => {
      const name = `${prefix}-${i}`
      const { metadata } = await this.kube.create(resources.pods, podOf(name, networks))
      const netns = join(this.dir, 'pods', name)
      createNamespace(netns)
      applyNamespaces([emptyNamespace('pod')], { pod: netns })
      return { name, uid: metadata.uid ?? '', netns, networks }
    })
    const made = await Promise.all(pods)
    await realClock.sleep(300)
    return made
  }

  async remove(pods: BenchPod[]): Promise<void> {
    for (const { name, netns } of pods) {
      removeNamespace(netns)
      await this.kube.delete(resources.pods, { namespace: 'bench', name }, { gracePeriodSeconds: 0 })
    }
  }

  /** Executes the shim as a runtime does. Rejects unless it succeeds, with all the interfaces there are to be. */
  async cni(command: 'ADD' | 'DEL', pod: BenchPod): Promise<void> {
    const ended = await this.#shim(command, pod)
    const { ips = [] } = command === 'ADD' && ended.code === 0 ? JSON.parse(ended.stdout.toString()) : {}
    if (ended.code !== 0 || (command === 'ADD' && ips.length !== pod.networks))
      throw new Error(`${command} ${pod.name}: ${ended.code ?? ended.signal} ${ended.stdout}${ended.stderr}`)
  }

  /** With other flags of Node's, where some are given. */
  async restart(flags = this.#flags): Promise<void> {
    this.#flags = flags
    await this.#stop()
    this.#agent = this.#start()
    await this.#ready()
  }

  #start(): ChildProcess {
    const log = openSync(join(this.dir, 'agent.log'), 'a')
    const args = ['--node', node, '--api', `unix:${join(this.dir, 'api.sock')}`, '--root', this.dir]
    const agent = spawn(
      process.execPath,
      [...this.#flags, ...programArgs('agent'), ...args, '--probes', `unix:${this.probes}`],
      { stdio: ['ignore', log, log] },
    )
    closeSync(log)
    return agent
  }

  async #stop(): Promise<void> {
    const ended = once(this.agent, 'exit')
    this.agent.kill('SIGTERM')
    await ended
  }

  async close(): Promise<void> {
    await this.#stop()
    this.#api.stdin!.end()
  }

  #shim(command: string, pod?: BenchPod): Promise<Ended> {
    const env = {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      CNI_COMMAND: command,
      CNI_PATH: join(this.dir, 'opt/cni/bin'),
      POLYNET_SOCKET: join(this.dir, 'run/polynet/agent.sock'),
      POLYNET_SPOOL: join(this.dir, 'var/lib/polynet/spool'),
      POLYNET_TIMEOUT_MS: '30000',
      ...(pod && {
        CNI_CONTAINERID: pod.name,
        CNI_NETNS: pod.netns,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${pod.name};K8S_POD_INFRA_CONTAINER_ID=${pod.name};K8S_POD_UID=${pod.uid}`,
      }),
    }
    return execute(this.shim, [this.shim], env, stdin, { timeoutMs: 60_000 })
  }

  /** Whether the controller has said of each network what nodes must know to render it. */
  async #planned(): Promise<boolean> {
    const { items } = await this.kube.list(resources.networks)
    return items.every((network) => network.status?.mtu !== undefined)
  }

  async #ready(): Promise<void> {
    for (let attempt = 0; attempt < 1500; attempt++) {
      if (this.agent.exitCode !== null) break
      if ((await this.#shim('STATUS')).code === 0 && (await this.#planned())) return
      await realClock.sleep(20)
    }
    throw new Error(
      `start the agent: it does not become ready\n${readFileSync(join(this.dir, 'agent.log'), 'utf8')}`,
    )
  }
}

const stdin = Buffer.from(JSON.stringify({ cniVersion: '1.1.0', name: 'polynet', type: 'polynet-cni' }))

const podOf = (name: string, count: number): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name,
    namespace: 'bench',
    ...(count > 1 && {
      annotations: {
        'k8s.v1.cni.cncf.io/networks': networks
          .slice(1, count)
          .map(([, name]) => name)
          .join(','),
      },
    }),
  },
  spec: { nodeName: node, containers: [{ name: 'main', image: 'main' }] },
})

async function populate(kube: Kube): Promise<void> {
  for (const name of ['polynet-system', 'bench'])
    await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  for (const [namespace, name, cidr] of networks)
    await kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { name, namespace },
      spec: { subnets: [{ cidr }] },
    } satisfies Network)
  await kube.create(resources.nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node, labels: { 'kubernetes.io/hostname': node } },
    spec: {},
  } satisfies Node)
  const body = { status: { addresses: [{ type: 'InternalIP', address }] } }
  await kube.patch(resources.nodes, { name: node }, { type: 'merge', subresource: 'status', body })
}
