import { withoutLength } from '../lib/ip.ts'
import type { SourceRule } from './node-plan.ts'
import type { HeldAttachment } from './view.ts'

/** The table of a pod's first interface; each further one has the next. */
const firstTable = 8000
/** The priority of the first interface's first rule; those of further ones and its other rules follow from it. */
const firstPriority = 8000

/** Whether the pod's main table is this interface's own: what has its address and nowhere else to go leaves by it anyway. */
export const isFirst = ({ index, defaultRoute }: HeldAttachment): boolean =>
  index === 0 && defaultRoute !== undefined

/**
 * By these, what carries one of the interface's addresses leaves by that
 * interface: whoever binds a socket to an address chooses the network, and
 * answers go back by where the question came from. First come the network's
 * own subnets, which another network of the pod may have as well; then all
 * that the main table knows, a pod's own routes among it, but no default route;
 * last the network's own default route.
 */
export function sourceRules({ index, addresses }: HeldAttachment): { table: number; rules: SourceRule[] } {
  const table = firstTable + index
  const priority = firstPriority + index
  const rules = addresses.flatMap(({ address }): SourceRule[] => {
    const from = withoutLength(address)
    return [
      { priority, from, table, exceptDefault: true },
      { priority: priority + 100, from, exceptDefault: true },
      { priority: priority + 200, from, table },
    ]
  })
  return { table, rules }
}
