import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { toolDir } from '../../cluster/build.ts'
import { type NodeAddresses, nodeAddresses } from '../../src/agent/addresses/addresses.ts'
import { openJournal } from '../../src/agent/journal/file.ts'
import type { Node } from '../../src/api/core.ts'
import type { KubeObject, Resource } from '../../src/api/meta.ts'
import type { Network } from '../../src/api/network.ts'
import { resources } from '../../src/api/resources.ts'
import type { Owner } from '../../src/ipam/port.ts'
import { apiServer } from '../../src/kube/cluster/config.ts'
import { connect } from '../../src/kube/cluster/connect.ts'
import { realClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { spawn } from '../../src/lib/spawn.ts'
import { cpuOfChildren } from '../cpu.ts'
import { type Figures, quantile } from '../figures.ts'
import { type Place, until } from './place.ts'
import { countAccounts, counts, spent } from './requests.ts'
import type { Size } from './rows.ts'
import { polynet } from './ways.ts'

/** How many nodes' allocators there are; each gives one address after another. */
const nodeCount = 10

interface Outcome {
  ms: number
  /** Of each pod that got an address. */
  times: number[]
  addresses: string[]
  failed: string[]
  cpuMs: number
  requests: number
  conflicts: number
  /** Addresses still taken when all pods have given theirs back. */
  left: number
  giveBackMs: number
}

/** A thousand pods on ten nodes: each side's own allocator on the same API server, nothing attached. */
export async function addresses(place: Place, size: Size): Promise<Figures[]> {
  await countAccounts(place)
  const count = size({ small: 20, full: 1000 })
  const dir = mkdtempSync(join(tmpdir(), 'polynet-addresses-'))
  try {
    const sides: [string, Outcome][] = [
      ['Polynet', await ofPolynet(place, dir, count)],
      ['Whereabouts', await ofWhereabouts(place, dir, count)],
    ]
    return [
      {
        title: `${count} addresses for the pods of ${nodeCount} nodes, each node giving one after another`,
        columns: [
          'by',
          's',
          'ms median',
          'ms p95',
          'CPU s',
          'API requests',
          'conflicts',
          'failed',
          'doubled',
          'given back in s',
          'left',
        ],
        rows: sides.map(([title, o]) => [
          title,
          o.ms / 1000,
          quantile(o.times, 0.5),
          quantile(o.times, 0.95),
          o.cpuMs / 1000,
          o.requests,
          o.conflicts,
          o.failed.length,
          o.addresses.length - new Set(o.addresses).size,
          o.giveBackMs / 1000,
          o.left,
        ]),
        notes: [
          'Whereabouts is executed once for an address, as its caller would; Polynet’s allocator is the agent’s own code with its journal on disk,',
          'ten of them in one process. CPU: of these, without the API server. API requests and conflicts: until all have an address.',
          ...sides.flatMap(([title, { failed }]) =>
            failed[0] ? [`${title}, first failure: ${failed[0]}`] : [],
          ),
        ],
      },
    ]
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Each node's pods one after another, all nodes at once. */
async function onAllNodes(count: number, act: (node: number, pod: number) => Promise<void>): Promise<number> {
  const began = performance.now()
  await Promise.all(
    Array.from({ length: nodeCount }, async (_, node) => {
      for (let pod = node; pod < count; pod += nodeCount) await act(node, pod)
    }),
  )
  return performance.now() - began
}

async function ofPolynet(place: Place, dir: string, count: number): Promise<Outcome> {
  // Agents' own tokens are good for one node each.
  const { namespace } = polynet
  await place.kubectl(['-n', namespace, 'create', 'serviceaccount', 'allocator'])
  const bound = ['--clusterrole=cluster-admin', `--serviceaccount=${namespace}:allocator`]
  await place.kubectl(['create', 'clusterrolebinding', 'allocator', ...bound])
  const kube = await connect(await kubeconfigFor(place, dir, [namespace, 'allocator']))
  const name = 'scale'
  await place.kube.create(resources.networks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { name, namespace },
    spec: { subnets: [{ cidr: '10.150.0.0/16' }] },
  })
  const find = () => place.kube.get(resources.networks, { namespace, name })
  await until('the network to be known', async () => (await find()).status?.mtu !== undefined)
  const network: Network = await find()
  const nodes: NodeAddresses[] = []
  const journals = []
  for (let i = 0; i < nodeCount; i++) {
    const node: Node = { apiVersion: 'v1', kind: 'Node', metadata: { name: nodeName(i) }, spec: {} }
    const { metadata } = await place.kube.create(resources.nodes, node)
    const journal = await openJournal(join(dir, nodeName(i)), { fsync: false })
    journals.push(journal)
    const deps = { kube, journal, clock: realClock, log: silentLog, restMs: 0, idleMs: 0 }
    nodes.push(nodeAddresses({ ...deps, node: { name: nodeName(i), uid: metadata.uid ?? '' } }))
  }
  const ownerOf = (pod: number): Owner => ({
    podUID: `uid-${pod}`,
    containerID: `sandbox-${pod}`,
    interface: 'net1',
    pod: `bench/pod-${pod}`,
  })
  const found = start()
  const cpu = process.cpuUsage()
  const before = await counts(place)
  found.ms = await onAllNodes(count, async (node, pod) => {
    const began = performance.now()
    try {
      const { addresses } = await nodes[node]!.lease({ network, owner: ownerOf(pod) })
      found.times.push(performance.now() - began)
      found.addresses.push(addresses[0]!.address)
    } catch (error) {
      found.failed.push((error as Error).message)
    }
  })
  const { user, system } = process.cpuUsage(cpu)
  found.cpuMs = (user + system) / 1000
  const asked = spent(before, await counts(place))
  found.requests = asked.own.allocator!
  found.conflicts = asked.conflicts
  found.giveBackMs = await onAllNodes(count, (node, pod) => nodes[node]!.release(ownerOf(pod)))
  found.left = nodes.reduce((sum, node) => sum + node.owners().length, 0)
  for (const node of nodes) await node.close()
  for (const journal of journals) await journal.close()
  kube.close()
  for (let i = 0; i < nodeCount; i++) await place.kube.delete(resources.nodes, { name: nodeName(i) })
  await place.kube.delete(resources.networks, { namespace, name })
  return found
}

async function ofWhereabouts(place: Place, dir: string, count: number): Promise<Outcome> {
  const program = join(await toolDir('whereabouts'), 'whereabouts')
  const kubeconfig = await kubeconfigFor(place, dir, ['kube-system', 'whereabouts'])
  const flat = join(dir, 'whereabouts.conf')
  writeFileSync(flat, JSON.stringify({ datastore: 'kubernetes', kubernetes: { kubeconfig } }))
  const conf = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'scale',
    type: 'bridge',
    ipam: {
      type: 'whereabouts',
      range: '10.151.0.0/16',
      configuration_path: flat,
      log_file: join(dir, 'whereabouts.log'),
      log_level: 'error',
    },
  })
  const cni = async (command: 'ADD' | 'DEL', node: number, pod: number) => {
    const env = {
      PATH: process.env.PATH ?? '',
      NODENAME: nodeName(node),
      CNI_COMMAND: command,
      CNI_PATH: '/',
      CNI_CONTAINERID: `sandbox-${pod}`,
      // It refuses the one that it runs in itself.
      CNI_NETNS: `/proc/${place.init}/ns/net`,
      CNI_IFNAME: 'net1',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=pod-${pod};K8S_POD_INFRA_CONTAINER_ID=sandbox-${pod}`,
    }
    const ended = await spawn(program, [program], env, Buffer.from(conf), { timeoutMs: 150_000 })
    if (ended.code !== 0)
      throw new Error(`${ended.code ?? ended.signal} ${ended.stdout.toString().slice(0, 300)}`)
    return ended.stdout.toString()
  }
  const found = start()
  const cpu = cpuOfChildren()
  const before = await counts(place)
  found.ms = await onAllNodes(count, async (node, pod) => {
    const began = performance.now()
    try {
      const { ips } = JSON.parse(await cni('ADD', node, pod))
      found.times.push(performance.now() - began)
      found.addresses.push(ips[0].address)
    } catch (error) {
      found.failed.push((error as Error).message)
    }
  })
  const asked = spent(before, await counts(place))
  found.cpuMs = cpuOfChildren() - cpu
  found.requests = asked.own.whereabouts!
  found.conflicts = asked.conflicts
  found.giveBackMs = await onAllNodes(count, async (node, pod) => {
    await cni('DEL', node, pod).catch((error: Error) => found.failed.push(`DEL: ${error.message}`))
  })
  await sleep(500)
  const { items } = await place.kube.list(ipPools)
  const pools = items.filter(({ spec }) => spec?.range === '10.151.0.0/16')
  found.left = pools.reduce((sum, { spec }) => sum + Object.keys(spec?.allocations ?? {}).length, 0)
  return found
}

const start = (): Outcome => ({
  ms: 0,
  times: [],
  addresses: [],
  failed: [],
  cpuMs: 0,
  requests: 0,
  conflicts: 0,
  left: 0,
  giveBackMs: 0,
})

const nodeName = (i: number): string => `scale-${i}`

interface IPPool extends KubeObject {
  spec?: { range: string; allocations?: Record<string, unknown> }
}

const ipPools: Resource<IPPool> = {
  group: 'whereabouts.cni.cncf.io',
  version: 'v1alpha1',
  kind: 'IPPool',
  plural: 'ippools',
  namespaced: true,
}

type Account = [namespace: string, name: string]

/** By which one asks as that account, from this machine. */
async function kubeconfigFor(
  { cluster, kubectl }: Place,
  dir: string,
  [namespace, name]: Account,
): Promise<string> {
  const { url, ca = '' } = apiServer(cluster.kubeconfig)
  const token = (await kubectl(['-n', namespace, 'create', 'token', name])).trim()
  const path = join(dir, `${name}.kubeconfig`)
  const data = Buffer.from(ca).toString('base64')
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'it', cluster: { server: url.origin, 'certificate-authority-data': data } }],
    users: [{ name: 'it', user: { token } }],
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it', namespace } }],
    'current-context': 'it',
  }
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 })
  return path
}
