import type { Container, Pod } from '../src/api/core.ts'

/**
 * What a container runtime does for a kubelet. Two implementations: `lab/`
 * (namespaces and processes, CNI by executing the shim) and `sim/` (CNI by
 * asking the agent).
 */
export interface Runtime {
  /** Makes a sandbox and has CNI attach it (not for hostNetwork). When it rejects, nothing is left of it. */
  run(pod: Pod): Promise<Sandbox>
  /** Starts a container in it; its output goes to its log. */
  start(sandbox: Sandbox, pod: Pod, container: Container): Process
  /** Ends what runs in it, has CNI detach it, and removes it. Repeating is harmless; rejects when CNI does. */
  remove(sandbox: Sandbox): Promise<void>
  /** Runs a program in the sandbox, as a probe does; resolves to its exit code. */
  exec(sandbox: Sandbox, argv: string[]): Promise<number>
  /** Whether the node can connect to this TCP port of the sandbox. */
  connects(sandbox: Sandbox, port: number): Promise<boolean>
  /** CNI STATUS; rejects while the network is not ready. */
  status(): Promise<void>
  /** CNI GC: lets go of everything that none of the sandboxes here holds. */
  collect(): Promise<void>
}

export interface Sandbox {
  /** The container ID that CNI gets. */
  id: string
  /** Path of its network namespace; empty for hostNetwork. */
  netns: string
  pod: { namespace: string; name: string; uid: string }
  /** Of eth0, without prefix length, the first family first. */
  ips: string[]
}

/** CNI_ARGS of a sandbox, as containerd sets them. */
export const argsOf = ({ id, pod }: Pick<Sandbox, 'id' | 'pod'>): Record<string, string> => ({
  IgnoreUnknown: '1',
  K8S_POD_NAMESPACE: pod.namespace,
  K8S_POD_NAME: pod.name,
  K8S_POD_INFRA_CONTAINER_ID: id,
  K8S_POD_UID: pod.uid,
})

export interface Process {
  /** Resolves to the exit code (128 + signal for a signal). */
  readonly ended: Promise<number>
  kill(signal: 'SIGTERM' | 'SIGKILL'): void
}
