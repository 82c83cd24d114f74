import type { Probe } from './reach.ts'

/**
 * A running cluster, as stories and people handle it. Two implementations:
 * `sim/` (one process, no kernel) and `lab/` (processes on the real kernel).
 */
export interface Place {
  readonly kind: 'sim' | 'lab'
  /** One request to the API server, as kubectl would send it. */
  api(request: ApiRequest): Promise<ApiAnswer>
  nodes(): Promise<string[]>
  /**
   * Sends a packet from each interface of each running pod to each address
   * of each other pod, and says what came of every one; with `pods`
   * (`<namespace>/<name>`), just between these.
   */
  reach(pods?: string[]): Promise<Probe[]>
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
  /** The API server stops answering, or answers again. Stories themselves still reach it. */
  outage(on: boolean): Promise<void>
  /** Everything Polynet owns on the node: kernel and files, a line each. */
  leftovers(node: string): Promise<string[]>
  /** Resolves when every node that is on is Ready. */
  ready(): Promise<void>
  close(): Promise<void>
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
