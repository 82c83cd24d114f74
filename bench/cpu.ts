import { readdirSync, readFileSync } from 'node:fs'
import { native } from '../src/lib/libc.ts'

/** Milliseconds of processor time, user and kernel together. */

const getrusage = native('int getrusage(int who, void *usage)')
const usage = Buffer.alloc(144)

/** What the children of this process took that have ended, with all of theirs. */
export function cpuOfChildren(): number {
  getrusage(-1, usage)
  const time = (at: number) =>
    Number(usage.readBigInt64LE(at)) * 1000 + Number(usage.readBigInt64LE(at + 8)) / 1000
  return time(0) + time(16)
}

/** What the threads of a process took that are alive, to the nanosecond: /proc/<pid>/stat only knows ticks of 10 ms. */
export function cpuOf(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [running = '0'] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')
    nanoseconds += Number(running)
  }
  return nanoseconds / 1e6
}

/** Resident memory of a process in MiB: all of it, of that what is a file's, and what is nobody else's. */
export function memoryOf(pid: number): { resident: number; shared: number; anonymous: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / 1024
  return { resident: field('VmRSS'), shared: field('RssFile'), anonymous: field('RssAnon') }
}
