import type { Parsed, Problem } from '../lib/fault.ts'
import type { Asking } from './asking.ts'
import { multusDefaultKey, othersChoice, type Placed, placed, podsChoice, said } from './default-network.ts'
import { networksKey, npwgSelections } from './npwg.ts'
import { renderedProblems } from './rendered.ts'
import type { AttachmentRequest } from './request.ts'
import { maxAttachments, type Selection, tooLong } from './selection.ts'
import { definitionOrNetwork, type Found, networkNamed, pluginNamed } from './target.ts'
import { pluginWords, selectionsOf, talkWords } from './words.ts'

/**
 * The interfaces that a pod asks for, the default network's first, else in
 * the order of the annotation; or everything that is wrong with what it asks.
 * Which annotation counts when there are several is docs/attachments.md's
 * table. A pod on the host's network gets none.
 */
export function attachmentsFor(asking: Asking): Parsed<AttachmentRequest[]> {
  if (asking.pod.hostNetwork) return { ok: true, value: [] }
  const problems: Problem[] = []
  const asked = askedFor(asking, problems)
  const requests = arrange(asking, asked, problems)
  return problems.length === 0
    ? { ok: true, value: requests.map(withoutAbsent) }
    : { ok: false, problems: few(problems) }
}

/** The annotation that counts, how its names are looked up, and how interfaces without a name are called. */
interface Dialect {
  key: string
  read(text: string, problems: Problem[]): Selection[]
  find(selection: Selection): Found
  /** The first name that the `position`th attachment, counted from 0, may have by itself: those after it follow by number. */
  automatic(position: number): [prefix: string, from: number]
}

function dialectOf(asking: Asking): Dialect | undefined {
  const annotations = asking.pod.annotations ?? {}
  const home = asking.pod.namespace
  if (said(annotations, networksKey))
    return {
      key: networksKey,
      read: (text, problems) => npwgSelections(text, networksKey, problems),
      find: ({ namespace = home, name }) => definitionOrNetwork(asking, namespace, name),
      automatic: (position) => ['net', position + 1],
    }
  if (said(annotations, 'cni'))
    return {
      key: 'cni',
      read: (text, problems) => selectionsOf(text, pluginWords, problems),
      find: ({ name }) => pluginNamed(asking, name),
      automatic: () => ['eth', 0],
    }
  if (!said(annotations, 'networks')) return undefined
  return {
    key: 'networks',
    read: (text, problems) => selectionsOf(text, talkWords, problems),
    find: ({ namespace = home, name }) => networkNamed(asking, namespace, name),
    // Beside a blank `cni` it is CNI-Genie's annotation, whose first interface is eth0.
    automatic: () => ['eth', Object.hasOwn(annotations, 'cni') ? 0 : 1],
  }
}

function firstFree([prefix, from]: [prefix: string, from: number], taken: Set<string | undefined>): string {
  for (let number = from; ; number++) if (!taken.has(`${prefix}${number}`)) return `${prefix}${number}`
}

/** What the pod itself asks for, with a name each. */
function askedFor(asking: Asking, problems: Problem[]): Placed[] {
  const dialect = dialectOf(asking)
  if (!dialect) return []
  const text = asking.pod.annotations![dialect.key]!
  if (tooLong(text, dialect.key, problems)) return []
  const selections = dialect.read(text, problems)
  const names = new Set(selections.map((s) => s.interface))
  const asked: Placed[] = []
  for (const [position, selection] of selections.entries()) {
    const name = selection.interface ?? firstFree(dialect.automatic(position), names)
    names.add(name)
    const place = placed(selection.path, dialect.key, dialect.find(selection), problems, selection)
    if (place)
      asked.push({ ...place, request: { ...place.request, interface: name, default: name === 'eth0' } })
  }
  return asked
}

/** The whole list: with a default network, no interface twice, one default route. */
function arrange(asking: Asking, asked: Placed[], problems: Problem[]): AttachmentRequest[] {
  const own = podsChoice(asking, problems)
  const replaced = asked.some((a) => a.request.default)
  const fallback = own || replaced || problems.length > 0 ? undefined : othersChoice(asking, problems)
  const all = [own, fallback, ...asked].filter((a) => a !== undefined)
  all.sort((a, b) => Number(b.request.default) - Number(a.request.default))
  if (all.length > maxAttachments) {
    const path = all.at(-1)!.path
    problems.push({
      path,
      problem: `is interface ${all.length} of the pod; ask for at most ${maxAttachments}`,
    })
  }
  for (const place of all)
    for (const problem of renderedProblems(place)) problems.push({ path: place.path, problem })
  refuseTwice(all, problems)
  const eth0 = all.find((a) => a.request.default)
  if (eth0) refuseAsDefault(asking, eth0, problems)
  routeDefault(all, problems)
  return all.map((a) => a.request)
}

/** NPWG v1.3 section 4.1.2.1.5. */
function refuseTwice(all: Placed[], problems: Problem[]): void {
  const first = new Map<string, string>()
  for (const { path, request } of all) {
    const before = first.get(request.interface)
    if (before === undefined) first.set(request.interface, path)
    else
      problems.push({
        path,
        problem: `asks for ${request.interface}, as ${before} does; choose another name`,
      })
  }
}

/** eth0 has an address that is the cluster's only one, always: probes and services know no networks. */
function refuseAsDefault(asking: Asking, eth0: Placed, problems: Problem[]): void {
  const { path, request, network } = eth0
  if (request.target.kind === 'NetworkAttachmentDefinition' && request.source === networksKey) {
    const remedy = `choose another name, or name it in ${multusDefaultKey}`
    problems.push({ path, problem: `asks for eth0, which takes a Network; ${remedy}` })
  }
  const other = network && request.source !== 'cluster' ? asking.overlap?.(network) : undefined
  if (other === undefined) return
  const { namespace, name } = network!.metadata
  const problem = `Network ${namespace}/${name} cannot be eth0, because its subnets overlap ${other}; ask for eth1`
  problems.push({ path, problem })
}

/** The default route goes where the pod says, else to its primary network, else to eth0. */
function routeDefault(all: Placed[], problems: Problem[]): void {
  const asked = all.filter((a) => a.request.defaultRoute !== undefined)
  const primary = all.filter((a) => a.network?.spec.primary)
  for (const { path } of asked.slice(1)) {
    const problem = `has default-route, as ${asked[0]!.path} has; keep one`
    problems.push({ path, problem })
  }
  if (asked.length > 0) return
  if (primary.length > 1) {
    const remedy = `write the one that takes the default route with default-route in ${networksKey}`
    problems.push({ path: primary[1]!.path, problem: `is primary, as ${primary[0]!.path} is; ${remedy}` })
  }
  const taker = primary[0] ?? all[0]
  if (taker) taker.request = { ...taker.request, defaultRoute: [] }
}

/** Attackers choose how many problems there are. */
function few(problems: Problem[]): Problem[] {
  const most = 16
  if (problems.length <= most) return problems
  return [...problems.slice(0, most), { path: '', problem: `and ${problems.length - most} more` }]
}

function withoutAbsent(request: AttachmentRequest): AttachmentRequest {
  const there: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(request)) if (value !== undefined) there[name] = value
  return there as unknown as AttachmentRequest
}
