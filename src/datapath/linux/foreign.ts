import type { Table } from '../../plan/ruleset.ts'
import { addressLine, routeLine } from '../lines.ts'
import { linkLine, tableLine } from './lines.ts'
import { Batch } from './netlink.ts'
import { Place } from './place.ts'
import * as rt from './route.ts'
import { addTables, seenTables } from './tables.ts'

/** What belongs to somebody else in a host's namespace, for the conformance suite. */
const link = 'foreign0'

const table: Table = {
  family: 'inet',
  name: 'foreign',
  sets: [],
  chains: [
    {
      name: 'input',
      base: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' },
      rules: [{ do: [{ verdict: 'accept' }] }],
    },
  ],
}

export function makeForeign(netns: string): void {
  const place = new Place(netns)
  try {
    const links = new Batch()
    rt.newBridge(links, 'make a foreign link', { name: link, up: true })
    place.route.send(links)
    const index = place.index(link)
    const rest = new Batch()
    rt.newAddress(rest, 'make a foreign address', index, '198.51.100.1/24')
    rt.newRoute(rest, 'make a foreign route', index, { to: '203.0.113.0/24', link })
    // RTPROT_STATIC: not ours.
    rest.bytes[rest.length - 8 - 8 - 12 + 5] = 4
    place.route.send(rest)
    addTables(place, [table])
  } finally {
    place.close()
  }
}

export function describeForeign(netns: string): string[] {
  const place = new Place(netns)
  try {
    const links = place.route.dump(rt.dumpLinks).map(rt.seenLink)
    const found = links.find((one) => one.name === link)
    if (!found) return []
    const routes = place.route.dump(() => rt.dumpRoutes(rt.AF_INET)).map(rt.seenRoute)
    return [
      linkLine('host', link, [found.kind ?? '', found.up ? 'up' : 'down', found.mac]),
      ...place.route
        .dump(rt.dumpAddresses)
        .map(rt.seenAddress)
        .filter((a) => a.index === found.index)
        .map((a) => addressLine('host', { link, address: a.address })),
      ...routes.flatMap((r) =>
        r?.index === found.index ? [`${routeLine('host', { ...r.route, link })} ${r.protocol}`] : [],
      ),
      ...seenTables(place, (name) => name === table.name).map(
        (t) => `${tableLine('host', t.family, t.name)} ${t.rules}`,
      ),
    ].filter((line) => !line.includes('fe80:'))
  } finally {
    place.close()
  }
}
