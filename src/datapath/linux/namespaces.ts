import { Fault } from '../../lib/fault.ts'
import type { NamespacePlan } from '../../plan/node-plan.ts'
import { ownNetns } from './netns.ts'
import { Place } from './place.ts'
import { render } from './render.ts'
import type { Side } from './side.ts'
import { wantsOf } from './want.ts'

/**
 * Makes the namespaces at `paths` (by their names in the plan) as planned; what
 * was changed, a line each. Removes nothing. Repeating it is harmless.
 * Synchronous: it blocks its thread for about a millisecond per link. The
 * host, by whose NICs tunnels leave, is `paths.host`, or the caller's own
 * namespace.
 */
export function applyNamespaces(namespaces: NamespacePlan[], paths: Record<string, string>): string[] {
  const places = new Map<string, Place>()
  try {
    const sides: Side[] = []
    for (const want of wantsOf(namespaces, []).values()) {
      const path = paths[want.netns]
      if (path === undefined)
        throw new Fault(
          'invalid',
          'apply a plan',
          `nobody said where namespace ${want.netns} is; add it to the paths`,
        )
      const place = new Place(path)
      places.set(want.netns, place)
      sides.push({ want, place, owned: 'nothing' })
    }
    let host = places.get('host')
    if (!host) {
      host = new Place(paths.host ?? ownNetns)
      places.set('', host)
    }
    return render(sides, host).changes
  } finally {
    for (const place of places.values()) place.close()
  }
}
