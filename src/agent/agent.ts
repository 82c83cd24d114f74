import type { Plugins } from '../cni/plugins.ts'
import type { CniRequest } from '../cni/request.ts'
import type { Datapath } from '../datapath/port.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import type { Devices } from './devices.ts'
import type { Journal } from './journal/journal.ts'
import type { Step } from './sandboxes.ts'
import type { Traces } from './traces.ts'

export interface AgentDeps {
  node: string
  kube: Kube
  datapath: Datapath
  journal: Journal
  plugins: Plugins
  clock: Clock
  log: Log
  /** Prefixes that no logical network reaches, nor pods have as eth0, beside what the agent knows: services, the API server. */
  closed?: readonly string[]
  /** Plugins that the configurations of every namespace may execute; absent: those of namespaces that say so alone. */
  allowedPlugins?: readonly string[]
  /** What the kubelet gave to a pod, by its UID; absent: nothing. */
  devices?: (podUID: string) => Devices
  /** Whether a pod's namespace is there; absent: all are. */
  hasNamespace?: (path: string) => boolean
  /** Where the steps of ADDs and DELs are written down for people; absent: nowhere. */
  traces?: Traces
  /** Called at each step of ADD and DEL; a test dies there. */
  at?: (step: Step) => void
}

export interface Agent {
  /** Answers one execution of the shim. Never rejects. A failure is logged, unless whoever asks says that he tells of it himself. */
  handle(request: CniRequest, isTold?: boolean): Promise<CniAnswer>
  /** Why it is not ready, or nothing. */
  unready(): string | undefined
  /** Sandboxes that something could not be taken away of; it is tried again and again. */
  left(): string[]
  /** Why a pod that asks for nothing would get no network, in whatever namespace, or nothing. */
  lacking(): Promise<string | undefined>
  /** Takes from this node's Node what the scheduler was told of it; before `close`, when nobody will say it again. */
  leave(): Promise<void>
  close(): Promise<void>
}

export interface CniAnswer {
  exit: number
  stdout: string
}
