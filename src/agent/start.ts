import type { Pod } from '../api/core.ts'
import type { Nic } from '../api/host-physical-network.ts'
import { isRendered } from '../api/network.ts'
import { isOutOfService } from '../api/out-of-service.ts'
import { resources } from '../api/resources.ts'
import { errorAnswer } from '../cni/frame.ts'
import { isUID } from '../ipam/block.ts'
import { found } from '../kube/found.ts'
import { answers, asFault, Fault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import type { NetworkView } from '../plan/view.ts'
import { startLoop } from '../reconcile/loop.ts'
import { nodeAddresses } from './addresses/addresses.ts'
import type { Agent, AgentDeps } from './agent.ts'
import { askedPod } from './asked-pod.ts'
import { Attachable } from './attachable.ts'
import { Commands, type Holders } from './commands.ts'
import { eventsFrom } from './events.ts'
import { IpamPlugin } from './ipam-plugin.ts'
import { recordsOf } from './journal/record.ts'
import { sayReach } from './node-reach.ts'
import { type Registration, startRegistration } from './registration.ts'
import { Rendering } from './rendering.ts'
import { startReporter } from './report.ts'
import { Sandboxes } from './sandboxes.ts'
import { startSlices } from './slices.ts'
import { startTakingBack } from './taking-back.ts'
import { Views } from './views.ts'
import { watch } from './watched.ts'

interface Identity {
  name: string
  uid: string
}

/** Everything that needs to know who this node is. */
interface Core extends Holders {
  identity: Identity
  rendering: Rendering
  close(): Promise<void>
}

/**
 * Starts the agent of one node. It answers at once; what needs the API server
 * answers "try again later" until that was reached once. DELs need it only on
 * a node that it never was reached from.
 */
export function startAgent(deps: AgentDeps): Agent {
  const { kube, datapath, journal, plugins, clock, log, node, traces } = deps
  const watched = watch({ kube, clock, log, node })
  const views = new Views(watched, node, deps.closed)
  const { allowedPlugins, devices } = deps
  const attachable = new Attachable({
    watched,
    views,
    plugins,
    clock,
    ...(allowedPlugins ? { allowedPlugins } : {}),
    ...(devices ? { devices } : {}),
  })
  const events = eventsFrom({ kube, clock, log, component: 'agent', host: node })
  let core: Core | undefined
  let unready: string | undefined =
    `the API server was not reached yet; see whether it runs and node ${node} may ask it`
  let nics: Nic[] = []
  let registration: Registration | undefined
  let closed = false

  const begin = async () => {
    const known = (journal.get('node') ?? journal.previousBoot.get('node')) as Identity | undefined
    if (known?.name === node) await be(known)
    await watched.synced()
    const uid = watched.node.list()[0]?.metadata.uid
    if (!uid)
      throw new Fault('missing', `start the agent of node ${node}`, 'the API server has no Node of that name')
    const { sandboxes, rendering } = await be({ name: node, uid })
    await journal.put('node', { name: node, uid })
    await sandboxes.forgetPreviousBoot()
    // What refuses to go now is tried again beside.
    void commands.forgetGone(deps.hasNamespace ?? (() => true))
    await look()
    registration ??= startRegistration({
      ...{ kube, datapath, journal, watched, views, clock, log, look },
      node: { name: node, uid },
      nics: () => nics,
      doubt: () => core?.rendering.wake(),
    })
    await rendering.begin()
    unready = undefined
    log.info('ready', { node })
  }

  /** At the NICs, and at who has UDP ports that tunnels need; whether that is anything new. */
  const look = async (): Promise<boolean> => {
    const before = [nics, views.holders]
    nics = await datapath.nics()
    views.nics = nics
    views.holders = [...(await datapath.tunnels()), ...(await datapath.programsOn(views.tunnelPorts()))]
    const changed = !equal(before, [nics, views.holders])
    if (changed) registration?.found()
    return changed
  }

  /** What needs to know who this node is, for this one; that of another Node of its name ends. */
  const be = async (identity: Identity): Promise<Core> => {
    if (core?.identity.uid === identity.uid) return core
    await core?.close()
    await registration?.close()
    registration = undefined
    core = startCore(identity)
    return core
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
      mayHave: async ({ namespace, network, networkUID }) => {
        const self = await found(kube, resources.nodes, { name: node })
        if (self?.metadata.uid !== identity.uid || isOutOfService(self)) return false
        // Of pools that belong to no Network, nothing else decides.
        if (!isUID(networkUID)) return true
        await watched.networks.synced
        const there = watched.networks.get({ namespace, name: network })
        return there?.metadata.uid === networkUID && there.metadata.deletionTimestamp === undefined
      },
      warn: ({ pod: name, podUID }, message, reason = 'AddressTaken') => {
        const pod = watched.pods.list().find(({ metadata }) => metadata.uid === podUID)
        if (pod) events.tell(pod, 'Warning', reason, message)
        else log.warn(`pod ${name}: ${message}`)
      },
      doubtful: () => reached.wake(),
    })
    const ipam = new IpamPlugin(addresses, (ref) => watched.networks.get(ref))
    const prepare = async (pod: Pod) => {
      for (const network of await attachable.networksOf(pod))
        addresses.prepare(network).catch((error) => log.debug('prepare for a pod', { error: String(error) }))
    }
    // A pod that was placed here a moment ago finds its networks' addresses on the node when its ADD comes.
    const forget = watched.pods.onChange(({ type, object }) => {
      if (type === 'ADDED') void prepare(object)
    })
    const compareBlocks = watched.onBlock((block, gone) => addresses.blockSeen(block, gone))
    const mind = watched.node.onChange(() => addresses.nodeIs(watched.node.list()[0]?.metadata.uid))
    let rendered: NetworkView[] = []
    const reached = startLoop({
      doing: `say where tunnels of node ${node} end`,
      round: async () => {
        for (const { network, wire } of rendered) await addresses.reachedAt(network, wire.endpoint)
      },
      clock,
      log,
    })
    const rendering = new Rendering({
      watched,
      views,
      datapath,
      journal,
      clock,
      log,
      look,
      rendered: (now) => {
        rendered = now
        reached.wake()
      },
      refused: (network, { message }) => {
        log.warn(message)
        events.tell(network, 'Warning', 'Refused', `node ${node}: ${message}`)
      },
    })
    const isGoing = ({ namespace, name, uid }: { namespace: string; name: string; uid: string }) => {
      if (watched.networks.lastContact === undefined) return false
      const network = watched.networks.get({ namespace, name })
      return network?.metadata.uid !== uid || network.metadata.deletionTimestamp !== undefined
    }
    const slices = startSlices({
      kube,
      clock,
      log,
      node: identity,
      records: () => recordsOf(journal),
      isKept: (containerID, a) => addresses.isKept(containerID, a.interface),
      isGoing,
      there: (namespace) => watched.slicesIn(namespace),
    })
    const compare = watched.onOwnSlice(() => slices.seen())
    const hasten = watched.networks.onChange(({ type, object }) => {
      if (type === 'DELETED' || object.metadata.deletionTimestamp !== undefined) slices.wake()
    })
    const sandboxes = new Sandboxes({
      journal,
      datapath,
      plugins,
      addresses,
      log,
      rendered: (networks) => rendering.has(networks),
      report: (record) => reporter.report(record),
      at: deps.at ?? (() => {}),
      changed: (record) => slices.changed(record),
      ...(traces ? { did: (containerID: string, what: string) => traces.did(containerID, what) } : {}),
      left: (containerID) => takingBack.owe(containerID),
    })
    return {
      identity,
      sandboxes,
      ipam,
      rendering,
      async close() {
        forget()
        mind()
        compareBlocks()
        hasten()
        compare()
        await Promise.all([reporter, rendering, reached, slices, addresses].map((part) => part.close()))
      },
    }
  }

  const started = startLoop({ doing: `start the agent of node ${node}`, round: begin, clock, log })
  started.wake()

  const commands = new Commands({
    node,
    unready: () => unready,
    holders: () => core,
    podOf: (request) => askedPod(request, { kube, clock, watched }),
    attachable,
    plugins,
    events,
    log,
    ...(traces ? { traces } : {}),
  })

  const takingBack = startTakingBack({
    takeAway: (containerID) => commands.takeRestAway(containerID),
    clock,
    log,
  })

  return {
    async handle(request, isTold = false) {
      const begun = performance.now()
      traces?.begin(request)
      try {
        const answer = await commands.act(request)
        traces?.end(request)
        log.debug('answered', {
          command: request.command,
          container: request.containerID,
          ms: performance.now() - begun,
        })
        return answer
      } catch (error) {
        const fault = asFault(error, `answer ${request.command}`)
        traces?.end(request, fault.message)
        log[isTold ? 'debug' : 'warn'](fault.message, {
          command: request.command,
          container: request.containerID,
          kind: fault.kind,
        })
        return errorAnswer(answers[fault.kind].cni, fault.message, '', request.config.cniVersion)
      }
    },
    unready: () => unready,
    lacking: async () => unready ?? attachable.lacking(),
    left: () => takingBack.owed(),
    async leave() {
      await registration?.close()
      registration = undefined
      const self = await kube.get(resources.nodes, { name: node })
      await sayReach(kube, self, { labels: {}, nics: {} })
    },
    async close() {
      if (closed) return
      closed = true
      takingBack.close()
      unready = 'the agent is closing'
      // First: rounds may wait for what an API server that is away does not say.
      watched.close()
      await started.close()
      await registration?.close()
      await core?.close()
    },
  }
}
