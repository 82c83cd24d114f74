import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { initOf } from '../../cluster/boot.ts'
import { versionOf } from '../../cluster/build.ts'
import { type Cluster, startCluster } from '../../cluster/cluster.ts'
import { installPolynet } from '../../cluster/install.ts'
import type { KubeObject, Resource } from '../../src/api/meta.ts'
import { resources } from '../../src/api/resources.ts'
import { type ConnectedKube, connect } from '../../src/kube/cluster/connect.ts'
import { peerImages } from './images.ts'
import { bare, hostLocal, moreNetworks, nodes, other, polynet, type Side, whereabouts } from './ways.ts'

/**
 * A real cluster with Polynet on one node, Multus and Whereabouts on another,
 * and the bridge plugin alone on a third; and a fourth that has Polynet as
 * soon as a row wants two nodes of it.
 */
export interface Place {
  cluster: Cluster
  kube: ConnectedKube
  /** The first of all the cluster's processes. */
  init: number
  kubectl(args: string[], input?: string): Promise<string>
  /** For what a row needs in files; it goes with the place. */
  dir: string
  /** Resolves when Polynet is on its second node too, where it stays. */
  secondPolynet(): Promise<void>
  /** That it works is enough: what goes on beside an answer is not waited for. */
  hurried: boolean
  /** What was measured, and how each side is configured. */
  configuration: string[]
  close(): Promise<void>
}

const run = promisify(execFile)

export async function startPlace(say: (line: string) => void, hurried = false): Promise<Place> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-peers-'))
  const name = `peers-${process.pid}`
  let cluster: Cluster | undefined
  try {
    const tars = await peerImages(dir, say)
    cluster = await startCluster({
      name,
      nodes: 4,
      nics: ['eth1'],
      defaultNetwork: 'bridge',
      metered: true,
      say,
    })
    const { kubectl: path, kubeconfig } = cluster
    const kubectl = async (args: string[], input?: string) => {
      const asked = run(path, [`--kubeconfig=${kubeconfig}`, ...args], { maxBuffer: 64 << 20 })
      asked.child.stdin?.end(input)
      return (await asked).stdout
    }
    const kube = await connect(kubeconfig)
    for (const tar of tars) await cluster.loadImage(nodes.multus, tar)
    for (const [side, node] of Object.entries(nodes)) await kubectl(['label', 'node', node, `bench=${side}`])
    // Elsewhere it would keep what is there: the bridge plugin, whose time would be in each pod of Polynet's.
    for (const node of [nodes.polynet, other.polynet])
      await kubectl(['annotate', 'node', node, 'polynet.dev/default-network=default'])
    say('installing Polynet')
    await installPolynet(cluster, polynetValues, say)
    for (const file of ['multus.yaml', 'whereabouts.yaml']) {
      say(`applying ${file}`)
      await kubectl(['apply', '--server-side', '-f', join(import.meta.dirname, file)])
    }
    for (const daemon of ['kube-multus-ds', 'whereabouts'])
      await kubectl(['-n', 'kube-system', 'rollout', 'status', `daemonset/${daemon}`, '--timeout=120s'])
    await leaveAlone(kube, ['bench-multus', 'bench-bridge'])
    await populate(kube)
    return {
      cluster,
      kube,
      init: initOf(name),
      kubectl,
      dir,
      async secondPolynet() {
        await kubectl(['label', 'node', other.polynet, 'bench=polynet', '--overwrite'])
        const agents = ['rollout', 'status', 'daemonset/polynet-agent', '--timeout=120s']
        await kubectl(['-n', 'polynet-system', ...agents])
      },
      hurried,
      configuration: configuration(),
      async close() {
        kube.close()
        await cluster?.close()
        rmSync(dir, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await cluster?.close()
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
}

/** Its default network has the peers' families, and subnets that are not theirs. */
const polynetValues = [
  'defaultNetwork.subnets={10.245.0.0/16,fd00:10:245::/56}',
  'agent.nodeSelector.bench=polynet',
  'controller.replicas=1',
  'webhook.replicas=1',
]

const configuration = (): string[] => [
  `Kubernetes ${versionOf('kubernetes-1.37')}, containerd ${versionOf('containerd')}, four nodes on one kernel (the fourth is idle, and a second one of Polynet once a row wants two), etcd without fsync, nftables kube-proxy.`,
  `Polynet from this source, by its chart: one controller, one webhook, its own default network of both families, ${moreNetworks} Layer3 networks of IPv4.`,
  `Multus ${versionOf('multus')} (thick, as its quick start, without its limit of 0.1 CPU), default network bridge + host-local + portmap of both families.`,
  'What its DELs leave of the default network’s addresses (its issue 1449) is given back between measurements.',
  `Beside it ${moreNetworks} networks of bridge + host-local and ${moreNetworks} of bridge + Whereabouts ${versionOf('whereabouts')} (as its DaemonSet, without that limit), a /16 each. Reference plugins ${versionOf('plugins')}.`,
]

const nads = resources.networkAttachmentDefinitions

async function populate(kube: ConnectedKube): Promise<void> {
  for (const { namespace } of [bare, polynet, hostLocal])
    await kube.create(resources.namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace },
    })
  for (let i = 1; i <= moreNetworks; i++) {
    await kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { name: `${polynet.prefix}${i}`, namespace: polynet.namespace },
      spec: { subnets: [{ cidr: `10.${i}.0.0/16` }] },
    })
    const ipams = {
      [hostLocal.prefix]: { type: 'host-local', ranges: [[{ subnet: `10.${100 + i}.0.0/16` }]] },
      [whereabouts.prefix]: { type: 'whereabouts', range: `10.${200 + i}.0.0/16` },
    }
    for (const [prefix, ipam] of Object.entries(ipams)) {
      const name = `${prefix}${i}`
      const config = JSON.stringify({ cniVersion: '0.3.1', name, type: 'bridge', bridge: `br-${name}`, ipam })
      const metadata = { name, namespace: hostLocal.namespace }
      await kube.create(nads, {
        apiVersion: 'k8s.cni.cncf.io/v1',
        kind: nads.kind,
        metadata,
        spec: { config },
      })
    }
  }
  const known = async () =>
    (await kube.list(resources.networks)).items.every((each) => each.status?.mtu !== undefined)
  await until('Polynet’s networks to be known', known)
}

/** Polynet's webhook is not asked about the peers' pods. */
async function leaveAlone(kube: ConnectedKube, namespaces: string[]): Promise<void> {
  for (const resource of [resources.validatingWebhookConfigurations, resources.mutatingWebhookConfigurations])
    await leave(resource as Resource<Configuration>)

  async function leave(resource: Resource<Configuration>): Promise<void> {
    const found = await kube.get(resource, { name: 'polynet' })
    for (const { namespaceSelector } of found.webhooks ?? [])
      namespaceSelector?.matchExpressions
        ?.find((each) => each.operator === 'NotIn')
        ?.values?.push(...namespaces)
    await kube.update(resource, found)
  }
}

interface Configuration extends KubeObject {
  webhooks?: { namespaceSelector?: { matchExpressions?: { operator: string; values?: string[] }[] } }[]
}

/** Asks until it is so. */
export async function until(what: string, ask: () => Promise<boolean>, withinMs = 120_000): Promise<void> {
  for (const end = Date.now() + withinMs; !(await ask()); await sleep(100))
    if (Date.now() > end) throw new Error(`wait for ${what}: not so after ${withinMs / 1000} s`)
}

export type { Side }
