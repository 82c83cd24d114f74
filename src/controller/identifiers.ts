import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { nodeTunnelPort } from '../plan/tunnel.ts'
import { firstVni, mostUplinks } from '../plan/uplink.ts'

/** VXLAN identifiers have 24 bits (RFC 7348 section 5); 0 and the lowest are left to others. */
const lastVni = 0xffffff

/**
 * The identifiers that networks still need: each network keeps the one it
 * has, two that ended up with the same (a restored backup) are told apart by
 * age, the rest get the next free ones after `last`, the latest that was
 * given. So one that was given back is nobody's for a long time: nodes may
 * have pods of a network that is gone. Undefined where none is left.
 */
export function identifiersFor(networks: Network[], last = firstVni - 1): Map<string, number | undefined> {
  const taken = new Set<number>()
  const needed: Network[] = []
  for (const network of networks.toSorted(byAge)) {
    const vni = network.status?.vni
    if (vni !== undefined && !taken.has(vni)) taken.add(vni)
    else if (isTunnelled(network)) needed.push(network)
  }
  const given = new Map<string, number | undefined>()
  const free = freeAfter(last, taken)
  for (const network of needed) given.set(network.metadata.uid ?? '', free.next().value)
  return given
}

const isTunnelled = ({ spec, metadata }: Network): boolean =>
  (spec.plugin ?? 'polynet') === 'polynet' &&
  spec.topology !== 'Direct' &&
  metadata.deletionTimestamp === undefined

/** First those that have an uplink, round and round; then the others. */
function* freeAfter(last: number, taken: Set<number>): Generator<number, undefined> {
  const end = firstVni + mostUplinks
  const from = last >= firstVni && last < end ? last + 1 : firstVni
  for (let vni = from; vni < end; vni++) if (!taken.has(vni)) yield vni
  for (let vni = firstVni; vni < from; vni++) if (!taken.has(vni)) yield vni
  for (let vni = end; vni <= lastVni; vni++) if (!taken.has(vni)) yield vni
  return undefined
}

/** The tunnel ports that physical networks still need; two never share one, and one that the spec names is kept. */
export function tunnelPortsFor(physical: PhysicalNetwork[]): Map<string, number> {
  const taken = new Set(physical.flatMap((p) => p.spec.tunnelPort ?? p.status?.tunnelPort ?? []))
  const given = new Map<string, number>()
  let next = nodeTunnelPort + 1
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
