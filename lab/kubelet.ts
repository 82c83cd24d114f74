import type { Node } from '../src/api/core.ts'
import { isReady } from '../src/api/meta.ts'
import { resources } from '../src/api/resources.ts'
import { mirror } from '../src/kube/mirror.ts'
import type { Kube } from '../src/kube/port.ts'
import type { Clock } from '../src/lib/clock.ts'
import { asFault, isFault } from '../src/lib/fault.ts'
import type { Log } from '../src/lib/log.ts'
import { live, type PodLife } from './pod-life.ts'
import type { Runtime } from './runtime.ts'

export interface KubeletDeps {
  node: string
  /** The node's own, on eth0: IPv4 first. */
  addresses: string[]
  kube: Kube
  runtime: Runtime
  clock: Clock
  log: Log
}

export interface Kubelet {
  /** Lets go of the API server; pods stay as they are. */
  close(): void
}

/**
 * Stands in for a kubelet: registers the node, is Ready when CNI's STATUS
 * says so, has garbage collected, then brings up every pod that is bound to
 * the node and takes down those that are deleted.
 */
export function startKubelet(deps: KubeletDeps): Kubelet {
  const { kube, clock, log, node } = deps
  const stop = new AbortController()
  const lives = new Map<string, PodLife>()
  const pods = mirror(kube, resources.pods, { fields: `spec.nodeName=${node}` }, { clock, log })

  const sync = () => {
    const there = new Set<string>()
    for (const pod of pods.list()) {
      const uid = pod.metadata.uid ?? ''
      there.add(uid)
      const life = lives.get(uid)
      if (life) life.update(pod)
      else if (!stop.signal.aborted) {
        const started = live(pod, deps, stop.signal)
        lives.set(uid, started)
        void started.over.then(() => lives.delete(uid))
      }
    }
    for (const [uid, life] of lives) if (!there.has(uid)) life.vanish()
  }

  const run = async () => {
    await retried(() => register(deps), deps, stop.signal)
    await retried(() => deps.runtime.collect(), deps, stop.signal)
    await pods.synced
    if (stop.signal.aborted) return
    pods.onChange(sync)
    sync()
  }
  void run()
  void heartbeat(deps, stop.signal)

  return {
    close() {
      stop.abort()
      pods.close()
    },
  }
}

/** Until it succeeds: a node that boots waits for its API server and its network. */
async function retried(attempt: () => Promise<void>, deps: KubeletDeps, signal: AbortSignal): Promise<void> {
  for (let delayMs = 50; !signal.aborted; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await attempt()
    } catch (error) {
      deps.log.debug('boot', { node: deps.node, error: asFault(error, 'boot').message })
    }
    await deps.clock.sleep(delayMs, signal)
  }
}

const resource = resources.nodes

/** The node's object, made when it is not there. */
async function register({ kube, node, addresses }: KubeletDeps): Promise<void> {
  const capacity = { cpu: '2', memory: '4Gi', pods: '110' }
  const object: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: node, labels: { 'kubernetes.io/hostname': node, 'kubernetes.io/os': 'linux' } },
    spec: {},
  }
  try {
    await kube.create(resource, object)
  } catch (error) {
    if (!isFault(error, 'exists')) throw error
  }
  const current = await kube.get(resource, { name: node })
  const status = {
    addresses: [
      ...addresses.map((address) => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: node },
    ],
    capacity: { ...capacity, ...current.status?.capacity },
    allocatable: { ...capacity, ...current.status?.allocatable },
    nodeInfo: { kubeletVersion: 'v1.34.0-lab', operatingSystem: 'linux', containerRuntimeVersion: 'lab://1' },
  }
  await kube.patch(resource, { name: node }, { type: 'merge', subresource: 'status', body: { status } })
}

/** Keeps the node's Ready condition as CNI's STATUS has it. */
async function heartbeat(deps: KubeletDeps, signal: AbortSignal): Promise<void> {
  const { kube, clock, runtime, node } = deps
  let said: string | undefined
  while (!signal.aborted) {
    const problem = await runtime.status().then(
      () => '',
      (error) => asFault(error, 'ask CNI for its status').problem,
    )
    if (signal.aborted) return
    if (problem !== said)
      try {
        await sayReady(kube, node, problem, new Date(clock.now()).toISOString())
        said = problem
      } catch {
        // Said again at the next beat.
      }
    await clock.sleep(said === '' ? 2000 : 100, signal)
  }
}

const sayReady = (kube: Kube, name: string, problem: string, now: string): Promise<void> =>
  say(kube, name, now, {
    status: problem === '' ? 'True' : 'False',
    reason: problem === '' ? 'KubeletReady' : 'KubeletNotReady',
    message: problem === '' ? 'the network is ready' : `container runtime network not ready: ${problem}`,
  })

/** Resolves when the nodes that `names` says are Ready. */
export async function allReady(kube: Kube, clock: Clock, names: () => string[]): Promise<void> {
  for (;;) {
    const { items } = await kube.list(resource)
    const ready = new Set(items.filter(isReady).map(({ metadata }) => metadata.name))
    if (names().every((name) => ready.has(name))) return
    await clock.sleep(10)
  }
}

/** What Kubernetes' node controller says of a node that has not been heard of for a while. */
export const sayLost = (kube: Kube, name: string, clock: Clock): Promise<void> =>
  say(kube, name, new Date(clock.now()).toISOString(), {
    status: 'Unknown',
    reason: 'NodeStatusUnknown',
    message: 'Kubelet stopped posting node status.',
  })

async function say(
  kube: Kube,
  name: string,
  now: string,
  what: { status: string; reason: string; message: string },
): Promise<void> {
  const current: Pick<Node, 'status'> = await kube.get(resource, { name })
  const before = current.status?.conditions?.find((condition) => condition.type === 'Ready')
  const lastTransitionTime = before?.status === what.status ? before.lastTransitionTime : now
  const others = (current.status?.conditions ?? []).filter((condition) => condition.type !== 'Ready')
  const body = { status: { conditions: [...others, { type: 'Ready', ...what, lastTransitionTime }] } }
  await kube.patch(resource, { name }, { type: 'merge', subresource: 'status', body })
}
