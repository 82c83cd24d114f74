import type { SandboxRecord } from '../agent/journal/record.ts'
import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { Node, Pod } from '../api/core.ts'
import type { NodeHoldings } from '../ipam/consistency.ts'

/** What was seen of a cluster: by its API server, and on the nodes that were looked at themselves. */
export interface View {
  nodes: Node[]
  pods: Pod[]
  blocks: AddressBlock[]
  slices: AttachmentSlice[]
  seen: SeenNode[]
}

export interface SeenNode {
  name: string
  /** Everything that Polynet owns in the kernel, as `Datapath.describe` lists it. */
  kernel: string[]
  /** What of the pods' ports is not as planned, as `Datapath.check` says it. */
  differences: string[]
  /** UIDs of the networks that the agent renders here. */
  networks: string[]
  sandboxes: SandboxRecord[]
  holdings: NodeHoldings
  /** Those of the sandboxes' namespaces that are gone. */
  goneNamespaces: string[]
  /** The files of the conf directory, in the order in which a runtime takes them. */
  confs: string[]
  /** Those of programs that read pods' annotations as Polynet does. */
  adaptors: string[]
  /** DELs that wait in the spool. */
  spooled: number
}

/** One thing that is not as it should be, and what to do about it. */
export interface Finding {
  /** Absent: it is the cluster's. */
  node?: string
  problem: string
  remedy: string
}

export const findingText = ({ node, problem, remedy }: Finding): string =>
  `${node === undefined ? '' : `node ${node}: `}${problem}; ${remedy}`
