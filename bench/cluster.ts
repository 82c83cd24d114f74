import type { Agent } from '../src/agent/agent.ts'
import { memoryJournal } from '../src/agent/journal/memory.ts'
import { startAgent } from '../src/agent/start.ts'
import type { Namespace, Node, Pod } from '../src/api/core.ts'
import { crds } from '../src/api/crds.ts'
import type { Network } from '../src/api/network.ts'
import { resources } from '../src/api/resources.ts'
import { noPlugins } from '../src/cni/no-plugins.ts'
import { startController } from '../src/controller/start.ts'
import { memoryDatapath } from '../src/datapath/memory/datapath.ts'
import { MemoryFabric } from '../src/datapath/memory/fabric.ts'
import type { Datapath } from '../src/datapath/port.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import type { Kube } from '../src/kube/port.ts'
import { realClock } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'

export interface Size {
  nodes: number
  networks: number
  podsPerNode: number
}

const clock = realClock
const log = silentLog

/**
 * A cluster without kubelets and scheduler, for its size: real agents and the
 * real controller on an API server and kernels in memory. Each network is one
 * namespace's, and its pods run on a part of the nodes, as a tenant's do.
 */
export class Cluster {
  readonly size: Size
  readonly kube = new MemoryKube({ crds: crds() })
  readonly agents: Agent[] = []
  /** What agents asked of the API server, by verb and kind; watches once each. */
  readonly requests = new Map<string, number>()
  /** When a node's kernel was last changed, and how often any was. */
  lastReplace = 0
  replaces = 0
  readonly #fabric = new MemoryFabric(() => clock.now())

  constructor(size: Size) {
    this.size = size
  }

  /** Nodes and networks, and an agent on each node that is ready. Nodes join one after another, as they do. */
  async start(): Promise<void> {
    const { nodes, networks } = this.size
    await startController({ kube: this.kube, clock, log })
    for (let i = 0; i < networks; i++) await this.#addNetwork(i)
    this.#fabric.addSwitch('eth0')
    const waits = async () => (await this.kube.list(resources.networks)).items.some((n) => !n.status?.mtu)
    for (let i = 0; i < nodes; i++) {
      await this.#addNode(i)
      while (i === 0 && (await waits())) await clock.sleep(20)
      await clock.sleep(0)
    }
    while (this.agents.some((agent) => agent.unready() !== undefined)) await clock.sleep(20)
  }

  /** Makes the pod, and has its node's agent attach it as the shim would ask. */
  async addPod(node: number, network: number, name: string): Promise<void> {
    const namespace = namespaceOf(network)
    const { metadata } = await this.kube.create(resources.pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace },
      spec: { nodeName: nameOf(node), containers: [{ name: 'main', image: 'main' }] },
    } satisfies Pod)
    const netns = `/run/netns/${name}`
    this.#fabric.addPodNamespace(netns)
    const { exit, stdout } = await this.agents[node]!.handle({
      program: 'polynet-cni',
      command: 'ADD',
      containerID: name,
      netns,
      ifName: 'eth0',
      args: { K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: name, K8S_POD_UID: metadata.uid ?? '' },
      path: [],
      config: { cniVersion: '1.1.0', name: 'polynet', type: 'polynet-cni' },
    })
    if (exit !== 0) throw new Error(`attach ${name}: ${stdout}`)
  }

  /** Appends a subnet to the network. */
  async widen(network: number): Promise<void> {
    const subnets = [...subnetsOf(network), { cidr: '10.255.0.0/17' }]
    const ref = { namespace: namespaceOf(network), name: 'own' }
    await this.kube.patch(resources.networks, ref, { type: 'merge', body: { spec: { subnets } } })
  }

  /** The network that a pod of the node is on: a network's pods are on its share of the nodes, and next to each other. */
  networkOf(node: number, pod: number): number {
    const { nodes, networks, podsPerNode } = this.size
    const perNode = Math.min(networks, networksPerNode)
    const share = Math.floor((node * networks) / nodes)
    return (share + Math.floor((pod * perNode) / podsPerNode)) % networks
  }

  /** All pods in the order they come: tenant after tenant, each tenant's next to each other on all of its nodes. */
  pods(): { node: number; pod: number; network: number }[] {
    const { nodes, podsPerNode } = this.size
    const all = Array.from({ length: podsPerNode }, (_, pod) =>
      Array.from({ length: nodes }, (_, node) => ({ node, pod, network: this.networkOf(node, pod) })),
    )
    return all.flat().sort((a, b) => a.network - b.network)
  }

  /** Resolves when no kernel was changed for a while, and none is any more: when the last was. */
  async quiet(): Promise<number> {
    // Longer than an agent rests between two rounds; a large cluster keeps this process from its timers.
    const quietMs = this.size.nodes < 100 ? 300 : 1000
    const since = performance.now()
    while (performance.now() - Math.max(since, this.lastReplace) < quietMs) await clock.sleep(10)
    return this.lastReplace
  }

  async #addNetwork(i: number): Promise<void> {
    const name = namespaceOf(i)
    await this.kube.create(resources.namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, annotations: { 'polynet.dev/default-network': 'own' } },
    } satisfies Namespace)
    await this.kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { name: 'own', namespace: name },
      spec: { subnets: subnetsOf(i) },
    } satisfies Network)
  }

  async #addNode(i: number): Promise<void> {
    const name = nameOf(i)
    const address = `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`
    const mac = `0a:00:00:${[i >> 16, (i >> 8) & 255, i & 255].map((b) => b.toString(16).padStart(2, '0')).join(':')}`
    this.#fabric.addNode(name, [
      { name: 'eth0', mac, mtu: 1500, addresses: [`${address}/12`], switch: 'eth0', driver: 'veth' },
    ])
    await this.kube.create(resources.nodes, {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { 'kubernetes.io/hostname': name } },
      spec: {},
    } satisfies Node)
    const body = { status: { addresses: [{ type: 'InternalIP', address }] } }
    await this.kube.patch(resources.nodes, { name }, { type: 'merge', subresource: 'status', body })
    this.agents.push(
      startAgent({
        node: name,
        kube: this.#counted(),
        datapath: this.#timed(memoryDatapath(this.#fabric, name)),
        journal: memoryJournal(),
        plugins: noPlugins,
        clock,
        log,
      }),
    )
  }

  #counted(): Kube {
    return new Proxy(this.kube, {
      get: (kube, name) => {
        const value = Reflect.get(kube, name, kube)
        if (typeof value !== 'function') return value
        return (resource: { plural: string }, ...rest: unknown[]) => {
          const key = `${String(name)} ${resource.plural}`
          this.requests.set(key, (this.requests.get(key) ?? 0) + 1)
          return value.call(kube, resource, ...rest)
        }
      },
    })
  }

  #timed(datapath: Datapath): Datapath {
    return {
      ...datapath,
      replace: async (plan) => {
        const report = await datapath.replace(plan)
        this.lastReplace = performance.now()
        this.replaces++
        return report
      },
    }
  }
}

/** On how many networks the pods of one node are. */
const networksPerNode = 5

const nameOf = (node: number): string => `n${node}`
const subnetsOf = (network: number) => [{ cidr: `10.${network >> 1}.${(network & 1) * 128}.0/17` }]
const namespaceOf = (network: number): string => `tenant-${network}`
