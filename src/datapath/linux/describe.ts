import {
  addressLine,
  elementLine,
  forwardingLine,
  namespaceLine,
  neighbourLine,
  routeLine,
} from '../lines.ts'
import { linkLine, tableLine } from './lines.ts'
import type { Place } from './place.ts'
import * as rt from './route.ts'
import { seenTables } from './tables.ts'

/** What Polynet owns in a namespace, a line each: everything in one of its own, what carries its mark in the host's. */
export function describePlace(netns: string, place: Place): string[] {
  const host = netns === 'host'
  const lines: string[] = host ? [] : [namespaceLine(netns)]
  const route = place.route
  const links = route.dump(rt.dumpLinks).map(rt.seenLink)
  const names = new Map(links.map((link) => [link.index, link.name]))
  const mine = (name: string | undefined): name is string =>
    name !== undefined && (host ? name.startsWith('pn') : true)
  for (const link of links) {
    if (link.loopback || !mine(link.name) || link.kind === undefined) continue
    lines.push(linkLine(netns, link.name, details(link, names)))
  }
  for (const seen of route.dump(rt.dumpAddresses).map(rt.seenAddress)) {
    const link = names.get(seen.index)
    if (!mine(link) || link === 'lo' || (seen.address.startsWith('fe80:') && seen.protocol !== rt.ours))
      continue
    lines.push(addressLine(netns, { link, address: seen.address }))
  }
  for (const family of [rt.AF_INET, rt.AF_INET6]) {
    for (const seen of route.dump(() => rt.dumpRoutes(family)).map(rt.seenRoute)) {
      if (!seen || (host && seen.protocol !== rt.ours)) continue
      const link = seen.route.blackhole ? 'lo' : (names.get(seen.index) ?? '')
      lines.push(routeLine(netns, { ...seen.route, link }))
    }
    for (const seen of route.dump(() => rt.dumpNeighbours(family)).map(rt.seenNeighbour)) {
      const link = seen && names.get(seen.index)
      if (mine(link)) lines.push(neighbourLine(netns, { ...seen!, link }))
    }
  }
  for (const seen of route.dump(() => rt.dumpNeighbours(rt.AF_BRIDGE)).map(rt.seenForwarding)) {
    const link = seen && names.get(seen.index)
    if (mine(link)) lines.push(forwardingLine(netns, { ...seen!, link }))
  }
  for (const table of seenTables(place, (name) => !host || name.startsWith('polynet'))) {
    lines.push(`${tableLine(netns, table.family, table.name)} ${table.note}`)
    for (const set of table.sets)
      for (const element of set.elements.values())
        lines.push(elementLine(netns, table.family, table.name, set.name, element))
  }
  return lines
}

function details(link: rt.SeenLink, names: Map<number, string>): string[] {
  const { vxlan } = link
  return [
    link.kind ?? '',
    ...(vxlan ? [`vni ${vxlan.vni} port ${vxlan.port} local ${vxlan.local}`] : []),
    `mac ${link.mac} mtu ${link.mtu}`,
    ...(link.noarp ? ['noarp'] : []),
    ...(link.master ? [`bridge ${names.get(link.master)}`] : []),
    ...(link.isolated ? ['isolated'] : []),
    link.up ? 'up' : 'down',
  ]
}
