import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'

/** How this machine lets us make namespaces, or why it does not. */
export type Way = { how: 'root' | 'user namespaces'; flags: readonly string[] } | { how: 'none'; why: string }

/**
 * Everything of a lab lives in namespaces of its own: processes, mounts, the
 * network. When the first process ends, however it ends, the kernel takes
 * all of them away.
 */
const namespaces = [
  '--mount',
  '--propagation',
  'private',
  '--net',
  '--pid',
  '--fork',
  '--kill-child',
  '--mount-proc',
]

/** Tries it: what a kernel allows depends on its settings, on security modules, and on the container one is in. */
export function wayIn(): Way {
  if (process.platform !== 'linux')
    return { how: 'none', why: `this is ${process.platform}, and a lab takes Linux` }
  const attempts = [
    ...(process.getuid?.() === 0 ? [{ how: 'root', flags: namespaces } as const] : []),
    { how: 'user namespaces', flags: ['--user', '--map-root-user', ...namespaces] } as const,
  ]
  let why = ''
  for (const attempt of attempts) {
    const done = spawnSync('unshare', [...attempt.flags, 'true'], { encoding: 'utf8' })
    if (done.status === 0) return attempt
    why = done.error ? `${done.error.message}; install util-linux` : done.stderr.trim()
  }
  return { how: 'none', why: `it does not let us make namespaces (${why})` }
}

/**
 * Starts `script` as the lab's own Node in the lab's namespaces, in a session
 * of its own. It has `listener` as descriptor 3, and ends by itself when its
 * stdin does. A shell is the first process there: it collects orphans.
 */
export function enter(
  way: Exclude<Way, { how: 'none' }>,
  script: string,
  args: string[],
  stdio: { input: 'pipe' | 'ignore'; output: 'inherit' | number; listener: number },
): ChildProcess {
  // A shell gives what runs in the background no stdin, unless it is another descriptor's.
  const init = ['sh', '-c', 'exec 4<&0; "$@" <&4 4<&- & wait $!', 'init']
  const node = [process.execPath, join(import.meta.dirname, script), ...args]
  return spawn('unshare', [...way.flags, ...init, ...node], {
    detached: true,
    stdio: [stdio.input, stdio.output, stdio.output, stdio.listener],
  })
}
