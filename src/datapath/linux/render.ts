import type { Fault } from '../../lib/fault.ts'
import { sysctlLine } from '../lines.ts'
import { configure } from './entries.ts'
import { createLinks, removeLinks, takeHome } from './links.ts'
import type { Place } from './place.ts'
import * as rt from './route.ts'
import { type Job, Links, type MadeLink, onEach, type Side, withoutLeft } from './side.ts'
import { addPortElements, hangsOnDevices, missingElements, renderTables } from './tables.ts'

export interface Rendered {
  changes: string[]
  /** Links of wanted names, as they are now. */
  links: Links
  /** Networks' namespaces that were left as they are when the kernel refused this in them. */
  refused: Map<string, Fault>
  /** Pods' namespaces that were not looked into after this had failed in them or for them. */
  spoilt: Map<string, Fault>
}

/**
 * Makes network namespaces as they are wanted: what is there is listed, and
 * only the difference is written.
 *
 * `host` is the place whose NICs carry tunnels. Throws the first refusal that
 * is of no network's namespace alone; what was done till then stays, and `made`
 * has the links that it created. `dry`: only says what it would change.
 * `refused`: namespaces that are left as they are from the start, and are no sides.
 * `spoilt`: pods' namespaces that are not looked into, and are no sides; what
 * makes others impossible is returned with them instead of thrown.
 */
export function render(
  sides: Side[],
  host: Place,
  options: {
    dry?: boolean
    made?: MadeLink[]
    refused?: Map<string, Fault>
    spoilt?: Map<string, Fault>
  } = {},
): Rendered {
  const refused = new Map(options.refused)
  const bySide = new Map(sides.map((side) => [side.want.netns, side]))
  const links = new Links()
  const changes: string[] = []
  const dry = options.dry === true
  const pods = options.spoilt ? podsByPort(sides) : new Map<string, string>()
  const spoilt = new Map(options.spoilt)
  const left = new Set<string>()
  const made = options.made ?? []
  const job: Job = { bySide, refused, spoilt, left, pods, host, links, changes, dry, made }

  try {
    bring(job)
  } finally {
    settle(job, new Map(sides.map(({ want, place }) => [want.netns, place])))
  }
  return { changes, links, refused, spoilt }
}

/** Brings all sides in line, step by step, so that nothing is there before what it needs, nor a link before what holds its port back. */
function bring(job: Job): void {
  const lookAround = () => onEach(job, (side) => look(side, job.links))
  lookAround()
  if (job.bySide.get('host')?.owned === 'marked' && takeHome(job) && !job.dry) {
    job.links.clear()
    lookAround()
  }
  onEach(job, (side) => {
    writeSysctls(side, job, false)
    enforce(side, job, false)
  })
  if (removeLinks(job) && !job.dry) {
    job.links.clear()
    lookAround()
  }
  createLinks(job)
  onEach(job, (whole) => {
    const side = withoutLeft(whole, job)
    writeSysctls(side, job, true)
    enforce(side, job, true)
    configure(side, job)
  })
}

const podsByPort = (sides: Side[]): Map<string, string> =>
  new Map(
    sides.flatMap(({ owned, want }) =>
      owned === 'ports'
        ? want.links.flatMap(({ port }) => (port === undefined ? [] : [[port, want.netns]]))
        : [],
    ),
  )

/**
 * A link that just got its carrier drops packets until the kernel has worked
 * off that event (and a bridge does not use it as a port): for a millisecond,
 * but the first ARP request lost means a second. Asking whether a link has its
 * carrier makes the kernel work off its event first (ethtool_op_get_link).
 * Links that were made before something else was refused need that, too.
 */
function settle({ made }: Job, places: Map<string, Place>): void {
  for (const { netns, wanted } of made)
    if (wanted.origin.kind === 'veth' || wanted.origin.kind === 'peer') places.get(netns)?.settle(wanted.name)
}

function look(side: Side, links: Links): void {
  side.place.indexes.clear()
  for (const message of side.place.route.dump(rt.dumpLinks)) {
    const link = rt.seenLink(message)
    side.place.indexes.set(link.name, link.index)
    links.set(side.want.netns, link.name, link)
  }
}

const perLink = /^(?:ipv4|ipv6)\/(?:conf|neigh)\/([^/]+)\//

/** Settings of wanted links can be written only when these are there. */
function writeSysctls(side: Side, job: Job, ofLinks: boolean): void {
  const { netns, sysctls, links } = side.want
  const all = Object.entries(sysctls)
  if (all.length === 0) return
  const names = new Set(links.map((link) => link.name))
  const settings = all.filter(([name]) => {
    const link = perLink.exec(name)?.[1] ?? ''
    return names.has(link) === ofLinks && (!job.dry || !ofLinks || job.links.get(netns, link) !== undefined)
  })
  for (const name of side.place.sysctls(settings, job.dry ? 'dry' : 'differing'))
    job.changes.push(`~ ${sysctlLine(netns, name, sysctls[name]!)}`)
}

/** Tables that hang on a device come when that is there and not up yet, all others before any link. */
function enforce(side: Side, job: Job, onDevices: boolean): void {
  const { want, place, owned } = side
  const tables = want.tables.filter((table) => hangsOnDevices(table) === onDevices)
  const known = want.tables.some((table) => table.name === 'polynet' && !hangsOnDevices(table))
  const elements = onDevices ? [] : want.elements
  const later = new Set(want.tables.filter(hangsOnDevices).map((table) => table.name))
  const mine = (name: string): boolean => {
    if (onDevices || later.has(name)) return false
    return owned === 'all' || (owned !== 'nothing' && name.startsWith('polynet'))
  }
  const looksAtTables = tables.length > 0 || (!onDevices && owned !== 'nothing')
  if (looksAtTables)
    job.changes.push(
      ...renderTables(place, want.netns, { tables, elements: known ? elements : [] }, mine, job.dry),
    )
  if (known || elements.length === 0) return
  for (const line of missingElements(place, want.netns, elements)) job.changes.push(`+ ${line}`)
  if (!job.dry) addPortElements(place, elements)
}
