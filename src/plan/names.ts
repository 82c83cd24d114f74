import { hash } from 'node:crypto'
import { type Address, formatAddress, parseAddress } from '../lib/ip.ts'
import { macBytes, tunnelMac } from '../lib/mac.ts'

/**
 * Names of what Polynet makes in a kernel. All begin with `pn`, are made of
 * hashes (so that no user's text ends up in one) and fit in 15 bytes.
 */

/** The namespace of a network on every node. */
export const namespaceName = (networkUID: string): string => `pn-${digest(networkUID, 12)}`

/** The node side of a pod's interface. */
export const portName = (key: string): string => `pn${digest(key, 12)}`

/** The VXLAN device of a network: one per namespace, so it needs no hash. */
export const tunnelName = 'pnvx'

export const bridgeName = 'pnbr'

/** The host's end of a network's uplink, and the network's end. */
export const uplinkName = (networkUID: string): string => `pnu${digest(networkUID, 12)}`
export const uplinkInside = 'pnup'

/** What every Layer3 pod has as its next hop; never resolved, never seen on a wire. */
export const gateway = { ipv4: '169.254.1.1', ipv6: 'fe80::1' } as const

/** What stands for a node inside a network's tunnel; undefined where `endpoint` is no address. */
export function tunnelTo(endpoint: string): { mac: string; linkLocal: string } | undefined {
  let tunnel = tunnels.get(endpoint)
  if (tunnel) return tunnel
  const address = parseAddress(endpoint)
  if (!address) return undefined
  tunnel = { mac: tunnelMac(address), linkLocal: tunnelLinkLocal(address) }
  // Many networks lead to the same nodes; more nodes than these no cluster has at a time.
  if (tunnels.size >= 16_384) tunnels.clear()
  tunnels.set(endpoint, tunnel)
  return tunnel
}

const tunnels = new Map<string, { mac: string; linkLocal: string }>()

/** The link-local address that stands for a node inside a network's tunnel. */
function tunnelLinkLocal(endpoint: Address): string {
  let value = 0xfe80n << 112n
  let mac = 0n
  for (const byte of macBytes(tunnelMac(endpoint))) mac = (mac << 8n) | BigInt(byte)
  value |= mac
  return formatAddress({ family: 6, value })
}

const digest = (text: string, digits: number): string => hash('sha256', text).slice(0, digits)
