import type { NetworkConf } from '../../cni/plugins.ts'
import type { CniResult } from '../../cni/result.ts'
import type { PortPlan } from '../../plan/node-plan.ts'
import type { HeldAttachment } from '../../plan/view.ts'
import type { Journal } from './journal.ts'

/**
 * What the journal knows of one sandbox, under `sandbox/<container id>`:
 * enough to take everything away again without asking anybody.
 */
export interface SandboxRecord {
  containerID: string
  pod: { namespace: string; name: string; uid: string }
  /** Path of its network namespace. */
  netns: string
  /** `adding` is written before anything is made, `deleting` before anything is taken away; a crash leaves them, and the next DEL, GC or ADD goes on. */
  state: 'adding' | 'added' | 'deleting'
  /** Why what is left of it could not be taken away when it was last tried. */
  problem?: string
  /** In the order they were asked for. */
  attachments: AttachmentRecord[]
  /** The whole pod's, as the runtime got it. */
  result?: CniResult
  /** The pod's annotations (`network-status`), while they still have to be written. */
  unreported?: Record<string, string>
}

export type AttachmentRecord = RenderedAttachment | ForeignAttachment

export interface RenderedAttachment {
  kind: 'polynet'
  interface: string
  network: { namespace: string; name: string; uid: string }
  default: boolean
  /** Absent until addresses are leased. */
  held?: HeldAttachment
  port?: PortPlan
  /** What the plugin was given that leads the host's ports to it. */
  ports?: Pick<ForeignAttachment, 'conf' | 'args' | 'capabilityArgs'>
}

export interface ForeignAttachment {
  kind: 'plugin'
  /** `<namespace>/<name>` of what the pod named, or the conf's own name. */
  name: string
  interface: string
  default: boolean
  /** Exactly what the plugins were given. */
  conf: NetworkConf
  args: Record<string, string>
  capabilityArgs: Record<string, unknown>
  result?: CniResult
}

const prefix = 'sandbox/'

export const recordKey = (containerID: string): string => `${prefix}${containerID}`

export const recordsOf = (journal: Journal): SandboxRecord[] => recordsIn(journal.entries())

export function recordsIn(entries: ReadonlyMap<string, unknown>): SandboxRecord[] {
  const records: SandboxRecord[] = []
  for (const [key, value] of entries) if (key.startsWith(prefix)) records.push(value as SandboxRecord)
  return records
}
