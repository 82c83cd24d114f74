import { Fault } from '../../lib/fault.ts'
import { amended, type Journal } from './journal.ts'

/** What a journal in memory survives a crash on: hand the same disk to the next one. */
export interface MemoryDisk {
  boot: string
  entries: Map<string, unknown>
  previous: Map<string, unknown>
  /** Set by a test: asked at each write whether it fails, as on a full disk. */
  full?: (() => boolean) | undefined
  /** Who has it open. */
  user?: object
}

export const memoryDisk = (): MemoryDisk => ({ boot: '', entries: new Map(), previous: new Map() })

/** A journal without a file: durable on `disk`, one microtask after it was asked. */
export function memoryJournal(
  disk: MemoryDisk = memoryDisk(),
  options: { bootId?: string } = {},
): Journal & {
  /** The process is gone: what was under way is lost, and the disk is free for the next. */
  crash(): void
} {
  const bootId = options.bootId ?? 'boot'
  const user = {}
  if (disk.user)
    throw new Fault('unavailable', 'open the journal', 'another agent has it open; stop that one first')
  disk.user = user
  if (disk.boot !== bootId) {
    if (disk.boot !== '') {
      for (const [key, value] of disk.entries) disk.previous.set(key, value)
      disk.entries = new Map()
    }
    disk.boot = bootId
  }
  const durable = async (): Promise<void> => {
    await undefined
    if (disk.user !== user) throw new Fault('unavailable', 'write the journal', 'it is closed')
    if (disk.full?.())
      throw new Fault('kernel', 'write the journal', 'the disk is full; make room, then it goes on by itself')
  }
  const write = async (changes: ReadonlyMap<string, unknown>): Promise<void> => {
    const copy: [string, string | undefined][] = Array.from(changes, ([k, v]) => [k, JSON.stringify(v)])
    await durable()
    for (const [key, text] of copy)
      if (text === undefined) disk.entries.delete(key)
      else disk.entries.set(key, JSON.parse(text))
  }
  return {
    entries: () => disk.entries,
    get: (key) => disk.entries.get(key),
    put: (key, value) => write(new Map([[key, value]])),
    delete: (key) => write(new Map([[key, undefined]])),
    async amend(key, fields) {
      const copy = JSON.parse(JSON.stringify(fields))
      await durable()
      if (disk.entries.has(key)) disk.entries.set(key, amended(disk.entries.get(key), copy))
    },
    write,
    get previousBoot() {
      return disk.previous
    },
    async forgetPreviousBoot(prefix = '') {
      await durable()
      for (const key of [...disk.previous.keys()]) if (key.startsWith(prefix)) disk.previous.delete(key)
    },
    async close() {
      await undefined
      if (disk.user === user) disk.user = undefined
    },
    crash() {
      if (disk.user === user) disk.user = undefined
    },
  }
}
