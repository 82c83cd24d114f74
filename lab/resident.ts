import { existsSync, lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The process that keeps up what runs in the folder `dir`, as the file `pid` there says. */
export const pidIn = (dir: string): number => Number(readFileSync(join(dir, 'pid'), 'utf8'))

/** The first process inside, as processes outside see it. */
export function initIn(dir: string): number {
  const pid = pidIn(dir)
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
}

/** Whether what runs in `dir` still does, or is being started. */
export function isAlive(dir: string): boolean {
  try {
    return readFileSync(`/proc/${pidIn(dir)}/cmdline`, 'utf8')
      .split('\0')
      .includes(dir)
  } catch {
    // One that is being started has no pid yet.
    return Date.now() - lstatSync(dir).ctimeMs < 5000 && !existsSync(join(dir, 'pid'))
  }
}

/** The last lines of a log; nothing where there is none. */
export function tail(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim().split('\n').slice(-5).join('\n')
  } catch {
    return ''
  }
}
