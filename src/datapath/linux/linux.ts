import { statfs } from 'node:fs/promises'
import { Worker } from 'node:worker_threads'
import type { Nic } from '../../api/host-physical-network.ts'
import { Fault } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import type { ForeignProgram, ForeignTunnel } from '../../plan/foreign-tunnel.ts'
import type { Datapath, Report } from '../port.ts'
import type { Answer, Method, Request } from './hands.ts'
import { NETLINK_ROUTE, Netlink } from './netlink.ts'
import { inside } from './netns.ts'
import { concernsNics, nicGroups } from './nics.ts'

const nicPollMs = 200

/**
 * The datapath of this machine's kernel, or of the part of it that the network
 * namespace at `hostNetns` is the host's of. Namespaces of networks are kept
 * below `<runDir>/netns`. Rejects when it cannot enter that namespace: it
 * takes root, at least in a user namespace.
 */
export async function linuxDatapath(options: {
  runDir: string
  hostNetns?: string
  log: Log
  /** Called when the thread that works on the kernel has ended by itself; every call rejects from then on. */
  failed?: (error: Error) => void
}): Promise<Datapath> {
  const { runDir, log } = options
  const hostNetns = options.hostNetns ?? `/proc/${process.pid}/ns/net`
  // The pool's threads start with their first work and stay in the namespace they start in: this one.
  await statfs('/')
  const hands = new Worker(
    new URL(import.meta.url.endsWith('.ts') ? './hands.ts' : './hands.js', import.meta.url),
    {
      workerData: { polynetHands: { runDir, hostNetns } },
    },
  )
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  let last = 0
  let closed = false
  hands.on('message', ([id, result, fault]: Answer) => {
    const call = waiting.get(id)
    waiting.delete(id)
    if (waiting.size === 0) hands.unref()
    if (fault) call?.reject(new Fault(fault.kind, fault.doing, fault.problem))
    else call?.resolve(result as never)
  })
  const fail = (error: Error) => {
    closed = true
    log.error('the datapath stopped', { error: error.message })
    for (const { reject } of waiting.values()) reject(error)
    waiting.clear()
    options.failed?.(error)
  }
  hands.on('error', fail)
  hands.on('exit', () => {
    if (!closed) fail(new Fault('unavailable', 'work on the kernel', 'the thread that does it ended'))
  })
  const call = <T>(method: Method, argument?: unknown): Promise<T> => {
    if (closed) return Promise.reject(new Fault('unavailable', method, 'the datapath is closed'))
    return new Promise<T>((resolve, reject) => {
      const id = ++last
      hands.ref()
      waiting.set(id, { resolve, reject })
      hands.postMessage([id, method, JSON.stringify(argument)] satisfies Request)
    })
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
  await call<Nic[]>('nics')
  return {
    replace: (plan, unchanged = []) => call<Report>('replace', { plan, unchanged }),
    attach: (ports) => call('attach', ports),
    detach: (ports) => call('detach', ports),
    check: (ports) => call('check', ports),
    nics: () => call<Nic[]>('nics'),
    tunnels: () => call<ForeignTunnel[]>('tunnels'),
    programsOn: (ports) => call<ForeignProgram[]>('programsOn', ports),
    onNics(changed) {
      const listener = () => changed()
      listeners.add(listener)
      if (!watch) startWatching()
      return () => {
        listeners.delete(listener)
        if (listeners.size === 0) stopWatching()
      }
    },
    describe: () => call<string[]>('describe'),
    async close() {
      if (closed) return
      stopWatching()
      listeners.clear()
      const ended = call('close')
      closed = true
      await ended
      await hands.terminate()
    },
  }
}
