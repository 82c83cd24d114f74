import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseRequest } from '../cni/frame.ts'
import { type Clock, onwards } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import { limit } from '../lib/limit.ts'
import type { Log } from '../lib/log.ts'
import type { Agent } from './agent.ts'
import { takingAway } from './sandboxes.ts'

/** How often the spool is looked into, and how long after it failed for the first time a DEL is tried again. */
const lookMs = 1000
const lastMs = 30_000

/** A DEL of the spool, from when it is first tried. */
interface Tried {
  underWay: boolean
  pauseMs: number
  dueAt: number
  /** Why it failed, as it was logged last. */
  said?: string
}

/** Why a DEL stays in the spool. */
interface Failure {
  message: string
  fields: object
}

/**
 * Plays the DELs that shims took down in `dir` while no agent answered, the
 * oldest first and some at once, while `ready`, and removes each that
 * succeeds. One that fails holds up no other: it is tried ever more slowly, up
 * to half a minute, and logged when why it fails is new. What is no DEL is
 * logged and removed: it can never succeed. Returns how to stop; what is under
 * way goes on.
 */
export function startSpool(deps: {
  dir: string
  ready: () => boolean
  handle: Agent['handle']
  clock: Clock
  log: Log
}): () => void {
  const { dir, ready, handle, log } = deps
  const clock = onwards(deps.clock)
  const stop = new AbortController()
  const limited = limit(takingAway)
  const tried = new Map<string, Tried>()

  const tryOne = async (name: string, one: Tried) => {
    // It may have waited for its place.
    const failure =
      ready() && !stop.signal.aborted ? await failureOf(join(dir, name), handle, log) : undefined
    one.underWay = false
    if (!failure) {
      tried.delete(name)
      return
    }
    const { message, fields } = failure
    const why = JSON.stringify(failure)
    if (why !== one.said) log.warn(message, fields)
    one.said = why
    one.dueAt = clock.now() + one.pauseMs
    one.pauseMs = Math.min(lastMs, 2 * one.pauseMs)
  }

  const look = async () => {
    const names = (await readdir(dir).catch(() => [])).filter((name) => !name.startsWith('.')).sort()
    const there = new Set(names)
    for (const [name, { underWay }] of tried) if (!there.has(name) && !underWay) tried.delete(name)
    for (const name of names) {
      const one = tried.get(name) ?? { underWay: false, pauseMs: lookMs, dueAt: clock.now() }
      if (one.underWay || one.dueAt > clock.now()) continue
      tried.set(name, one)
      one.underWay = true
      void limited(() => tryOne(name, one))
    }
  }

  const run = async () => {
    for (; !stop.signal.aborted; await clock.sleep(lookMs, stop.signal)) if (ready()) await look()
  }
  void run()
  return () => stop.abort()
}

/** Plays one file of the spool and removes it; why it stays there, if it does. */
async function failureOf(path: string, handle: Agent['handle'], log: Log): Promise<Failure | undefined> {
  const frame = await readFile(path).catch(() => undefined)
  if (!frame) return undefined // somebody took it away
  const parsed = parseRequest(frame)
  const isDel = parsed.ok && parsed.request.command === 'DEL'
  const fields = { file: path, ...(parsed.ok ? { containerID: parsed.request.containerID } : {}) }
  try {
    if (isDel) {
      const answer = await handle(parsed.request, true)
      if (answer.exit !== 0)
        return {
          message: 'work off the spool: a DEL failed; it stays there and is tried again',
          fields: { ...fields, ...answer },
        }
    }
    await rm(path, { force: true })
  } catch (error) {
    const { message } = asFault(error, 'remove a file')
    return { message: `work off the spool: ${message}; check the disk and the directory's rights`, fields }
  }
  if (!isDel)
    log.warn('work off the spool: not a DEL; dropped', { ...fields, ...(parsed.ok ? {} : parsed.answer) })
  return undefined
}
