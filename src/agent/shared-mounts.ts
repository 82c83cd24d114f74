import { readFileSync } from 'node:fs'
import { Fault } from '../lib/fault.ts'

/**
 * What is mounted below `path` in a container must be seen on the host:
 * otherwise the networks' namespaces end with the container, and with them the
 * connections of every pod. Throws `invalid` where it is not.
 */
export function refuseUnsharedMounts(path: string): void {
  const mount = mountOf(readFileSync('/proc/self/mountinfo', 'utf8'), path)
  if (mount === undefined || mount.shared) return
  throw new Fault(
    'invalid',
    `keep network namespaces in ${path}`,
    `mounts there end with this container, because ${mount.at} is not shared with the host; mount it with mountPropagation: Bidirectional`,
  )
}

/** Where the mount that `path` is in was put, and whether what is mounted below it is seen by others (proc_pid_mountinfo(5)). */
export function mountOf(mountinfo: string, path: string): { at: string; shared: boolean } | undefined {
  let found: { at: string; shared: boolean } | undefined
  for (const line of mountinfo.split('\n')) {
    const [before = ''] = line.split(' - ')
    const [, , , , point, , ...optional] = before.split(' ')
    if (point === undefined) continue
    const at = point.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
    const holds = at === '/' || path === at || path.startsWith(`${at}/`)
    // Of two at the same place, the later one hides the other.
    if (holds && at.length >= (found?.at.length ?? 0))
      found = { at, shared: optional.some((field) => field.startsWith('shared:')) }
  }
  return found
}
