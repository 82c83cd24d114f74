import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { kubeconfigText } from '../lab/kubeconfig.ts'
import { outputOf } from '../lab/output.ts'
import { probeAll } from '../lab/packets.ts'
import type { Sent } from '../lab/place.ts'
import type { Bound, Endpoint, Probe } from '../lab/reach.ts'
import { sendOne } from '../lab/send.ts'
import { type Wiring, wiresOf } from '../lab/wires.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, removeNamespace } from '../src/datapath/linux/netns.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Route } from '../src/plan/node-plan.ts'
import { configureBridge, type PodRange, routesToPods } from './bridge.ts'
import { removeCgroup } from './cgroups.ts'
import { ControlPlane } from './control-plane.ts'
import { systemPath } from './debian.ts'
import { serveEgress } from './egress.ts'
import { configureFlannel, type FlannelOptions, flanneldOn } from './flannel.ts'
import { corednsImage } from './images.ts'
import { Kubelet } from './kubelet.ts'
import { Node } from './node.ts'
import { netnsOfPods, processesIn } from './processes.ts'
import type { Service } from './service.ts'
import { clusterPlan, controlPlane, nodeAddresses, plan } from './wiring.ts'

/** What a pod gets without asking; with `none` and `polynet` nodes are not Ready until somebody installs one. */
export const defaultNetworks = ['none', 'bridge', 'flannel', 'polynet'] as const
export type DefaultNetwork = (typeof defaultNetworks)[number]

export interface MachinesOptions {
  name: string
  dir: string
  wiring: Wiring
  defaultNetwork: DefaultNetwork
  /** The folders of the programs, and the images that nodes have from the start. */
  programs: {
    kubernetes: string
    containerd: string
    plugins: string
    etcd: string
    flannel?: { flannel: string; plugin: string }
  }
  images: string[]
  /** Of containerd (`KubeletOptions`). */
  metered: boolean
  /** Of the API server on the loopback of those who started the cluster. */
  port: number
}

/** The calls that a cluster answers; all wait until what they ask for is done. */
export const calls = [
  'ready',
  'nodes',
  'prefixOf',
  'exec',
  'execInPod',
  'reach',
  'send',
  'loadImage',
  'killAgent',
  'plug',
  'reboot',
  'kill',
  'start',
  'restart',
  'stopApi',
  'startApi',
  'saveEtcd',
  'restoreEtcd',
  'close',
] as const

/**
 * The cluster itself. Must run in namespaces of its own (`enter`), whose end
 * takes everything away but the folder and the control groups.
 */
export class Machines {
  readonly #options: MachinesOptions
  readonly #netns: Record<string, string>
  readonly #nodes = new Map<string, { node: Node; kubelet: Kubelet }>()
  readonly #flanneld = new Map<string, Service>()
  readonly #control: ControlPlane
  #begun: Promise<void> | undefined
  #end: () => void = () => {}
  readonly ended = new Promise<void>((resolve) => {
    this.#end = resolve
  })

  constructor(options: MachinesOptions) {
    this.#options = options
    const { dir, wiring, programs } = options
    this.#netns = Object.fromEntries(
      clusterPlan(wiring).map(({ netns }) => [
        netns,
        netns === controlPlane ? '/proc/self/ns/net' : join(dir, 'netns', netns),
      ]),
    )
    this.#control = new ControlPlane({
      dir: join(dir, 'control-plane'),
      logs: join(dir, 'logs'),
      kubernetes: programs.kubernetes,
      etcd: programs.etcd,
      nodes: wiring.nodes,
    })
  }

  /** Starts everything; `listener` is a descriptor on which people reach the API server. */
  begin(listener: number): Promise<void> {
    this.#begun ??= this.#begin(listener)
    return this.#begun
  }

  async #begin(listener: number): Promise<void> {
    const { dir, name, wiring, port } = this.#options
    for (const [netns, path] of Object.entries(this.#netns)) if (netns !== controlPlane) createNamespace(path)
    this.#plugIn(wiring.nodes)
    const server = `https://127.0.0.1:${port}`
    const { certificate, users } = this.#control
    const admin = { name: `polynet-${name}`, server, certificate, token: users.admin }
    writeFileSync(join(dir, 'kubeconfig'), kubeconfigText(admin), { mode: 0o600 })
    forward(listener)
    serveEgress(
      this.#control.egress,
      () => this.#on().map((each) => this.#netns[each]!),
      (address) => wiring.nodes.some((each) => nodeAddresses(wiring, each).includes(address)),
    )
    const control = this.#control.start()
    control.catch(() => {})
    for (const each of wiring.nodes) this.#nodes.set(each, this.#nodeOf(each))
    await Promise.all(
      wiring.nodes.map(async (each) => {
        const { node, kubelet } = this.#find(each)
        await node.powerOn()
        await kubelet.start()
      }),
    )
    await control
    const manifests = [
      'coredns.yaml',
      ...(this.#options.defaultNetwork === 'flannel' ? ['flannel.yaml'] : []),
    ]
    await Promise.all([...manifests.map((each) => this.#apply(each)), this.#network()])
  }

  /** Resolves when all nodes that are on are Ready, or registered where there is no default network yet. */
  async ready(): Promise<void> {
    await this.#begun
    const networked = ['bridge', 'flannel'].includes(this.#options.defaultNetwork)
    const on = this.#on()
    await this.#until('wait for the nodes', async () => {
      const nodes = await this.#listNodes()
      const missing = on.filter((name) => {
        const found = nodes.find((each) => each.metadata.name === name)
        const ready = found?.status.conditions?.find((each) => each.type === 'Ready')
        // What was Ready before a reboot is not what is meant.
        const booted = readFileSync(this.#find(name).node.bootId, 'utf8').trim()
        if (!found || found.status.nodeInfo?.bootID !== booted) return true
        return networked && ready?.status !== 'True'
      })
      return missing.length === 0 ? undefined : `${missing.join(', ')} not Ready`
    })
  }

  async nodes(): Promise<string[]> {
    return this.#options.wiring.nodes
  }

  /** What starts a program on the node, from within the cluster's namespaces. */
  async prefixOf(name: string): Promise<string[]> {
    return this.#find(name).node.prefix
  }

  async exec(name: string, argv: string[]): Promise<{ exit: number; output: string }> {
    return outputHere([...this.#find(name).node.prefix, ...argv])
  }

  /** Runs a program of this machine in the network namespace of a pod. */
  async execInPod(uid: string, argv: string[]): Promise<{ exit: number; output: string }> {
    return outputHere(['nsenter', `--net=${this.#netnsOfPod(uid)}`, '--', ...argv])
  }

  /** What came of a packet from each of these to each other one (`Place.reach`). */
  async reach(all: PodEndpoint[], bound?: Bound): Promise<Probe[]> {
    const switches = wiresOf(this.#options.wiring).map((wire) => ({
      nic: wire.nic,
      netns: this.#netns[wire.switch]!,
    }))
    const namespaces = netnsOfPods()
    const placed = all.flatMap(({ uid, endpoint }) => {
      const netns = namespaces.get(uid)
      return netns ? [{ endpoint, netns }] : []
    })
    return probeAll(placed, switches, bound)
  }

  /** Who of `others`, the nodes and the outside got what the endpoint sent (`Place.send`). */
  async send(sent: Sent, from: PodEndpoint, others: { name: string; uid: string }[]): Promise<string[]> {
    const namespaces = netnsOfPods()
    const pods = others.flatMap(({ name, uid }) => {
      const netns = namespaces.get(uid)
      return netns ? [{ name, netns }] : []
    })
    const nodes = this.#on().map((name) => ({ name: `node ${name}`, netns: this.#netns[name]! }))
    const outside = { name: 'outside', netns: this.#netns['switch-eth0']! }
    return sendOne(from.endpoint, this.#netnsOfPod(from.uid), sent, [...pods, ...nodes, outside])
  }

  #netnsOfPod(uid: string): string {
    const netns = netnsOfPods().get(uid)
    if (netns) return netns
    throw new Fault('missing', `find the pod of UID ${uid}`, 'it has no process; see kubectl get pods -A')
  }

  /** As `kill -9`; the kubelet starts it again. How many there were. */
  async killAgent(name: string): Promise<number> {
    const agents = processesIn(this.#cgroupOf(name), '/usr/bin/polynet-agent')
    for (const pid of agents) process.kill(pid, 'SIGKILL')
    return agents.length
  }

  /** Takes a NIC out of the node; or puts in, as new, all that are out. */
  async plug(name: string, nic: string, plugged: boolean): Promise<void> {
    if (plugged) return this.#plugIn(this.#on())
    const { exit, output } = await this.exec(name, ['ip', 'link', 'delete', nic])
    if (exit !== 0) throw new Fault('kernel', `unplug ${nic} of ${name}`, output)
  }

  async loadImage(name: string, tar: string): Promise<void> {
    const names = name === 'all' ? [...this.#nodes.keys()] : [name]
    await Promise.all(names.map((each) => this.#find(each).kubelet.loadImage(tar)))
  }

  /** As pulling the plug; the node stays off until `start`. */
  async kill(name: string): Promise<void> {
    const { node, kubelet } = this.#find(name)
    const off = [kubelet.stop('SIGKILL'), this.#flanneld.get(name)?.stop('SIGKILL')]
    await node.powerOff()
    await Promise.all(off)
    this.#flanneld.delete(name)
    removeNamespace(this.#netns[name]!)
    await removeCgroup(this.#cgroupOf(name))
  }

  async start(name: string): Promise<void> {
    const { node, kubelet } = this.#find(name)
    if (node.on) return
    createNamespace(this.#netns[name]!)
    this.#plugIn([...this.#on(), name])
    await node.powerOn()
    await kubelet.start()
    await this.#network()
  }

  async reboot(name: string): Promise<void> {
    await this.kill(name)
    await this.start(name)
    await this.ready()
  }

  async restart(
    name: string,
    which: 'containerd' | 'kubelet' | 'proxy',
    signal?: 'SIGTERM' | 'SIGKILL',
  ): Promise<void> {
    await this.#find(name).kubelet.restart(which, signal)
  }

  async stopApi(): Promise<void> {
    await this.#control.stopApi()
  }

  async startApi(): Promise<void> {
    await this.#control.startApi()
  }

  async saveEtcd(name: string): Promise<void> {
    await this.#control.saveEtcd(name)
  }

  async restoreEtcd(name: string): Promise<void> {
    await this.#control.restoreEtcd(name)
  }

  /** What is not ended here ends with the cluster's first process. */
  async close(): Promise<void> {
    const off = [...this.#nodes.values()].map(async ({ node, kubelet }) => {
      await Promise.all([
        kubelet.stop('SIGKILL'),
        this.#flanneld.get(node.name)?.stop('SIGKILL'),
        node.powerOff(),
      ])
    })
    await Promise.all([...off, this.#control.stop()])
    this.#end()
  }

  #nodeOf(name: string): { node: Node; kubelet: Kubelet } {
    const { dir, wiring, programs, images } = this.#options
    const node = new Node({ name, root: join(dir, 'nodes', name), netns: this.#netns[name]! })
    const { users, certificate, kubeletClients } = this.#control
    const kubelet = new Kubelet({
      node,
      addresses: nodeAddresses(wiring, name),
      logs: join(dir, 'logs'),
      programs,
      cgroup: this.#cgroupOf(name),
      images,
      metered: this.#options.metered,
      api: {
        server: apiServer,
        certificate,
        token: users.nodes[name]!,
        proxyToken: users.proxy,
        kubeletClients: readFileSync(kubeletClients, 'utf8'),
      },
    })
    return { node, kubelet }
  }

  #on(): string[] {
    return [...this.#nodes.values()].filter(({ node }) => node.on).map(({ node }) => node.name)
  }

  /** All cables of these nodes, and their ways. */
  #plugIn(nodes: string[], routesOf: (netns: string) => Route[] = () => []): void {
    const off = this.#options.wiring.nodes.filter((each) => !nodes.includes(each))
    const plans = clusterPlan(this.#options.wiring)
      .filter(({ netns }) => !off.includes(netns))
      .map((each) => ({
        ...each,
        links: each.links.filter((link) => link.kind !== 'veth' || !off.includes(link.peer.netns)),
        // A route that the data path makes would be taken for Polynet's own, which nobody wants there any more.
        routes: [],
      }))
    applyNamespaces(plans, this.#netns)
    for (const { netns, routes } of clusterPlan(this.#options.wiring)) {
      const wanted = off.includes(netns) ? [] : [...routes, ...routesOf(netns)]
      const lines = wanted.map(({ to, link, via }) => `route replace ${to} via ${via} dev ${link}`)
      if (lines.length > 0) runIp(this.#netns[netns]!, lines)
    }
  }

  #cgroupOf(name: string): string {
    return `${cgroupOf(this.#options.name)}/${name}`
  }

  #find(name: string): { node: Node; kubelet: Kubelet } {
    const found = this.#nodes.get(name)
    if (found) return found
    throw new Fault(
      'missing',
      `find node ${name}`,
      `the cluster has ${this.#options.wiring.nodes.join(', ')}`,
    )
  }

  /** The default network on every node that is on. */
  async #network(): Promise<void> {
    const { defaultNetwork, programs } = this.#options
    if (defaultNetwork === 'bridge') await this.#bridge()
    if (defaultNetwork === 'flannel' && programs.flannel)
      await Promise.all(this.#on().map((name) => this.#flannel(name, programs.flannel!)))
  }

  async #flannel(name: string, programs: FlannelOptions['programs']): Promise<void> {
    if (this.#flanneld.has(name)) return
    const { node } = this.#find(name)
    const { users, certificate } = this.#control
    const service = flanneldOn({
      node,
      logs: join(this.#options.dir, 'logs'),
      programs,
      kubeconfig: kubeconfigText({ name: 'flannel', server: apiServer, certificate, token: users.flannel }),
    })
    this.#flanneld.set(name, service)
    service.start()
    await this.#until(`wait for flannel on ${name}`, async () => {
      const { exit } = await this.exec(name, ['test', '-e', '/run/flannel/subnet.env'])
      return exit === 0 ? undefined : 'it has no subnet'
    })
    configureFlannel(node)
  }

  /** The bridge plugin on every node that is on, and the ways between nodes. */
  async #bridge(): Promise<void> {
    const { wiring } = this.#options
    let ranges: PodRange[] = []
    await this.#until('wait for the nodes’ pod ranges', async () => {
      ranges = (await this.#listNodes()).flatMap(({ metadata, spec }) =>
        spec.podCIDRs
          ? [
              {
                node: metadata.name,
                podCIDRs: spec.podCIDRs,
                addresses: nodeAddresses(wiring, metadata.name),
              },
            ]
          : [],
      )
      return ranges.length < wiring.nodes.length
        ? `${ranges.length} of ${wiring.nodes.length} have one`
        : undefined
    })
    const ways: Record<string, string> = { 'switch-eth0': 'switch', [controlPlane]: 'eth0' }
    for (const name of this.#on()) ways[name] = 'eth0'
    this.#plugIn(this.#on(), (netns) => (ways[netns] ? routesToPods(ranges, netns, ways[netns]) : []))
    for (const name of this.#on())
      configureBridge(this.#find(name).node, ranges.find((each) => each.node === name)?.podCIDRs ?? [])
  }

  async #apply(name: string): Promise<void> {
    const { dir, programs } = this.#options
    const manifest = join(dir, name)
    const source = readFileSync(join(import.meta.dirname, name), 'utf8')
    writeFileSync(manifest, source.replace('IMAGE', corednsImage()))
    const kubectl = [
      join(programs.kubernetes, 'kubectl'),
      `--kubeconfig=${join(dir, 'control-plane/admin.kubeconfig')}`,
    ]
    const { exit, output } = await outputHere([...kubectl, 'apply', '--server-side', '-f', manifest])
    if (exit !== 0) throw new Fault('unavailable', `apply ${name}`, output.trim())
  }

  async #listNodes(): Promise<ListedNode[]> {
    const { status, body } = await this.#control.api('GET', '/api/v1/nodes')
    return status === 200 ? JSON.parse(body).items : []
  }

  /** Until `ask` has nothing to say; what it says is why it takes so long. */
  async #until(doing: string, ask: () => Promise<string | undefined>): Promise<void> {
    const until = Date.now() + 90_000
    for (;;) {
      const why = await ask().catch((error: Error) => error.message)
      if (why === undefined) return
      if (Date.now() > until) throw new Fault('unavailable', doing, `${why} after 90 s`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** As nodes see it. */
const apiServer = `https://${plan.controlPlane}:6443`

export const cgroupOf = (cluster: string): string => `polynet-${cluster}`

/** An interface of a pod, and the pod's UID, by which its processes are found. */
export interface PodEndpoint {
  uid: string
  endpoint: Endpoint
}

interface ListedNode {
  metadata: { name: string }
  spec: { podCIDRs?: string[] }
  status: { conditions?: { type: string; status: string }[]; nodeInfo?: { bootID: string } }
}

/** Has iproute2 do these in a network namespace. */
function runIp(netns: string, lines: string[]): void {
  const input = `${lines.join('\n')}\n`
  execFileSync('nsenter', [`--net=${netns}`, '--', 'ip', '-batch', '-'], { input, stdio: 'pipe' })
}

/** Hands what comes in on the descriptor on to the API server. */
function forward(listener: number): void {
  const server = createServer((socket) => {
    const api = connect(6443, '127.0.0.1')
    for (const [one, other] of [
      [socket, api],
      [api, socket],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
      one.setNoDelay(true)
      one.pipe(other)
    }
  })
  server.listen({ fd: listener })
}

/** As on a node, whose programs are where Debian has them. */
const outputHere = (argv: string[]) => outputOf(argv, { ...process.env, PATH: systemPath })
