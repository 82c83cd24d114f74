import { statfs } from 'node:fs/promises'
import { Fault } from '../../lib/fault.ts'
import type { Datapath } from '../port.ts'
import { Kernel } from './kernel.ts'
import { NETLINK_ROUTE, Netlink } from './netlink.ts'
import { inside } from './netns.ts'
import { concernsNics, nicGroups } from './nics.ts'

const nicPollMs = 200

/**
 * The datapath of this machine's kernel, or of the part of it that the network
 * namespace at `hostNetns` is the host's of. Namespaces of networks are kept
 * below `<runDir>/netns`. It works on the caller's thread, which waits for the
 * kernel (docs/decisions/0014); only what takes the kernel long is waited for
 * elsewhere. Rejects when it cannot enter that namespace: it takes root, at
 * least in a user namespace.
 */
export async function linuxDatapath(options: { runDir: string; hostNetns?: string }): Promise<Datapath> {
  const { runDir, hostNetns = `/proc/${process.pid}/ns/net` } = options
  // The pool's threads start with their first work and stay in the namespace they start in: this one.
  await statfs('/')
  const kernel = new Kernel(runDir, hostNetns)
  let closed = false
  const open = async <T>(work: () => T | Promise<T>): Promise<T> => {
    if (closed) throw new Fault('unavailable', 'work on the kernel', 'the datapath is closed')
    return work()
  }
  const listeners = new Set<() => void>()
  let watch: { socket: Netlink; timer: NodeJS.Timeout } | undefined
  const stopWatching = () => {
    if (!watch) return
    clearInterval(watch.timer)
    watch.socket.close()
    watch = undefined
  }
  const startWatching = () => {
    const socket = inside(hostNetns, () => new Netlink(NETLINK_ROUTE, nicGroups))
    const timer = setInterval(() => {
      if (socket.heard().some(concernsNics)) for (const listener of [...listeners]) listener()
    }, nicPollMs)
    timer.unref()
    watch = { socket, timer }
  }
  return {
    replace: (plan, unchanged = []) => open(() => kernel.replace(plan, unchanged)),
    attach: (ports) => open(() => kernel.attach(ports)),
    detach: (ports) => open(() => kernel.detach(ports)),
    check: (ports) => open(() => kernel.check(ports)),
    nics: () => open(() => kernel.nics()),
    tunnels: () => open(() => kernel.tunnels()),
    programsOn: (ports) => open(() => kernel.programsOn(ports)),
    onNics(changed) {
      const listener = () => changed()
      listeners.add(listener)
      if (!watch) startWatching()
      return () => {
        listeners.delete(listener)
        if (listeners.size === 0) stopWatching()
      }
    },
    describe: () => open(() => kernel.describe()),
    async close() {
      if (closed) return
      closed = true
      stopWatching()
      listeners.clear()
      await kernel.close()
    },
  }
}
