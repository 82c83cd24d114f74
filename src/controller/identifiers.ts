import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'

/** VXLAN identifiers have 24 bits (RFC 7348 section 5); 0 and the lowest are left to others. */
const firstVni = 4096
const lastVni = 0xffffff

/**
 * The identifiers that networks still need: each network keeps the one it
 * has, two that ended up with the same (a restored backup) are told apart by
 * age, the rest get the lowest free. Undefined where none is left.
 */
export function identifiersFor(networks: Network[]): Map<string, number | undefined> {
  const taken = new Set<number>()
  const needed: Network[] = []
  for (const network of networks.toSorted(byAge)) {
    const vni = network.status?.vni
    if (vni !== undefined && !taken.has(vni)) taken.add(vni)
    else if (network.spec.topology !== 'Direct') needed.push(network)
  }
  const given = new Map<string, number | undefined>()
  let next = firstVni
  for (const network of needed) {
    while (taken.has(next)) next++
    given.set(network.metadata.uid ?? '', next <= lastVni ? next : undefined)
    taken.add(next)
  }
  return given
}

/** Ports above the one that the nodes' own addresses use. */
const firstTunnelPort = 14790

/** The tunnel ports that physical networks still need; two never share one, and one that the spec names is kept. */
export function tunnelPortsFor(physical: PhysicalNetwork[]): Map<string, number> {
  const taken = new Set(physical.flatMap((p) => p.spec.tunnelPort ?? p.status?.tunnelPort ?? []))
  const given = new Map<string, number>()
  let next = firstTunnelPort
  for (const p of physical.toSorted(byAge)) {
    if (p.spec.tunnelPort !== undefined || p.status?.tunnelPort !== undefined) continue
    while (taken.has(next)) next++
    given.set(p.metadata.name, next)
    taken.add(next)
  }
  return given
}

const byAge = (a: Network | PhysicalNetwork, b: Network | PhysicalNetwork): number => {
  const key = (o: Network | PhysicalNetwork) => `${o.metadata.creationTimestamp} ${o.metadata.uid}`
  return key(a) < key(b) ? -1 : 1
}
