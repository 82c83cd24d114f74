import type { KubeObject } from './meta.ts'

/**
 * A block of a network's addresses leased to one node, or a single address
 * leased for one owner. Its name is made of the network's UID, the first
 * address in hex and the prefix length, so that the API server itself forbids
 * two owners (`blockName` in ipam).
 */
export interface AddressBlock extends KubeObject {
  spec: {
    network: string
    networkUID: string
    cidr: string
    node: string
    /** A node that comes back under another UID does not own its blocks any more. */
    nodeUID: string
    /** The node's tunnel address on the network's wire; what peers send this block's packets to. */
    endpoint?: string
    /** Set for a single sticky or asked-for address: who it is kept for (`pod ns/name`, `claim ns/name`). */
    holder?: string
  }
}
