import { eventsFrom } from '../src/agent/events.ts'
import type { Container, Pod } from '../src/api/core.ts'
import { resources } from '../src/api/resources.ts'
import { asFault, isFault } from '../src/lib/fault.ts'
import type { KubeletDeps } from './kubelet.ts'
import type { Process, Sandbox } from './runtime.ts'
import { ended } from './scheduler.ts'

/** One pod on its node, from its first sandbox to the confirmation that it is gone. */
export interface PodLife {
  /** What the API server now says about it. */
  update(pod: Pod): void
  /** It is not in the API server any more. */
  vanish(): void
  /** Resolves when nothing of it is left here. */
  readonly over: Promise<void>
}

interface Running {
  container: Container
  process?: Process
  restarts: number
  /** Set once it has ended for good. */
  exit?: number
  startedAt: string
}

const backoffFromMs = 250
const backoffToMs = 5000

/**
 * Lives the pod's life: a sandbox (again with backoff, with an Event, while
 * CNI refuses), init containers, containers with their restarts and liveness
 * probes, status, and when it is deleted: SIGTERM, SIGKILL, DEL until it
 * succeeds, and deletion confirmed. `crash` ends it where it stands.
 */
export function live(first: Pod, deps: KubeletDeps, crash: AbortSignal): PodLife {
  const { kube, runtime, clock, log, node } = deps
  const events = eventsFrom({ kube, clock, log, component: 'kubelet', host: node })
  const dying = new AbortController()
  const either = AbortSignal.any([dying.signal, crash])
  const now = () => new Date(clock.now()).toISOString()
  let pod = first
  let gone = false
  let running: Running[] = []
  let sandbox: Sandbox | undefined

  const over = (async () => {
    if (!ended(pod) && !doomed(pod)) await bringUp()
    // One that has ended for good gives its addresses back, and waits to be deleted.
    if (!crash.aborted) await takeDown()
    if (!doomed(pod) && !gone) await aborted(either)
    if (!crash.aborted) await confirm()
  })().catch((error) =>
    log.error(`live ${first.metadata.namespace}/${first.metadata.name}`, { error: String(error) }),
  )

  async function bringUp(): Promise<void> {
    for (let delayMs = backoffFromMs; !sandbox; delayMs = Math.min(delayMs * 2, backoffToMs)) {
      try {
        sandbox = await runtime.run(pod)
      } catch (error) {
        const { message } = asFault(error, 'run')
        events.tell(pod, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${message}`)
        await report('Pending')
        await clock.sleep(delayMs, either)
      }
      if (either.aborted) return
    }
    for (const container of pod.spec.initContainers ?? [])
      if (!(await initialised(sandbox, container)) || either.aborted) return
    running = pod.spec.containers.map((container) => ({ container, restarts: 0, startedAt: now() }))
    const lives = running.map((each) => keep(sandbox!, each))
    await report('Running')
    await Promise.race([Promise.all(lives), aborted(either)])
    if (!either.aborted) await report(running.every((each) => each.exit === 0) ? 'Succeeded' : 'Failed')
  }

  async function initialised(inside: Sandbox, container: Container): Promise<boolean> {
    for (let delayMs = backoffFromMs; !either.aborted; delayMs = Math.min(delayMs * 2, backoffToMs)) {
      const process = runtime.start(inside, pod, container)
      const exit = await Promise.race([process.ended, aborted(either)])
      if (exit === 0) return true
      process.kill('SIGKILL')
      if (pod.spec.restartPolicy === 'Never' && exit !== undefined) {
        await report('Failed')
        return false
      }
      await clock.sleep(delayMs, either)
    }
    return false
  }

  /** Runs the container, again as its policy says, until it has ended for good. */
  async function keep(inside: Sandbox, each: Running): Promise<void> {
    const policy = pod.spec.restartPolicy ?? 'Always'
    for (let delayMs = backoffFromMs; !either.aborted; delayMs = Math.min(delayMs * 2, backoffToMs)) {
      each.startedAt = now()
      const process = runtime.start(inside, pod, each.container)
      each.process = process
      if (each.restarts > 0) await report('Running')
      const watching = new AbortController()
      void watchLiveness(inside, each.container, process, watching.signal)
      const exit = await process.ended
      watching.abort()
      each.process = undefined
      if (either.aborted) return
      if (policy === 'Never' || (policy === 'OnFailure' && exit === 0)) {
        each.exit = exit
        return
      }
      await report('Running')
      await clock.sleep(delayMs, either)
      each.restarts++
    }
  }

  async function watchLiveness(
    inside: Sandbox,
    container: Container,
    process: Process,
    signal: AbortSignal,
  ): Promise<void> {
    const probe = container.livenessProbe as Probe | undefined
    if (!probe) return
    await clock.sleep((probe.initialDelaySeconds ?? 0) * 1000, signal)
    for (let failures = 0; !signal.aborted; ) {
      const alive = await isAlive(inside, probe)
      if (signal.aborted) return
      failures = alive ? 0 : failures + 1
      if (!alive) events.tell(pod, 'Warning', 'Unhealthy', `Liveness probe failed: ${container.name}`)
      if (failures >= (probe.failureThreshold ?? 3)) return process.kill('SIGKILL')
      await clock.sleep((probe.periodSeconds ?? 10) * 1000, signal)
    }
  }

  async function isAlive(inside: Sandbox, probe: Probe): Promise<boolean> {
    if (probe.exec?.command) return (await runtime.exec(inside, probe.exec.command)) === 0
    const port = probe.tcpSocket?.port ?? probe.httpGet?.port
    return typeof port === 'number' ? runtime.connects(inside, port) : true
  }

  async function takeDown(): Promise<void> {
    const processes = running.flatMap((each) => (each.process ? [each.process] : []))
    for (const process of processes) process.kill('SIGTERM')
    const graceMs = (pod.metadata.deletionGracePeriodSeconds ?? 1) * 1000
    await Promise.race([Promise.all(processes.map((each) => each.ended)), clock.sleep(graceMs, crash)])
    for (const process of processes) process.kill('SIGKILL')
    for (
      let delayMs = backoffFromMs;
      sandbox && !crash.aborted;
      delayMs = Math.min(delayMs * 2, backoffToMs)
    ) {
      try {
        await runtime.remove(sandbox)
        sandbox = undefined
      } catch (error) {
        const { message } = asFault(error, 'stop')
        events.tell(pod, 'Warning', 'FailedKillPod', `error killing pod: ${message}`)
        await clock.sleep(delayMs, crash)
      }
    }
  }

  async function confirm(): Promise<void> {
    for (let delayMs = 50; !gone && !crash.aborted; delayMs = Math.min(delayMs * 2, backoffToMs)) {
      try {
        const { namespace, name, uid } = pod.metadata
        await kube.delete(resources.pods, { namespace, name }, { uid, gracePeriodSeconds: 0 })
        return
      } catch (error) {
        if (isFault(error, 'missing', 'conflict')) return
        await clock.sleep(delayMs, crash)
      }
    }
  }

  /** Says how the pod is; what cannot be said now is said with the next change. */
  async function report(phase: NonNullable<Pod['status']>['phase']): Promise<void> {
    const ready = phase === 'Running' && running.every((each) => each.process !== undefined)
    const { namespace, name } = pod.metadata
    const status: Pod['status'] = {
      phase,
      hostIP: deps.addresses[0],
      ...(sandbox && sandbox.ips.length > 0
        ? { podIP: sandbox.ips[0], podIPs: sandbox.ips.map((ip) => ({ ip })) }
        : {}),
      startTime: pod.status?.startTime ?? now(),
      conditions: [
        condition('PodScheduled', true),
        condition('Initialized', sandbox !== undefined),
        condition('ContainersReady', ready),
        condition('Ready', ready),
      ],
      containerStatuses: pod.spec.containers.map((container) => {
        const each = running.find((r) => r.container === container)
        return {
          name: container.name,
          ready: each?.process !== undefined,
          started: each?.process !== undefined,
          restartCount: each?.restarts ?? 0,
          image: container.image ?? '',
          imageID: '',
          state: stateOf(each),
        }
      }),
    }
    for (let delayMs = 100; !crash.aborted; delayMs = Math.min(delayMs * 2, 2000))
      try {
        await kube.patch(
          resources.pods,
          { namespace, name },
          { type: 'merge', subresource: 'status', body: { status } },
        )
        return
      } catch (error) {
        if (!isFault(error, 'unavailable')) return
        await clock.sleep(delayMs, either)
      }
  }

  const condition = (type: string, holds: boolean) => {
    const before = pod.status?.conditions?.find((each) => each.type === type)
    const status = holds ? 'True' : 'False'
    return { type, status, lastTransitionTime: before?.status === status ? before.lastTransitionTime : now() }
  }

  return {
    update(next) {
      // An object of the same name that came later is another pod.
      pod = next
      if (doomed(next)) dying.abort()
    },
    vanish() {
      gone = true
      dying.abort()
    },
    over,
  }
}

interface Probe {
  exec?: { command?: string[] }
  tcpSocket?: { port?: unknown }
  httpGet?: { port?: unknown }
  initialDelaySeconds?: number
  periodSeconds?: number
  failureThreshold?: number
}

const doomed = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined

const aborted = (signal: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve(undefined)
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })

function stateOf(each: Running | undefined): Record<string, unknown> {
  if (each?.exit !== undefined)
    return { terminated: { exitCode: each.exit, reason: each.exit === 0 ? 'Completed' : 'Error' } }
  if (each?.process) return { running: { startedAt: each.startedAt } }
  return { waiting: { reason: each ? 'CrashLoopBackOff' : 'ContainerCreating' } }
}
