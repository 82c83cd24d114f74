import type { Pod } from '../api/core.ts'
import type { Nic } from '../api/host-physical-network.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { errorAnswer } from '../cni/frame.ts'
import type { CniRequest } from '../cni/request.ts'
import type { CniResult } from '../cni/result.ts'
import { convertResult } from '../cni/versions.ts'
import { answers, asFault, Fault, isFault } from '../lib/fault.ts'
import { startLoop } from '../reconcile/loop.ts'
import { nodeAddresses } from './addresses.ts'
import type { Agent, AgentDeps, CniAnswer } from './agent.ts'
import { eventsFrom } from './events.ts'
import { IpamPlugin } from './ipam-plugin.ts'
import { recordsOf } from './record.ts'
import { register } from './register.ts'
import { Rendering } from './rendering.ts'
import { startReporter } from './report.ts'
import { Sandboxes } from './sandboxes.ts'
import { startSlices } from './slices.ts'
import { Turns } from './turns.ts'
import { Views } from './views.ts'
import { type Wanted, wantedBy } from './wanted.ts'
import { watch } from './watched.ts'

/** How long an ADD waits for the API server to show a pod that the runtime knows already. */
const podWithinMs = 2000

interface Identity {
  name: string
  uid: string
}

/** How long an ADD waits for a network that this node cannot render yet. */
const networkWithinMs = 3000

/** Everything that needs to know who this node is. */
interface Core {
  sandboxes: Sandboxes
  ipam: IpamPlugin
  rendering: Rendering
  close(): Promise<void>
}

/**
 * Starts the agent of one node. It answers at once; what needs the API server
 * answers "try again later" until that was reached once. DELs need it only on
 * a node that it never was reached from.
 */
export function startAgent(deps: AgentDeps): Agent {
  const { kube, datapath, journal, plugins, clock, log, node } = deps
  const watched = watch({ kube, clock, log, node })
  const views = new Views(watched, node, deps.closed)
  const events = eventsFrom({ kube, clock, log, component: 'agent', host: node })
  const turns = new Turns()
  let core: Core | undefined
  let unready: string | undefined =
    `the API server was not reached yet; see whether it runs and node ${node} may ask it`
  let nics: Nic[] = []
  let closed = false

  const begin = async () => {
    const known = (journal.get('node') ?? journal.previousBoot.get('node')) as Identity | undefined
    if (known?.name === node) core = startCore(known)
    await watched.synced()
    const uid = watched.node.list()[0]?.metadata.uid
    if (!uid)
      throw new Fault('missing', `start the agent of node ${node}`, 'the API server has no Node of that name')
    if (known?.uid !== uid) {
      await core?.close()
      core = startCore({ name: node, uid })
    }
    await journal.put('node', { name: node, uid })
    await (core as Core).sandboxes.forgetPreviousBoot()
    nics = await datapath.nics()
    views.nics = nics
    const registration = startLoop({
      doing: `register node ${node}`,
      round: () =>
        register({ kube, clock, node: { name: node, uid } }, watched.host.list()[0], nics, views.mappings()),
      clock,
      log,
      batchMs: 20,
    })
    watched.onChange(() => registration.wake())
    const forget = datapath.onNics(async () => {
      try {
        nics = await datapath.nics()
        views.nics = nics
        registration.wake()
        core?.rendering.wake()
      } catch (error) {
        log.warn(asFault(error, 'look at the NICs').message)
      }
    })
    stops.push(
      async () => forget(),
      () => registration.close(),
    )
    registration.wake()
    await (core as Core).rendering.begin()
    unready = undefined
    log.info('ready', { node })
  }

  const startCore = (identity: Identity): Core => {
    const reporter = startReporter({ kube, journal, clock, log })
    const addresses = nodeAddresses({
      kube,
      journal,
      node: identity,
      clock,
      log,
      // Addresses for other plugins are on no tunnel.
      endpointOf: (network) => (isRendered(network) ? views.wire(network).endpoint : undefined),
    })
    const ipam = new IpamPlugin(addresses, (ref) => watched.networks.get(ref))
    const prepare = async (pod: Pod) => {
      for (const network of await networksOf(pod))
        addresses.prepare(network).catch((error) => log.debug('prepare for a pod', { error: String(error) }))
    }
    // A pod that was placed here a moment ago finds its networks' addresses on the node when its ADD comes.
    const forget = watched.pods.onChange(({ type, object }) => {
      if (type === 'ADDED') void prepare(object)
    })
    const mind = watched.node.onChange(() => addresses.nodeIs(watched.node.list()[0]?.metadata.uid))
    const rendering = new Rendering({
      watched,
      views,
      datapath,
      clock,
      log,
      journal,
    })
    const slices = startSlices({ kube, clock, log, node: identity, records: () => recordsOf(journal) })
    const sandboxes = new Sandboxes({
      journal,
      datapath,
      plugins,
      addresses,
      log,
      view: (network) => views.network(network),
      rendered: (networks) => rendering.has(networks),
      report: (record) => reporter.report(record),
      at: deps.at ?? (() => {}),
      changed: () => slices.wake(),
    })
    return {
      sandboxes,
      ipam,
      rendering,
      async close() {
        forget()
        mind()
        await Promise.all([reporter.close(), rendering.close(), slices.close(), addresses.close()])
      },
    }
  }

  const stops: (() => Promise<void>)[] = []
  const started = startLoop({ doing: `start the agent of node ${node}`, round: begin, clock, log })
  started.wake()

  const add = async (request: CniRequest): Promise<CniAnswer> => {
    const { sandboxes } = ready()
    const pod = await podOf(request)
    try {
      // What was made once is what the pod has, whatever its annotations say by now.
      const made = sandboxes.find(request.containerID)?.state === 'added'
      const wanted = made ? [] : await attachable(pod, request)
      const result = await sandboxes.add(pod, request, wanted)
      return answerOf(result, request)
    } catch (error) {
      const fault = asFault(error, `attach pod ${pod.metadata.namespace}/${pod.metadata.name}`)
      events.tell(pod, 'Warning', reasons[fault.kind] ?? 'AttachmentFailed', fault.message)
      throw fault
    }
  }

  /** What the pod wants, once this node can render it: a network that was made a moment ago has no identifier yet. */
  const attachable = async (pod: Pod, request: CniRequest): Promise<Wanted[]> => {
    const late = clock.now() + networkWithinMs
    for (;;) {
      const wanted = wantedBy(pod, await surroundings(), request.args)
      try {
        for (const { by } of wanted) if (by.kind === 'polynet') views.network(by.network)
        return wanted
      } catch (error) {
        const left = late - clock.now()
        if (!isFault(error, 'unavailable') || left <= 0) throw error
        await changeWithin(left)
      }
    }
  }

  const surroundings = async () => ({
    watched,
    views,
    confs: await plugins.confs(),
    ...(deps.allowedPlugins ? { allowedPlugins: deps.allowedPlugins } : {}),
  })

  const changeWithin = async (ms: number): Promise<void> => {
    const change = new AbortController()
    const forget = watched.onChange(() => change.abort())
    await clock.sleep(ms, change.signal)
    forget()
  }

  const ready = (): Core => {
    if (core && !unready) return core
    throw new Fault(
      'unavailable',
      `attach a pod on node ${node}`,
      unready ?? 'the agent is starting; try again',
    )
  }

  const known = (): Core => {
    if (core) return core
    throw new Fault('unavailable', `look after node ${node}`, unready ?? 'the agent is starting; try again')
  }

  const podOf = async ({ args, containerID }: CniRequest): Promise<Pod> => {
    const ref = { namespace: args.K8S_POD_NAMESPACE ?? '', name: args.K8S_POD_NAME ?? '' }
    const doing = `find the pod of sandbox ${containerID}`
    if (!ref.namespace || !ref.name)
      throw new Fault(
        'invalid',
        doing,
        'CNI_ARGS names none; a runtime for Kubernetes sets K8S_POD_NAMESPACE and K8S_POD_NAME',
      )
    const right = (pod: Pod | undefined) =>
      pod && (!args.K8S_POD_UID || pod.metadata.uid === args.K8S_POD_UID || isMirrorOf(pod, args.K8S_POD_UID))
        ? pod
        : undefined
    const seen = right(watched.pods.get(ref))
    if (seen) return seen
    const deadline = new AbortController()
    const asked = kube.get(resources.pods, ref).catch((error) => {
      if (isFault(error, 'missing')) return undefined
      throw error
    })
    const late = clock.sleep(podWithinMs, deadline.signal).then(() => undefined)
    try {
      const pod = right(await Promise.race([asked, late]))
      if (pod) return pod
    } finally {
      deadline.abort()
    }
    throw new Fault(
      'missing',
      doing,
      `the API server shows no pod ${ref.namespace}/${ref.name} with UID ${args.K8S_POD_UID ?? '(any)'}; it may be gone already`,
    )
  }

  const gc = (request: CniRequest) =>
    turns.alone(async () => {
      const { sandboxes } = known()
      const valid = new Set((request.config['cni.dev/valid-attachments'] ?? []).map((a) => a.containerID))
      const errors: string[] = []
      for (const containerID of sandboxes.known()) {
        if (valid.has(containerID)) continue
        try {
          await sandboxes.del(containerID)
        } catch (error) {
          errors.push(asFault(error, `collect sandbox ${containerID}`).message)
        }
      }
      if (errors.length > 0) throw new Fault('plugin', 'collect garbage', errors.join('; '))
    })

  /** The networks that Polynet renders among those the pod asks for; none where it asks wrongly, which its ADD will say. */
  const networksOf = async (pod: Pod): Promise<Network[]> => {
    try {
      return wantedBy(pod, await surroundings(), {}).flatMap(({ by }) =>
        by.kind === 'polynet' ? [by.network] : [],
      )
    } catch {
      return []
    }
  }

  const actAsIpam = async (request: CniRequest): Promise<CniAnswer> => {
    const { ipam } = request.command === 'ADD' ? ready() : known()
    switch (request.command) {
      case 'ADD':
        return answerOf(await ipam.add(request), request)
      case 'DEL':
        await ipam.del(request)
        return done
      case 'CHECK':
        await ipam.check(request)
        return done
      default:
        return done
    }
  }

  const act = async (request: CniRequest): Promise<CniAnswer> => {
    // The plugin that asks runs within its pod's turn already.
    if (request.program === 'polynet-ipam') return actAsIpam(request)
    switch (request.command) {
      case 'ADD':
        return turns.take(request.containerID, () => add(request))
      case 'DEL':
        await turns.take(request.containerID, () => known().sandboxes.del(request.containerID))
        return done
      case 'CHECK': {
        const differences = await turns.take(request.containerID, () =>
          known().sandboxes.check(request.containerID),
        )
        if (differences.length > 0)
          throw new Fault('kernel', `check sandbox ${request.containerID}`, differences.join('; '))
        return done
      }
      case 'GC':
        await gc(request)
        return done
      case 'STATUS':
        return unready === undefined
          ? done
          : errorAnswer(50, `node ${node} cannot attach pods yet`, unready, request.config.cniVersion)
      default:
        throw new Fault('unsupported', `answer ${request.command}`, 'the shim answers VERSION itself')
    }
  }

  return {
    async handle(request) {
      const begun = performance.now()
      try {
        const answer = await act(request)
        log.debug('answered', {
          command: request.command,
          container: request.containerID,
          ms: performance.now() - begun,
        })
        return answer
      } catch (error) {
        const fault = asFault(error, `answer ${request.command}`)
        log.warn(fault.message, {
          command: request.command,
          container: request.containerID,
          kind: fault.kind,
        })
        return errorAnswer(answers[fault.kind].cni, fault.message, '', request.config.cniVersion)
      }
    },
    unready: () => unready,
    async close() {
      if (closed) return
      closed = true
      unready = 'the agent is closing'
      await started.close()
      for (const stop of stops) await stop()
      await core?.close()
      watched.close()
    },
  }
}

const done: CniAnswer = { exit: 0, stdout: '' }

const answerOf = (result: CniResult, { config }: CniRequest): CniAnswer => ({
  exit: 0,
  stdout: JSON.stringify(convertResult(result, config.cniVersion)),
})

const isRendered = (network: Network): boolean => (network.spec.plugin ?? 'polynet') === 'polynet'

/** Reasons of the Events that an ADD which fails leaves on its pod. */
const reasons: Record<string, string> = {
  invalid: 'InvalidNetworkRequest',
  forbidden: 'NetworkNotAllowed',
  exhausted: 'AddressesExhausted',
  missing: 'NetworkMissing',
  plugin: 'PluginFailed',
}

/** A static pod's UID in the runtime is its config's hash, which its mirror in the API server carries as an annotation. */
const isMirrorOf = (pod: Pod, uid: string): boolean =>
  pod.metadata.annotations?.['kubernetes.io/config.hash'] === uid
