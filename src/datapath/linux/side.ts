import { Fault } from '../../lib/fault.ts'
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
  sides: Side[]
  bySide: Map<string, Side>
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

/** The port's key in front of a message about one of its links. */
export const named = (link: WantedLink | undefined): string =>
  link?.port === undefined ? '' : `${link.port}: `

/** Faults in a pod's namespace lead with the key of its port, so that the caller knows whose they are. */
export function within<T>({ want }: Pick<Side, 'want'>, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const { netns, links } = want
    const key = netns.startsWith('/') ? links.find((link) => link.port !== undefined)?.port : undefined
    if (
      !(error instanceof Fault) ||
      key === undefined ||
      links.some((l) => error.doing.startsWith(`${l.port}: `))
    )
      throw error
    throw new Fault(error.kind, `${key}: ${error.doing}`, error.problem, error)
  }
}
