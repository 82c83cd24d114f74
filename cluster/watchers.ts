import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { Fault } from '../src/lib/fault.ts'
import { everyProcess } from './processes.ts'

/** What kubelet, containerd and the agent of one node take, and what the control plane does. */
const [ofNode, ofControlPlane] = [9, 6]

/**
 * Throws where the kernel has no room for those who watch files on a cluster
 * of so many nodes: containerd would come up without a pod's interface, and
 * say so in its log alone.
 */
export function ensureWatchers(name: string, nodes: number): void {
  const limit = Number(readFileSync('/proc/sys/fs/inotify/max_user_instances', 'utf8'))
  const taken = watchersOf(process.getuid?.() ?? 0)
  if (limit - taken >= nodes * ofNode + ofControlPlane) return
  throw new Fault(
    'exhausted',
    `start cluster ${name}`,
    `${taken} of ${limit} inotify instances are taken; end another cluster, or raise it: sysctl fs.inotify.max_user_instances=1024`,
  )
}

/** inotify instances that the user's processes hold. */
function watchersOf(uid: number): number {
  let count = 0
  for (const pid of everyProcess())
    try {
      const owner = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
      if (owner !== uid) continue
      for (const fd of readdirSync(`/proc/${pid}/fd`))
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:inotify') count++
    } catch {
      // It has just ended.
    }
  return count
}
