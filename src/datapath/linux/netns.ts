import { closeSync, existsSync, mkdirSync, openSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { Fault } from '../../lib/fault.ts'
import { errnoName } from '../../lib/libc.ts'
import { Batch, NETLINK_ROUTE, Netlink } from './netlink.ts'
import { setLink } from './route.ts'
import { CLONE_NEWNET, close, mountBind, open, setns, unmount, unshare } from './syscall.ts'

/**
 * Network namespaces by path. A thread is in another namespace only within
 * one synchronous stretch: no pool thread can start there and inherit it, and
 * no other code runs meanwhile. A thread that cannot come back would do
 * everything after that in the wrong place, so the process aborts then.
 */

/** The namespace of the calling thread. */
export const ownNetns = '/proc/thread-self/ns/net'

/** Makes a network namespace and keeps it at `path`, its loopback up. Throws `exists` when there is one already. */
export function createNamespace(path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  try {
    closeSync(openSync(path, 'wx', 0o444))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new Fault('exists', `create namespace ${path}`, 'the file is there already; remove it first')
    throw error
  }
  const home = open(ownNetns)
  try {
    unshare(CLONE_NEWNET)
    try {
      mountBind(ownNetns, path)
      bringLoopbackUp()
    } finally {
      comeBack(home)
    }
  } catch (error) {
    unmount(path)
    unlinkSync(path)
    throw error
  } finally {
    close(home)
  }
}

/** Lets go of the namespace at `path`, which ends unless something else holds it. Absent: nothing happens. */
export function removeNamespace(path: string): void {
  while (unmount(path)) {}
  if (existsSync(path)) unlinkSync(path)
}

/** The namespace that this thread is in; its own stays open as long as it runs. */
let current: number | undefined

/**
 * What `f` returns when it runs in the namespace at `path` (or of an open
 * descriptor). `f` is synchronous; a promise it returned would go on outside.
 */
export function inside<T>(namespace: string | number, f: () => T): T {
  const there = typeof namespace === 'number' ? namespace : open(namespace)
  try {
    current ??= open(ownNetns)
    const home = current
    if (there === home) return f()
    const code = setns(there, CLONE_NEWNET)
    if (code !== 0)
      throw new Fault(
        'kernel',
        `enter namespace ${namespace}`,
        `${errnoName(code)}; it takes CAP_SYS_ADMIN, and a namespace`,
      )
    current = there
    try {
      return f()
    } finally {
      comeBack(home)
      current = home
    }
  } finally {
    if (typeof namespace === 'string') close(there)
  }
}

function bringLoopbackUp(): void {
  const netlink = new Netlink(NETLINK_ROUTE)
  const batch = new Batch()
  setLink(batch, 'bring lo up', { name: 'lo', up: true })
  try {
    netlink.send(batch)
  } finally {
    netlink.close()
  }
}

function comeBack(home: number): void {
  const code = setns(home, CLONE_NEWNET)
  if (code === 0) return
  process.stderr.write(`cannot return to this thread's own network namespace: ${errnoName(code)}\n`)
  process.abort()
}
