import { lstatSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { errno, errnoName, native } from './libc.ts'

/**
 * Another root directory, as for an agent in a container that works on the
 * host's files. A thread has that root only within one synchronous stretch,
 * and shares it with no other thread. One that cannot come back would open
 * everything after that in the wrong place, so the process aborts then.
 */

const c = {
  open: native('int open(const char *path, int flags, int mode)'),
  close: native('int close(int fd)'),
  unshare: native('int unshare(int flags)'),
  chroot: native('int chroot(const char *path)'),
  chdir: native('int chdir(const char *path)'),
  fchdir: native('int fchdir(int fd)'),
}

const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000
const CLONE_FS = 0x200

/** What `f`, which returns an errno, returns when `root` is the root and the working directory; or the errno for which it could not be called. */
export function rootedIn(root: string, f: () => number): number {
  const failed = (result: number): boolean => result < 0
  const home = c.open('/', O_PATH | O_CLOEXEC, 0)
  if (failed(home)) return errno()
  const cwd = c.open('.', O_PATH | O_CLOEXEC, 0)
  try {
    if (failed(cwd) || failed(c.unshare(CLONE_FS)) || failed(c.chroot(root))) return errno()
    try {
      return failed(c.chdir('/')) ? errno() : f()
    } finally {
      if (failed(c.fchdir(home)) || failed(c.chroot('.')) || failed(c.fchdir(cwd))) {
        process.stderr.write(`cannot return to this thread's own root directory: ${errnoName(errno())}\n`)
        process.abort()
      }
    }
  } finally {
    c.close(home)
    c.close(cwd)
  }
}

/**
 * Where `path` of the file system below `root` is, its links followed as
 * below that root: `/opt/cni/bin` there may be a link to `/home/cni/bin`,
 * which is not ours. What is missing is where it would be.
 */
export function inRoot(root: string, path: string): string {
  if (root === '/') return path
  const partsOf = (text: string) => text.split('/').filter((part) => part !== '' && part !== '.')
  const at: string[] = []
  let rest = partsOf(path)
  for (let links = 0; rest.length > 0; ) {
    const [part = '', ...others] = rest
    rest = others
    if (part === '..') at.pop()
    else at.push(part)
    const here = join(root, ...at)
    if (part === '..' || !lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink()) continue
    if (++links > 40) break
    const target = readlinkSync(here)
    if (target.startsWith('/')) at.length = 0
    else at.pop()
    rest = [...partsOf(target), ...rest]
  }
  return join(root, ...at, ...rest)
}
