import type { Nic } from '../api/host-physical-network.ts'
import type { ForeignProgram, ForeignTunnel } from '../plan/foreign-tunnel.ts'
import type { NodePlan, PortPlan } from '../plan/node-plan.ts'

/**
 * One node's kernel. Two implementations, `linux/` and `memory/`, held to the
 * same `conformance.ts`. Repeating any call is harmless. Calls may overlap;
 * each takes effect as a whole, in the order they were made.
 */
export interface Datapath {
  /**
   * Makes the kernel as `plan` says, whatever it was before: creates what is
   * missing, corrects what differs, removes what Polynet owns and the plan
   * does not have. What is right already is not touched, so running traffic
   * loses no packet. A port whose pod namespace is gone is left out and named
   * in the report, and so is one that its pod, or a NIC that is gone, has made
   * impossible: what there is of it stays. A network's namespace in which the
   * kernel refuses something is named as well, and left as it is by then, with
   * its ports' and its uplink's other ends; the other networks are made right.
   * Rejects with `kernel`, naming the first other object the kernel refused;
   * what was done till then stays, and the next call goes on.
   * `unchanged`: keys of ports that were planned the same when they were last
   * made right. What is inside their pods may be left unseen until a call
   * that does not say so.
   */
  replace(plan: NodePlan, unchanged?: string[]): Promise<Report>
  /**
   * Adds ports to what is there, in one batch, enforcement first. All or
   * nothing: when one fails, nothing of any of them is left and it rejects.
   * A port that is there already is made right. Resolves to each pod-side MAC.
   */
  attach(ports: PortPlan[]): Promise<{ key: string; mac: string }[]>
  /** Takes ports away; those that are gone already count as taken away. Calls are batched. */
  detach(ports: PortPlan[]): Promise<void>
  /** What of these ports is not as planned, a sentence each; empty when all is right (CNI CHECK). */
  check(ports: PortPlan[]): Promise<string[]>
  /** The host's NICs, sorted by name: hardware and what stands for it, none of Polynet's own links. */
  nics(): Promise<Nic[]>
  /** VXLAN devices in the host's namespace that are not Polynet's, sorted by name. */
  tunnels(): Promise<ForeignTunnel[]>
  /**
   * Which of these UDP ports somebody has in the host's namespace who is no
   * VXLAN device, neither Polynet's nor another's: no tunnel can have it as long
   * as that goes on. Sorted by port; nothing tells when this changes.
   */
  programsOn(ports: number[]): Promise<ForeignProgram[]>
  /** Calls back when NICs, their addresses or others' tunnels may have changed. Returns how to stop. */
  onNics(changed: () => void): () => void
  /** Everything Polynet owns in this kernel, a line each, sorted: for tests and people. Unchanged state, unchanged text. */
  describe(): Promise<string[]>
  close(): Promise<void>
}

export interface Report {
  /** What was changed, a line each (`+ link host pn0`, `- route …`); empty when all was right. */
  changes: string[]
  /** Keys of ports whose pod namespace is gone. */
  orphans: string[]
  /** Why ports could not be made right, a sentence each that leads with the port's key; absent where all could. */
  spoilt?: string[]
  /** Namespaces that could not be made right, and what the kernel refused first in each; absent where all could. */
  refused?: { netns: string; why: string }[]
}
