/**
 * One execution of the shim, as the agent receives it. On the socket: the
 * line `polynet-cni/1 <program>\n`, then `CNI_…=value` strings each ended by a
 * zero byte, an empty one, and stdin as it came; then the shim closes its
 * writing side. The agent answers with the exit code as one digit and a
 * newline, then what goes to stdout, whose last byte is a newline too unless
 * it is empty: an answer that was cut short is not mistaken for a whole one.
 * `frame.ts` writes and reads both.
 */
export interface CniRequest {
  /** `polynet-cni` or `polynet-ipam`: the name the shim was executed by. */
  program: string
  command: 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION'
  containerID: string
  /** Path of the pod's network namespace; empty for a DEL after it is gone. */
  netns: string
  ifName: string
  /** CNI_ARGS, split. */
  args: Record<string, string>
  /** CNI_PATH, split. */
  path: string[]
  /** stdin: the network configuration. */
  config: CniConfig
}

export interface CniConfig {
  cniVersion: string
  name: string
  type: string
  prevResult?: unknown
  runtimeConfig?: Record<string, unknown>
  capabilities?: Record<string, boolean>
  ipam?: Record<string, unknown>
  'cni.dev/valid-attachments'?: { containerID: string; ifname: string }[]
  [key: string]: unknown
}
