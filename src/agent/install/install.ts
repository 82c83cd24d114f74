import { watch } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isLoopback } from '../../attach/plugin-name.ts'
import { readConfDir } from '../../cni/conf.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, Fault } from '../../lib/fault.ts'
import type { Log } from '../../lib/log.ts'
import { inRoot } from '../../lib/rooted.ts'
import { confPlace, confText, isOurName } from './conf-place.ts'
import { putFile, putLink, syncDir } from './files.ts'

export interface InstallDeps {
  /** The compiled shim. */
  shim: string
  /** Where the host's file system is; the directories are paths in it. */
  hostRoot: string
  binDir: string
  confDir: string
  /** There while Polynet is removed; the shim says so. */
  removedMark: string
  /** Leaves the first place to whoever takes it. */
  yielding?: boolean
  /** Whether this node's agent can attach pods. */
  ready(): boolean
  /** Why a pod that asks for nothing would get no network, or nothing. */
  lacking(): Promise<string | undefined>
  /** Tells the cluster's administrators. */
  tell(reason: string, message: string): void
  clock: Clock
  log: Log
}

export interface Installation {
  /** Whether the runtime takes our conf before every other. */
  first(): boolean
  /** Why the runtime cannot ask for networks yet, or nothing; a conf that was on the node before counts. */
  missing(): string | undefined
  /** Takes our conf away where another plugin's is there; else both stay, and the shim says that Polynet was removed. */
  remove(): Promise<void>
  close(): Promise<void>
}

/** How often the directory is looked at where nobody says that it has changed. */
const lookMs = 5000
const readyMs = 50
const lackingMs = 200

/**
 * Puts shim and conf on the node once the agent is ready, so that the node is
 * Ready no sooner than pods can be attached, and keeps them there: ours is the
 * conf that the runtime takes, whoever puts another beside it. On a node
 * without ours it comes when a pod that asks for nothing gets a network: until
 * then kubelets keep pods back, instead of failing with them. Files are
 * replaced in one step, and only when they differ.
 */
export function startInstallation(deps: InstallDeps): Installation {
  const { clock, log, ready, hostRoot } = deps
  const confDir = () => inRoot(hostRoot, deps.confDir)
  const stop = new AbortController()
  let wake = new AbortController()
  let first = false
  let told = ''
  let failure = ''
  let missing: string | undefined = 'shim and conf are not on the node yet'

  const say = (before: string[], isFirst: boolean) => {
    const text = before.length === 0 ? '' : rivals(deps.confDir, before, isFirst)
    if (text !== '' && text !== told) {
      log.warn(text, { first: isFirst })
      deps.tell(isFirst ? 'CNIConfBefore' : 'CNIConfNotFirst', text)
    }
    told = text
  }

  const round = async () => {
    await putShim(deps)
    const dir = confDir()
    await mkdir(dir, { recursive: true })
    const files = await readdir(dir)
    const place = confPlace(files, deps.yielding)
    // The new one before the old one is gone: there is no moment without.
    if (await putFile(join(dir, place.name), Buffer.from(confText), 0o644))
      log.info('the conf is on the node', { file: join(deps.confDir, place.name) })
    for (const file of files)
      if (isOurName(file) && file !== place.name) await rm(join(dir, file), { force: true })
    await rm(deps.removedMark, { force: true })
    first = place.first
    say(place.before, place.first)
  }

  /** Whether a runtime takes our conf already, and is not told that Polynet was removed. */
  const isThere = async () => {
    const files = await readdir(confDir()).catch(() => [])
    const removed = await stat(deps.removedMark).catch(() => undefined)
    return files.some(isOurName) && !removed
  }

  const wait = async () => {
    while (!ready() && !stop.signal.aborted) await clock.sleep(readyMs, stop.signal)
    while (!stop.signal.aborted && !(await isThere())) {
      const why = await deps.lacking()
      if (why === undefined) return
      if (why !== missing) log.info('the conf waits until pods have a network', { why })
      missing = why
      await clock.sleep(lackingMs, stop.signal)
    }
  }

  const keep = async () => {
    await wait()
    while (!stop.signal.aborted) {
      wake = new AbortController()
      const forget = noticing(confDir(), () => wake.abort())
      try {
        await round()
        failure = ''
        missing = undefined
      } catch (error) {
        const { message } = asFault(error, 'install Polynet on the node')
        if (message !== failure) log.error(message)
        failure = message
      }
      await clock.sleep(lookMs, AbortSignal.any([wake.signal, stop.signal]))
      forget()
    }
  }
  const kept = keep()

  return {
    first: () => first,
    missing: () => missing,
    async remove() {
      stop.abort()
      await kept
      const dir = confDir()
      const files = await readdir(dir).catch(() => [])
      const { confs } = await readConfDir(deps.confDir, hostRoot)
      const loopback = confs.filter(isLoopback).map(({ source }) => basename(source))
      const { others } = confPlace(files.filter((file) => !loopback.includes(file)))
      if (!others) {
        await putFile(deps.removedMark, Buffer.from(''), 0o600)
        log.warn(
          `removed: no conf of another network is in ${deps.confDir}; new pods wait until there is one`,
        )
        return
      }
      for (const file of files) if (isOurName(file)) await rm(join(dir, file), { force: true })
      await syncDir(dir)
      first = false
      log.info("removed: the node's other plugin makes the pods to come", { dir: deps.confDir })
    },
    async close() {
      stop.abort()
      await kept
    },
  }
}

async function putShim({ shim, hostRoot, binDir, log }: InstallDeps): Promise<void> {
  const dir = inRoot(hostRoot, binDir)
  await mkdir(dir, { recursive: true })
  const program = await readFile(shim).catch((error) => {
    const problem = `cannot read ${shim} (${error.code}); name the compiled shim`
    throw new Fault('missing', 'install the shim', problem, error)
  })
  if (await putFile(join(dir, 'polynet-cni'), program, 0o755))
    log.info('the shim is on the node', { dir: binDir })
  await putLink(join(dir, 'polynet-ipam'), 'polynet-cni')
}

/** Calls back when the directory changes, where that can be noticed. Returns how to stop. */
function noticing(dir: string, changed: () => void): () => void {
  try {
    const watcher = watch(dir, { persistent: false }, changed)
    watcher.on('error', () => {})
    return () => watcher.close()
  } catch {
    return () => {}
  }
}

function rivals(dir: string, before: string[], first: boolean): string {
  const files = before.map((file) => join(dir, file)).join(', ')
  const come = before.length === 1 ? 'comes' : 'come'
  return first
    ? `keep the first place in ${dir}: ${files} ${come} before polynet's usual name, so polynet's has a lower one; take the other away, or start agents with --yield to leave it the pods`
    : `keep the first place in ${dir}: the runtime takes ${files} before polynet's, whose networks new pods do not get; take it away or rename it`
}
