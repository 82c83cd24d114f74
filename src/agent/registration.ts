import type { Nic } from '../api/host-physical-network.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { startLoop } from '../reconcile/loop.ts'
import { writeHost } from './host-physical-network.ts'
import type { Journal } from './journal/journal.ts'
import { reachOf, sayReach, takenBy } from './node-reach.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** How often it is looked who has the ports of tunnels, and how often while somebody else does. */
const portPollMs = 60_000
const takenPollMs = 2000

export interface RegistrationDeps {
  kube: Kube
  datapath: Datapath
  journal: Journal
  watched: Watched
  views: Views
  clock: Clock
  log: Log
  node: { name: string; uid: string }
  /** Looks at the NICs, and at who has the ports of tunnels; whether that is anything new. */
  look(): Promise<boolean>
  /** What the last look found. */
  nics(): Nic[]
  /** The kernel may no longer be what was made of it. */
  doubt(): void
}

export interface Registration {
  /** A look found something new: the node's objects are to say it. */
  found(): void
  close(): Promise<void>
}

/** Keeps the node's HostPhysicalNetwork, and what its Node says of it, as its NICs and the rules are. */
export function startRegistration(deps: RegistrationDeps): Registration {
  const { kube, datapath, journal, watched, views, clock, log, node } = deps
  const loop = startLoop({
    doing: `register node ${node.name}`,
    round: async () => {
      const mappings = views.mappings()
      const seen = { nics: deps.nics(), mappings, taken: views.nodeWireTaken() }
      await writeHost({ kube, clock, node }, watched.host.list()[0], seen)
      const [self] = watched.node.list()
      const taken = takenBy(journal, (ref) => watched.networks.get(ref))
      if (self) await sayReach(kube, self, reachOf(self, mappings, taken))
    },
    clock,
    log,
    batchMs: 20,
  })
  const lookAgain = async (doubtful: boolean) => {
    try {
      if ((await deps.look()) || doubtful) deps.doubt()
    } catch (error) {
      log.warn(asFault(error, 'look at the NICs').message)
    }
  }
  const forgetChanges = watched.onChange((kind) => {
    if (kind === 'node' || kind === 'host' || kind === 'physicalNetworks') loop.wake()
    // One that is new, or has its port now.
    if (kind === 'physicalNetworks') void lookAgain(false)
  })
  const forgetNics = datapath.onNics(() => lookAgain(true))
  let stopped = false
  let pause = new AbortController()
  // Nothing tells who takes a port and lets it go.
  const lookEverySoOften = async () => {
    while (!stopped) {
      pause = new AbortController()
      const taken = views.holders.some((holder) => !('vni' in holder))
      await clock.sleep(taken ? takenPollMs : portPollMs, pause.signal)
      if (!stopped) await lookAgain(false)
    }
  }
  void lookEverySoOften()
  loop.wake()
  return {
    found() {
      loop.wake()
      pause.abort('found')
    },
    close() {
      forgetChanges()
      forgetNics()
      stopped = true
      pause.abort('closed')
      return loop.close()
    },
  }
}
