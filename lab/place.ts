import type { Bound, Probe } from './reach.ts'

/**
 * A running cluster, as stories and people handle it. Three implementations:
 * `sim/` (one process, no kernel), `lab/` (processes on the real kernel) and
 * `cluster/` (a real Kubernetes).
 */
export interface Place {
  readonly kind: 'sim' | 'lab' | 'cluster'
  /** One request to the API server, as kubectl would send it. */
  api(request: ApiRequest): Promise<ApiAnswer>
  nodes(): Promise<string[]>
  /**
   * Sends a packet from each interface of each running pod to each address
   * of each other pod, and says what came of every one; with `pods`
   * (`<namespace>/<name>`), just between these. `bound`: what holds a sender
   * to its interface, the interface itself or just its address.
   */
  reach(pods?: string[], bound?: Bound): Promise<Probe[]>
  /**
   * Sends one UDP packet from an interface of a pod and says who got it, sorted:
   * pods by `<namespace>/<name>`, `node <name>`, `outside`.
   */
  send(sent: Sent): Promise<string[]>
  /** Runs a program inside the pod's network namespace. `pod` is `<namespace>/<name>`. */
  exec(pod: string, argv: string[]): Promise<{ exit: number; output: string }>
  /**
   * As `kill -9`: the agent alone, or the node with its agent and pods. With
   * `at`, the agent kills itself as soon as it comes to that step
   * (`steps` of `src/agent/sandboxes.ts`), and comes back by itself.
   */
  kill(node: string, what: 'agent' | 'node', at?: string): Promise<void>
  /** Starts what `kill` ended: a node comes up as after a reboot, its kernel empty. */
  start(node: string): Promise<void>
  /** Takes a NIC out of the node, or puts it back in as new. */
  plug(node: string, nic: string, plugged: boolean): Promise<void>
  /** Asks CNI what no kubelet would, and says what it answered. */
  cni(node: string, asked: CniQuestion): Promise<{ exit: number; output: string }>
  /** The API server stops answering, or answers again. Stories themselves still reach it. */
  outage(on: boolean): Promise<void>
  /** Everything Polynet owns on the node: kernel and files, a line each; with `journal`, the journal's lines are enough. */
  leftovers(node: string, only?: 'journal'): Promise<string[]>
  /** Resolves when every node that is on is Ready. */
  ready(): Promise<void>
  close(): Promise<void>
}

export interface Sent {
  pod: string
  interface: string
  /** An address. */
  to: string
  /** What is forged: the sender's address and MAC, and whom the frame is for (else the gateway). */
  source?: string
  mac?: string
  toMac?: string
}

/** A call by a container runtime, of its own accord. */
export interface CniQuestion {
  command: 'ADD' | 'DEL' | 'CHECK' | 'GC'
  /** `<namespace>/<name>`; for GC, whose sandboxes are to stay, or the ID of one that never was. */
  pods: string[]
  /** Of the pod, but in a sandbox of its own by this name, made at its ADD and removed after its DEL; absent: the one the pod runs in. */
  sandbox?: string
}

export interface ApiRequest {
  method: string
  /** With the query. */
  path: string
  headers?: Record<string, string>
  body?: string
}

export interface ApiAnswer {
  status: number
  body: string
}
