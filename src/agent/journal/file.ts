import { constants, writeSync } from 'node:fs'
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { asFault, Fault } from '../../lib/fault.ts'
import { native } from '../../lib/libc.ts'
import type { Log } from '../../lib/log.ts'
import { amended, type Journal } from './journal.ts'

/**
 * The journal in a file. After a first line come records: length and CRC-32
 * of what follows (little-endian, 4 bytes each), then a JSON list of changes.
 * What is written in one tick, or while the disk is busy, becomes one record,
 * one write and one fdatasync. A file that is mostly overtaken by later
 * records is written anew and renamed.
 */
const magic = Buffer.from('polynet-journal/2\n')
/** How journals began in which nothing was amended. */
const magicBefore = Buffer.from('polynet-journal/1\n')
const headBytes = 8
/** As much as some eighty pods write that come and go. */
const compactBytes = 1024 * 1024

/** In the order of a record: `b` a boot, `f` what of the previous one is forgotten, `k`/`v` a change, `k`/`a` fields amended; only `k` deletes. */
type Change = { b: string } | { f: string } | { k: string; v?: unknown; a?: Record<string, unknown> }

interface State {
  boot: string
  entries: Map<string, unknown>
  previous: Map<string, unknown>
}

interface Waiting {
  changes: Change[]
  /** The same, as they stand in a record's list. */
  text: string
  done: () => void
  failed: (fault: Fault) => void
}

export interface JournalOptions {
  /** Absent: this machine's. */
  bootId?: string
  /** False where a test or a benchmark need not survive a power cut. */
  fsync?: boolean
  /** Absent: nobody is told. */
  log?: Log
}

/**
 * Opens the journal, or makes an empty one. What a crash left half-written at
 * its end is cut off; so is, after a boot, what follows other damage, and the
 * file as it was is kept as `….damaged`. Rejects with `unavailable` when
 * another process has it open, `kernel` when it is damaged elsewhere or cannot
 * be read.
 */
export async function openJournal(path: string, options: JournalOptions = {}): Promise<Journal> {
  const doing = `open the journal ${path}`
  const bootId = options.bootId ?? (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  const sync = options.fsync ?? true
  const file = await openLocked(path, sync)
  try {
    const bytes = await readAll(file)
    const { state, end, size, damaged } = replay(bytes, doing, bootId)
    if (damaged) {
      await writeFile(`${path}.damaged`, bytes, { mode: 0o600 })
      options.log?.warn(
        `${doing}: it is damaged at byte ${end}, as a power cut leaves it; what stands before is taken for that of the boot before, the whole file is ${path}.damaged`,
      )
    }
    if (end < size) await file.truncate(end)
    const journal = new FileJournal(path, file, end, state, sync)
    if (startsWith(bytes, magicBefore)) await journal.compact()
    if (state.boot !== bootId) await journal.boot(bootId)
    return journal
  } catch (error) {
    await file.close()
    throw diskFault(error, doing)
  }
}

/** What a journal holds now, beside the agent that has it open; nothing when there is none. */
export async function readJournal(path: string): Promise<ReadonlyMap<string, unknown>> {
  const bytes = await readFile(path).catch(() => magic)
  return replay(bytes, `read the journal ${path}`).state.entries
}

/**
 * All that a journal still says, also of the boot before, for who takes
 * Polynet off the node; nothing when there is none. Of one that is damaged,
 * what its whole records say, of which some may be overtaken by what is lost;
 * `damage` says what is wrong with it.
 */
export async function salvageJournal(
  path: string,
): Promise<{ entries: ReadonlyMap<string, unknown>; damage?: string }> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return { entries: new Map(), ...(code === 'ENOENT' ? {} : { damage: message }) }
  }
  // A crash may leave less than the first line.
  if (startsWith(magic, bytes)) return { entries: new Map() }
  try {
    const { state } = replay(bytes, `read the journal ${path}`)
    return { entries: new Map([...state.previous, ...state.entries]) }
  } catch (error) {
    const state: State = { boot: '', entries: new Map(), previous: new Map() }
    for (const change of recordsBeyond(bytes, -1).flat()) apply(state, change)
    const [damage] = asFault(error, 'read it').problem.split(';')
    return { entries: new Map([...state.previous, ...state.entries]), damage }
  }
}

const flock = native('int flock(int fd, int operation)')
const exclusiveNoWait = 2 | 4

/** The file, locked for this process until it is closed; made with its first line if it was not there. */
async function openLocked(path: string, sync: boolean): Promise<FileHandle> {
  for (;;) {
    const file = await openOrMake(path, sync)
    if (flock(file.fd, exclusiveNoWait) !== 0) {
      await file.close()
      throw new Fault(
        'unavailable',
        `open the journal ${path}`,
        'another agent has it open; stop that one first',
      )
    }
    // The one who had it may have renamed a new file over it just before it let go.
    const [mine, there] = [await file.stat(), await stat(path).catch(() => undefined)]
    if (mine.ino === there?.ino) return file
    await file.close()
  }
}

async function openOrMake(path: string, sync: boolean): Promise<FileHandle> {
  const mode = constants.O_RDWR | constants.O_CREAT
  try {
    const file = await open(path, mode, 0o600)
    if ((await file.stat()).size < magic.length) {
      await file.write(magic, 0, magic.length, 0)
      if (sync) await file.datasync()
      if (sync) await syncDirectory(path)
    }
    return file
  } catch (error) {
    throw diskFault(error, `open the journal ${path}`)
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(dirname(path), constants.O_RDONLY)
  await directory.sync().finally(() => directory.close())
}

async function readAll(file: FileHandle): Promise<Buffer> {
  const bytes = Buffer.alloc((await file.stat()).size)
  const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
  return bytes.subarray(0, bytesRead)
}

/**
 * What the records come to, and where the last whole one before a torn or
 * damaged one ends. Damage is refused unless all that is in the file is surely
 * of a boot before `bootId`: what is held now might be given away.
 */
function replay(
  bytes: Buffer,
  doing: string,
  bootId?: string,
): { state: State; end: number; size: number; damaged: boolean } {
  const state: State = { boot: '', entries: new Map(), previous: new Map() }
  if (!startsWith(bytes, magic) && !startsWith(bytes, magicBefore))
    throw new Fault('kernel', doing, 'the file is no journal of Polynet; move it away')
  let at = magic.length
  for (;;) {
    const record = recordAt(bytes, at)
    if (!record) break
    for (const change of record.changes) apply(state, change)
    at = record.end
  }
  // Only the last record can be torn: the next is written once it is on disk. A whole one further on means damage.
  const beyond = recordsBeyond(bytes, at)
  const isBefore = bootId !== undefined && state.boot !== '' && state.boot !== bootId
  if (
    beyond.length > 0 &&
    (!isBefore || beyond.flat().some((change) => 'b' in change && change.b === bootId))
  )
    throw new Fault(
      'kernel',
      doing,
      `it is damaged at byte ${at}, and what follows cannot be trusted; drain the node, move the file away and start the agent again`,
    )
  return { state, end: at, size: bytes.length, damaged: beyond.length > 0 }
}

/** The whole records behind one that is none. */
function recordsBeyond(bytes: Buffer, at: number): Change[][] {
  const all: Change[][] = []
  for (let further = at + 1; further + headBytes < bytes.length; further++) {
    const record = recordAt(bytes, further)
    if (!record) continue
    all.push(record.changes)
    further = record.end - 1
  }
  return all
}

const startsWith = (bytes: Buffer, line: Buffer): boolean => bytes.subarray(0, line.length).equals(line)

function recordAt(bytes: Buffer, at: number): { changes: Change[]; end: number } | undefined {
  if (at + headBytes > bytes.length) return undefined
  const length = bytes.readUInt32LE(at)
  const end = at + headBytes + length
  if (length === 0 || end > bytes.length) return undefined
  const body = bytes.subarray(at + headBytes, end)
  if (crc32(body) !== bytes.readUInt32LE(at + 4)) return undefined
  return { changes: JSON.parse(body.toString('utf8')), end }
}

function recordOf(text: string): Buffer {
  const record = Buffer.allocUnsafe(headBytes + Buffer.byteLength(text))
  const length = record.write(text, headBytes)
  record.writeUInt32LE(length, 0)
  record.writeUInt32LE(crc32(record.subarray(headBytes)), 4)
  return record
}

function apply(state: State, change: Change): void {
  if ('b' in change) {
    if (state.boot !== '') {
      for (const [key, value] of state.entries) state.previous.set(key, value)
      state.entries.clear()
    }
    state.boot = change.b
  } else if ('f' in change) forget(state.previous, change.f)
  else if (change.a) {
    if (state.entries.has(change.k))
      state.entries.set(change.k, amended(state.entries.get(change.k), change.a))
  } else if (change.v === undefined) state.entries.delete(change.k)
  else state.entries.set(change.k, change.v)
}

function forget(entries: Map<string, unknown>, prefix: string): void {
  for (const key of [...entries.keys()]) if (key.startsWith(prefix)) entries.delete(key)
}

class FileJournal implements Journal {
  readonly #path: string
  readonly #sync: boolean
  readonly #state: State
  #file: FileHandle
  #end: number
  /** How long the file was when it was last written anew. */
  #compacted = 0
  #waiting: Waiting[] = []
  #writing: Promise<void> | undefined
  #broken: Fault | undefined

  constructor(path: string, file: FileHandle, end: number, state: State, sync: boolean) {
    this.#path = path
    this.#file = file
    this.#end = end
    this.#state = state
    this.#sync = sync
  }

  get previousBoot(): ReadonlyMap<string, unknown> {
    return this.#state.previous
  }

  entries(): ReadonlyMap<string, unknown> {
    return this.#state.entries
  }

  get(key: string): unknown {
    return this.#state.entries.get(key)
  }

  put(key: string, value: unknown): Promise<void> {
    return this.#append([{ k: key, v: value }])
  }

  delete(key: string): Promise<void> {
    return this.#append([{ k: key }])
  }

  amend(key: string, fields: Record<string, unknown>): Promise<void> {
    return this.#append([{ k: key, a: fields }])
  }

  write(changes: ReadonlyMap<string, unknown>): Promise<void> {
    return this.#append(Array.from(changes, ([k, v]) => ({ k, v })))
  }

  forgetPreviousBoot(prefix = ''): Promise<void> {
    return this.#append([{ f: prefix }])
  }

  /** What is held from now on is of this boot. Nothing of it stands in the file before that is said, whatever is damaged later. */
  async boot(bootId: string): Promise<void> {
    const isFirst = this.#state.boot === ''
    await this.#append([{ b: bootId }])
    // Once a boot this may wait for the disk: the boot before is not lost with the next power cut.
    if (!isFirst) await this.compact(true)
  }

  async close(): Promise<void> {
    await this.#writing
    this.#broken ??= new Fault('unavailable', `write the journal ${this.#path}`, 'it is closed')
    await this.#file.close()
  }

  #append(changes: Change[]): Promise<void> {
    if (changes.length === 0) return Promise.resolve()
    const text = JSON.stringify(changes).slice(1, -1)
    return new Promise((done, failed) => {
      this.#waiting.push({ changes, text, done, failed })
      this.#writing ??= this.#writeAll()
    })
  }

  async #writeAll(): Promise<void> {
    // Waiting for a disk is worth more company than writing into the page cache.
    await (this.#sync ? new Promise<void>((resolve) => setImmediate(resolve)) : undefined)
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      try {
        if (this.#broken) throw this.#broken
        await this.#writeRecord(recordOf(`[${batch.map(({ text }) => text).join(',')}]`))
        for (const { changes } of batch) for (const change of changes) apply(this.#state, change)
        for (const { done } of batch) done()
      } catch (error) {
        const fault = diskFault(error, `write the journal ${this.#path}`)
        for (const { failed } of batch) failed(fault)
      }
      if (this.#end > compactBytes && this.#end > 2 * this.#compacted) await this.compact()
    }
    // In the same stretch as the last look at the queue: who comes later starts the writing again.
    this.#writing = undefined
  }

  async #writeRecord(record: Buffer): Promise<void> {
    try {
      // Into the page cache, which takes 10 µs; a thread of the pool takes ten times that.
      if (this.#sync) await writeFully(this.#file, record, this.#end)
      else writeNow(this.#file, record, this.#end)
    } catch (error) {
      await this.#cutBack()
      throw error
    }
    try {
      if (this.#sync) await this.#file.datasync()
    } catch (error) {
      // What reached the disk is unknown, and asking again would not tell (fsync reports an error once).
      this.#broken = new Fault(
        'kernel',
        `write the journal ${this.#path}`,
        `the disk failed (${problemOf(error)}); repair it and restart the agent`,
      )
      throw this.#broken
    }
    this.#end += record.length
  }

  async #cutBack(): Promise<void> {
    try {
      await this.#file.truncate(this.#end)
    } catch (error) {
      this.#broken = diskFault(error, `write the journal ${this.#path}`)
    }
  }

  /** Writes what is held into a new file and puts it in the old one's place; on failure the old one goes on. */
  async compact(sync = this.#sync): Promise<void> {
    const path = `${this.#path}.new`
    const { boot, entries, previous } = this.#state
    const changes: Change[] = [
      ...Array.from(previous, ([k, v]) => ({ k, v })),
      ...(previous.size > 0 ? [{ b: 'previous' }] : []),
      { b: boot },
      ...Array.from(entries, ([k, v]) => ({ k, v })),
    ]
    const record = recordOf(JSON.stringify(changes))
    let file: FileHandle | undefined
    try {
      file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600)
      flock(file.fd, exclusiveNoWait)
      await writeFully(file, Buffer.concat([magic, record]), 0)
      if (sync) await file.sync()
      await rename(path, this.#path)
    } catch {
      await file?.close()
      await rm(path, { force: true })
      this.#compacted = this.#end
      return
    }
    const old = this.#file
    this.#file = file
    this.#end = this.#compacted = magic.length + record.length
    await old.close()
    if (sync) await syncDirectory(this.#path).catch(() => {})
  }
}

async function writeFully(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

function writeNow(file: FileHandle, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(file.fd, bytes, done, bytes.length - done, position + done)
}

const problemOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

function diskFault(error: unknown, doing: string): Fault {
  if (error instanceof Fault) return error
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new Fault('kernel', doing, 'the disk is full; make room, then it goes on by itself', error)
  return new Fault('kernel', doing, `${problemOf(error)}; check the disk and the directory's rights`, error)
}
