import { Agent, request } from 'node:https'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ApiAnswer, ApiRequest, CniQuestion, Place, Sent } from '../lab/place.ts'
import { type Bound, endpointNamed, endpointsOf } from '../lab/reach.ts'
import type { Pod } from '../src/api/core.ts'
import { isReady } from '../src/api/meta.ts'
import { resources } from '../src/api/resources.ts'
import { apiServer } from '../src/kube/cluster/config.ts'
import { connect } from '../src/kube/cluster/connect.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Cluster } from './cluster.ts'
import { heldOn, leftoversOn } from './leftovers.ts'
import type { PodEndpoint } from './machines.ts'
import { plan } from './wiring.ts'

/** A real cluster on which Polynet is installed, as stories handle it. Closing it leaves the cluster as it is. */
export async function clusterPlace(cluster: Cluster): Promise<Place> {
  const server = apiServer(cluster.kubeconfig)
  const agent = new Agent({ keepAlive: true, ca: server.ca })
  const kube = await connect(cluster.kubeconfig)
  let reaching: Promise<unknown> = Promise.resolve()

  const pods = async (): Promise<Pod[]> => (await kube.list(resources.pods)).items
  const podOf = async (name: string): Promise<Pod> => {
    const [namespace = '', pod = ''] = name.split('/')
    return kube.get(resources.pods, { namespace, name: pod })
  }
  const uidOf = (pod: Pod): string => pod.metadata.uid ?? ''

  return {
    kind: 'cluster',
    api: (asked) => ask(asked),
    nodes: () => cluster.nodes(),

    /** One round after another: all use the same port. */
    reach(only?: string[], bound?: Bound) {
      const round = reaching.then(async () => {
        const endpoints = (await pods()).flatMap((pod): PodEndpoint[] => {
          const name = fullName(pod)
          const asked = only ? only.includes(name) : !isSystem(pod.metadata.namespace)
          if (!asked || pod.spec.hostNetwork || pod.status?.phase !== 'Running') return []
          return endpointsOf(pod).map((endpoint) => ({ uid: uidOf(pod), endpoint }))
        })
        return cluster.reach(endpoints, bound)
      })
      reaching = round.catch(() => {})
      return round
    },

    async send(sent: Sent) {
      const all = (await pods()).filter((pod) => !pod.spec.hostNetwork)
      const endpoint = endpointNamed(all.flatMap(endpointsOf), sent)
      const uid = uidOf(await podOf(sent.pod))
      const others = all
        .filter((pod) => fullName(pod) !== sent.pod && pod.status?.phase === 'Running')
        .map((pod) => ({ name: fullName(pod), uid: uidOf(pod) }))
      return cluster.send(sent, { uid, endpoint }, others)
    },

    exec: async (pod, argv) => cluster.execInPod(uidOf(await podOf(pod)), argv),

    async kill(node, what, at) {
      if (what === 'node') return cluster.kill(node)
      if (at !== undefined) await cluster.exec(node, ['sh', '-c', `echo ${at} > /var/lib/polynet/die-at`])
      if ((await cluster.killAgent(node)) === 0)
        throw new Fault('missing', `kill the agent of ${node}`, 'none runs there')
    },

    start: (node) => cluster.start(node),
    plug: (node, nic, plugged) => cluster.plug(node, nic, plugged),

    cni(_node: string, { command }: CniQuestion) {
      throw new Fault('unsupported', `ask CNI to ${command}`, 'containerd asks here; play it on the lab')
    },

    /** Pods on the nodes' own network reach it by its Service; kubelets and people do not. */
    async outage(on) {
      const closed = `add table inet outage; add chain inet outage out { type filter hook output priority -150; };
        add rule inet outage out ip daddr ${plan.apiService} meta l4proto tcp reject with tcp reset`
      const commands = `add table inet outage; delete table inet outage; ${on ? closed : ''}`
      for (const node of await cluster.nodes()) {
        const { exit, output } = await cluster.exec(node, ['nft', commands])
        if (exit !== 0) throw new Fault('kernel', `cut ${node} off from the API server`, output.trim())
      }
    },

    leftovers: (node, only) => (only ? heldOn(cluster, node) : leftoversOn(cluster, node)),

    async ready() {
      await cluster.ready()
      for (;;) {
        const nodes = (await kube.list(resources.nodes)).items
        const agents = (await pods()).filter((pod) => isReady(pod) && isAgent(pod))
        if (nodes.every(isReady) && agents.length === nodes.length) return
        await sleep(200)
      }
    },

    async close() {
      kube.close()
      agent.destroy()
    },
  }

  function ask(asked: ApiRequest): Promise<ApiAnswer> {
    const { method, path } = asked
    const body = method === 'POST' ? here(asked.body) : asked.body
    const headers = {
      ...asked.headers,
      authorization: server.authorization?.() ?? '',
      'content-length': Buffer.byteLength(body ?? ''),
    }
    return new Promise((resolve, reject) => {
      const sent = request(new URL(path, server.url), { method, headers, agent }, async (answer) =>
        resolve({ status: answer.statusCode ?? 0, body: await text(answer) }),
      )
      sent.on('error', (error) => reject(new Fault('unavailable', `${method} ${path}`, error.message)))
      sent.end(body)
    })
  }
}

const fullName = (pod: Pod): string => `${pod.metadata.namespace}/${pod.metadata.name}`

/** Namespaces of the cluster itself, whose pods no story speaks of. */
export const isSystem = (namespace = ''): boolean => /^(kube-.*|polynet-system)$/.test(namespace)

const isAgent = (pod: Pod): boolean =>
  pod.metadata.namespace === 'polynet-system' && pod.metadata.name.startsWith('polynet-agent-')

interface PodSpec {
  terminationGracePeriodSeconds?: number
  containers?: { imagePullPolicy?: string }[]
  initContainers?: { imagePullPolicy?: string }[]
}

/**
 * A pod, or what makes pods, for machines that no registry can be reached
 * from: an image is taken as it is there. And its end is not waited for,
 * where the page does not say how long.
 */
function here(body: string | undefined): string | undefined {
  if (!body?.includes('"containers"')) return body
  const object = JSON.parse(body) as { spec?: PodSpec & { template?: { spec?: PodSpec } } }
  const spec = object.spec?.template?.spec ?? object.spec
  if (!spec) return body
  spec.terminationGracePeriodSeconds ??= 1
  for (const each of [...(spec.containers ?? []), ...(spec.initContainers ?? [])])
    each.imagePullPolicy ??= 'IfNotPresent'
  return JSON.stringify(object)
}
