import type { CniResult } from './result.ts'

/** The CNI plugins installed on the node, executed exactly as they are. */
export interface Plugins {
  /** The network configurations in the node's conf directory, in lexical order of file name; Polynet's own left out. */
  confs(): Promise<NetworkConf[]>
  /** Runs each plugin of the list in order, feeding each the result of the one before (SPEC 1.1 section 3). */
  add(invocation: Invocation): Promise<CniResult>
  /** In reverse order; goes on after an error and rejects with all of them at the end. */
  del(invocation: Invocation): Promise<void>
  check(invocation: Invocation): Promise<void>
}

/** A conf or conflist in the one form of a list. */
export interface NetworkConf {
  name: string
  cniVersion: string
  /** `disableCheck` of the list. */
  disableCheck?: boolean
  plugins: Record<string, unknown>[]
  /** Where it came from, for messages: a path or `NetworkAttachmentDefinition ns/name`. */
  source: string
}

export interface Invocation {
  conf: NetworkConf
  containerID: string
  netns: string
  ifName: string
  /** CNI_ARGS. */
  args: Record<string, string>
  /** Values for the capabilities that plugins of the list declare. */
  capabilityArgs: Record<string, unknown>
  /** The result of the ADD, for DEL and CHECK; for ADD, what the first plugin follows. */
  prevResult?: CniResult
}
