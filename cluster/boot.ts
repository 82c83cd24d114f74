import type { ChildProcess } from 'node:child_process'
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listenerOn } from '../lab/boot.ts'
import { enter, type Way } from '../lab/enter.ts'
import { initIn, isAlive, pidIn, tail } from '../lab/resident.ts'
import { Fault } from '../src/lib/fault.ts'
import { removeCgroup } from './cgroups.ts'
import { callsTo, Unanswered } from './control.ts'
import { calls, cgroupOf, type Machines, type MachinesOptions } from './machines.ts'

const prefix = 'polynet-cluster-'

/** Nodes have `/run` and `/var/lib` of their own. */
const base = /^\/(run|var\/lib)(\/|$)/.test(tmpdir()) ? '/tmp' : tmpdir()

/** Where everything of the cluster of this name is. */
export function clusterDir(name: string): string {
  if (!/^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/.test(name))
    throw new Fault('invalid', `name a cluster ${name}`, 'it must be at most 20 letters, digits and dashes')
  return join(base, prefix + name)
}

export const kubeconfigOf = (name: string): string => join(clusterDir(name), 'kubeconfig')

/** The names of the clusters that run. What others left behind without running any more is removed. */
export async function clusters(): Promise<string[]> {
  const running: string[] = []
  for (const entry of readdirSync(base)
    .filter((each) => each.startsWith(prefix))
    .sort()) {
    const dir = join(base, entry)
    const name = entry.slice(prefix.length)
    if (lstatSync(dir, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue
    if (isAlive(dir)) running.push(name)
    else await removeCluster(name)
  }
  return running
}

/** What the end of a cluster's first process leaves: the folder and the control groups. */
async function removeCluster(name: string): Promise<void> {
  await removeCgroup(cgroupOf(name))
  rmSync(clusterDir(name), { recursive: true, force: true, maxRetries: 5 })
}

/** How to speak with a running cluster; `closed` also waits until nothing of it is left. */
export type Connected = Pick<Machines, (typeof calls)[number]>

const connectCluster = (name: string): Connected =>
  callsTo<Connected>(join(clusterDir(name), 'control.sock'), calls)

/**
 * A cluster whose nodes are up. `stay`: it goes on when this process ends.
 * Rejects with `exists` when one of that name runs, and with `unavailable`
 * when it does not come up.
 */
export async function bootCluster(
  way: Exclude<Way, { how: 'none' }>,
  options: Omit<MachinesOptions, 'dir' | 'port'> & { port?: number; stay?: boolean },
): Promise<Connected> {
  const { name, port = 0, stay = false, ...rest } = options
  const doing = `start cluster ${name}`
  const dir = clusterDir(name)
  await clusters()
  const listener = await listenerOn(port)
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    listener.close()
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new Fault('exists', doing, `${dir} is there: it runs already; take another --name`)
  }
  const log = openSync(join(dir, 'cluster.log'), 'a')
  const inner: MachinesOptions = { ...rest, name, dir, port: listener.port }
  const child = enter(way, '../cluster/main.ts', [dir, JSON.stringify(inner), ...(stay ? ['stay'] : [])], {
    input: stay ? 'ignore' : 'pipe',
    output: log,
    listener: listener.fd,
  })
  closeSync(log)
  listener.close()
  writeFileSync(join(dir, 'pid'), String(child.pid ?? 0))
  if (stay) child.unref()
  const cluster = connectCluster(name)
  try {
    await up(child, cluster, doing, join(dir, 'cluster.log'))
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
  return { ...cluster, close: () => closeCluster(name, cluster) }
}

/** The running cluster of that name. */
export async function findCluster(name: string): Promise<Connected> {
  const running = await clusters()
  if (!running.includes(name)) {
    const remedy =
      running.length > 0 ? `running: ${running.join(', ')}` : 'start it with npm run cluster -- up'
    throw new Fault('missing', `find cluster ${name}`, `it does not run; ${remedy}`)
  }
  const cluster = connectCluster(name)
  return { ...cluster, close: () => closeCluster(name, cluster) }
}

/** Resolves when nothing of the cluster is left. */
async function closeCluster(name: string, cluster: Connected): Promise<void> {
  const dir = clusterDir(name)
  if (!existsSync(dir)) return
  const first = pidIn(dir)
  await cluster.close().catch(() => {})
  for (let tries = 0; isAlive(dir); tries++) {
    if (tries === 200) process.kill(first, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await removeCluster(name)
}

/** The cluster's first process, as processes outside see it. */
export const initOf = (name: string): number => initIn(clusterDir(name))

const bootWithinMs = 180_000

async function up(child: ChildProcess, cluster: Connected, doing: string, log: string): Promise<void> {
  let over: Fault | undefined
  let late: NodeJS.Timeout | undefined
  const gone = new Promise<never>((_, reject) => {
    const end = (why: string) => {
      over = new Fault('unavailable', doing, why)
      reject(over)
    }
    late = setTimeout(
      () => end(`its nodes are not up after ${bootWithinMs / 1000} s: ${tail(log)}`),
      bootWithinMs,
    )
    child.once('error', (error) => end(error.message))
    child.once('exit', (code) => end(`it ended with ${code}: ${tail(log)}`))
  })
  gone.catch(() => {})
  try {
    while (!over)
      try {
        await Promise.race([cluster.ready(), gone])
        return
      } catch (error) {
        // It has not come that far yet, or it has just ended, which its log explains.
        if (over || !(error instanceof Unanswered)) throw over ?? error
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    throw over
  } finally {
    clearTimeout(late)
    child.removeAllListeners('exit')
  }
}
