import { Fault, isFault } from '../../lib/fault.ts'
import type { Place } from './place.ts'
import type * as rt from './route.ts'
import type { Want, WantedLink } from './want.ts'

/** One namespace of a rendering. */
export interface Side {
  want: Want
  place: Place
  /**
   * What may be removed when it is not wanted: `all` (a namespace of ours),
   * `marked` (the host's: what carries Polynet's mark), `ports` (a pod's: what
   * is on our links), `nothing`.
   */
  owned: 'all' | 'marked' | 'ports' | 'nothing'
}

export interface MadeLink {
  netns: string
  wanted: WantedLink
}

/** What the steps of one rendering share. */
export interface Job {
  bySide: Map<string, Side>
  /** Networks' namespaces that are left as they are, and why. They are no sides. */
  refused: Map<string, Fault>
  /** Pods' namespaces that are not looked into any more, and why. They are no sides. */
  spoilt: Map<string, Fault>
  /** Those of them whose ports' node sides are left as they are, too. */
  left: Set<string>
  /** Pods' namespaces by their ports' keys, of those that may be spoilt. */
  pods: Map<string, string>
  host: Place
  links: Links
  changes: string[]
  dry: boolean
  made: MadeLink[]
}

/** Links by namespace and name. */
export class Links {
  readonly #byPlace = new Map<string, Map<string, rt.SeenLink>>()

  of(netns: string): ReadonlyMap<string, rt.SeenLink> {
    return this.#byPlace.get(netns) ?? new Map()
  }

  get(netns: string, name: string): rt.SeenLink | undefined {
    return this.#byPlace.get(netns)?.get(name)
  }

  set(netns: string, name: string, link: rt.SeenLink): void {
    const there = this.#byPlace.get(netns)
    if (there) there.set(name, link)
    else this.#byPlace.set(netns, new Map([[name, link]]))
  }

  delete(netns: string, name: string): void {
    this.#byPlace.get(netns)?.delete(name)
  }

  clear(): void {
    this.#byPlace.clear()
  }
}

/** Refusals that mean it is gone already: ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL. */
export const gone = new Set([2, 3, 19, 99])

/** Whose the link is, in front of a message about it: the port's key, or the namespace at the other end of an uplink. */
export function named(link: WantedLink): string {
  if (link.port !== undefined) return `${link.port}: `
  return link.origin.kind === 'veth' ? `${link.origin.peer.netns}: ` : ''
}

/** Faults in a pod's namespace lead with the key of its port, so that the caller knows whose they are. */
export function within<T>({ want }: Pick<Side, 'want'>, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const { netns, links } = want
    const key = netns.startsWith('/') ? links.find((link) => link.port !== undefined)?.port : undefined
    if (!(error instanceof Fault) || key === undefined || portIn(error, want) !== undefined) throw error
    throw new Fault(error.kind, `${key}: ${error.doing}`, error.problem, error)
  }
}

/** The key that the fault leads with, of a port that has a link here. */
const portIn = ({ doing }: Fault, { links }: Want): string | undefined =>
  links.find(({ port }) => port !== undefined && doing.startsWith(`${port}: `))?.port

/**
 * Does this on each side. A network's in which the kernel refuses it is left as
 * it is from then on, and a pod's that it fails for is not looked into any
 * more; what is neither's alone is thrown.
 */
export function onEach(job: Job, act: (side: Side) => void): void {
  for (const side of [...job.bySide.values()])
    while (job.bySide.has(side.want.netns))
      try {
        within(side, () => act(side))
        break
      } catch (error) {
        leave(job, side, error)
      }
}

/** Leaves the namespace as it is that this fault, met on this side, is of. Throws the fault where it is none's. */
export function leave(job: Job, side: Side, error: unknown): void {
  if (!isFault(error, 'kernel')) throw error
  const { netns } = side.want
  const key = portIn(error, side.want)
  if (key !== undefined) {
    spoil(job, netns, key, error)
    return
  }
  const of = side.owned === 'all' ? netns : (error.doing.split(': ', 1)[0] ?? '')
  if (job.bySide.get(of)?.owned !== 'all') throw error
  job.bySide.delete(of)
  job.refused.set(of, error)
}

/** The port's pod is not looked into; what failed on the node's side is left there, too. */
function spoil(job: Job, netns: string, key: string, error: Fault): void {
  const pod = job.pods.get(key)
  if (pod === undefined || (netns !== pod && job.left.has(pod))) throw error
  if (netns !== pod) job.left.add(pod)
  if (!job.spoilt.has(pod)) job.spoilt.set(pod, error)
  job.bySide.delete(pod)
}

/** Whether the link is left as it is, or missing: its other end is where nothing is made. */
export function isLeft(
  { refused, spoilt, left, links }: Job,
  netns: string,
  { origin, name }: WantedLink,
): boolean {
  if (origin.kind === 'peer') return refused.has(origin.of.netns)
  if (origin.kind !== 'veth') return false
  const other = origin.peer.netns
  return refused.has(other) || left.has(other) || (spoilt.has(other) && !links.get(netns, name))
}

/** The side without the links that are left, and without what is wanted on them; what is there on them is forgotten. */
export function withoutLeft(side: Side, job: Job): Side {
  const { want } = side
  const left = new Set(want.links.filter((link) => isLeft(job, want.netns, link)).map(({ name }) => name))
  if (left.size === 0) return side
  for (const name of left) job.links.delete(want.netns, name)
  const on = <T extends { link: string }>(all: T[]) => all.filter(({ link }) => !left.has(link))
  const { addresses, routes, neighbours, forwarding } = want
  return {
    ...side,
    want: {
      ...want,
      links: want.links.filter(({ name }) => !left.has(name)),
      addresses: on(addresses),
      routes: on(routes),
      neighbours: on(neighbours),
      forwarding: on(forwarding),
    },
  }
}
