import type { Network } from '../api/network.ts'
import { startElection } from '../kube/leader/election.ts'
import type { Kube, Ref } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { startLoop } from '../reconcile/loop.ts'
import { makeDefaultNetwork } from './default-network.ts'
import type { Figures } from './metrics.ts'
import { type Controller, startController } from './start.ts'

export interface CandidateDeps {
  kube: Kube
  clock: Clock
  log: Log
  /** The default network, made when it is not there; absent: it is left to others. */
  defaultNetwork?: Network
  /** Where there may be several controllers; absent: this one works at once. */
  election?: {
    lease: Required<Ref>
    identity: string
    /** Its time never jumps. */
    clock: Clock
    /** Called when another may lead: the program ends at once. */
    lost: (why: string) => void
  }
}

export interface Candidate {
  /** Whether it is this one that works. */
  leads(): boolean
  /** What its work comes to, while it leads and has read everything. */
  figures(): Figures | undefined
  /** Why it could neither work nor take over, or nothing. */
  unready(): string | undefined
  /** Ends the work, then lets the next one begin. */
  close(): Promise<void>
}

/** One of the controllers of a cluster: works while it leads. */
export function startCandidate(deps: CandidateDeps): Candidate {
  const { kube, clock, log, defaultNetwork: network, election: standsFor } = deps
  let controller: Controller | undefined
  let starting: Promise<void> | undefined
  let closing = false
  let made = network === undefined

  const maker = startLoop({
    doing: 'make the default network',
    round: async () => {
      if (network && !made) await makeDefaultNetwork(kube, network)
      made = true
    },
    clock,
    log,
  })

  const begin = async () => {
    maker.wake()
    const started = await startController({ kube, clock, log })
    if (closing) return started.close()
    controller = started
    log.info('ready')
  }
  const work = () => {
    starting = begin().catch((error) => log.error(asFault(error, 'start the controller').message))
  }
  const election =
    standsFor && startElection({ kube, log, ...standsFor, timeOfDay: () => clock.now(), elected: work })
  if (!election) work()

  return {
    leads: () => !closing && (election ? election.leads() : true),
    figures: () => (closing ? undefined : controller?.figures()),
    unready() {
      if (closing) return 'the controller is closing'
      if (election && !election.leads())
        return election.leader() ? undefined : 'the API server was not reached yet; see whether it runs'
      return controller
        ? undefined
        : 'the controller has not read everything yet; see whether the API server answers'
    },
    async close() {
      closing = true
      await Promise.all([maker.close(), controller?.close()])
      await election?.close()
      // One that is still reading never comes to an end while the API server is away: nothing waits for it.
      void starting
    },
  }
}
