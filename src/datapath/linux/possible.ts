import { Fault } from '../../lib/fault.ts'
import { inside, ownNetns } from './netns.ts'

/** Why this process cannot make network namespaces; undefined when it can. */
export function impossible(): string | undefined {
  if (process.platform !== 'linux') return 'it takes Linux'
  try {
    inside(ownNetns, () => {})
    return undefined
  } catch (error) {
    return error instanceof Fault
      ? `${error.message} (unshare --user --map-root-user --net --mount gives both)`
      : String(error)
  }
}
