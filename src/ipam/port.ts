import type { Network } from '../api/network.ts'

/**
 * The addresses of this node, as the agent uses them. Durable before the
 * promise resolves; none needs the API server once the network's block is on
 * the node, except addresses asked for by value, sticky ones and claims.
 */
export interface Addresses {
  /** Has a block of every family of `network` on this node, so that a later `lease` asks nobody. */
  prepare(network: Network): Promise<void>
  /**
   * The addresses `owner` holds in `network` once it holds them, one per
   * family. The same owner asking again gets the same. Rejects with
   * `exhausted` (nothing free), `invalid` (asked for what the network cannot
   * give) or `unavailable` (a block is needed and the API server is away).
   */
  lease(ask: Ask): Promise<Lease>
  /** Gives back all that `owner` holds; the addresses rest before anyone gets them. Nothing held is fine. */
  release(owner: Owner): Promise<void>
  /** Everyone who holds something here. */
  owners(): Owner[]
  close(): Promise<void>
}

/** An address belongs to one interface of one sandbox. */
export interface Owner {
  podUID: string
  containerID: string
  interface: string
  /** `<namespace>/<name>`, for messages and AttachmentSlices. */
  pod: string
  /** Its sandbox is in the journal from its making on: where it is not, this was left over. */
  journaled?: true
}

export interface Ask {
  network: Network
  owner: Owner
  /** These addresses and no others. */
  ips?: string[]
  /** Kept under this name beyond the pod: `claim ns/name`, `statefulset-pod ns/name`. */
  holder?: string
}

export interface Lease {
  addresses: LeasedAddress[]
}

export interface LeasedAddress {
  /** With the subnet's prefix length: `10.1.0.7/16`. */
  address: string
  gateway?: string
}
