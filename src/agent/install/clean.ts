import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { foreignPlugins } from '../../cni/exec.ts'
import { linuxDatapath } from '../../datapath/linux/linux.ts'
import { asFault, Fault } from '../../lib/fault.ts'
import { silentLog } from '../../lib/log.ts'
import { inRoot } from '../../lib/rooted.ts'
import { emptyNamespace } from '../../plan/node-plan.ts'
import { invocationOf } from '../invocation.ts'
import { readJournal } from '../journal/file.ts'
import { recordsIn, type SandboxRecord } from '../journal/record.ts'
import { isAnswered } from '../socket.ts'
import { isOurName } from './conf-place.ts'

export interface CleanOptions {
  /** Where the node's file system is; the directories are paths in it. */
  root: string
  confDir: string
  binDir: string
  force: boolean
}

/**
 * Takes everything of Polynet off the node: what other plugins hold for its
 * pods, links, namespaces, routes, rules, files. What was done, a line each;
 * nothing when nothing was there. Refuses with `conflict` while an agent
 * answers or a pod's namespace is there, unless forced. What fails is told, and
 * the rest is done.
 */
export async function cleanNode(options: CleanOptions): Promise<string[]> {
  const { root, force } = options
  const at = (path: string) => inRoot(root, path)
  const [run, lib] = [at('/run/polynet'), at('/var/lib/polynet')]
  const records = recordsIn(await readJournal(join(lib, 'journal')).catch(() => new Map()))
  if (!force) await refuse(join(run, 'agent.sock'), records, at)
  return [
    ...(await giveBack(records, options)),
    ...(await emptyKernel(run)),
    ...(await removeFiles(options, at)),
  ]
}

async function refuse(socket: string, records: SandboxRecord[], at: (path: string) => string): Promise<void> {
  const doing = 'clean this node'
  if (await isAnswered(socket))
    throw new Fault('conflict', doing, 'its agent runs; remove Polynet first, or --force')
  const there = records.find(({ netns }) => existsSync(netns) || existsSync(at(netns)))
  if (there)
    throw new Fault(
      'conflict',
      doing,
      `pod ${there.pod.namespace}/${there.pod.name} is there; delete the pods first (kubectl drain), or --force`,
    )
}

/** Has other plugins take away what they keep for pods whose DEL nobody played: addresses, forwarded ports. A line for each. */
export async function giveBack(
  records: SandboxRecord[],
  { root, confDir, binDir }: CleanOptions,
): Promise<string[]> {
  const binDirs = [...new Set([binDir, '/opt/cni/bin', '/usr/lib/cni'])]
  const hostRoot = root === '/' ? {} : { hostRoot: root }
  const plugins = foreignPlugins({ confDir, binDirs, ...hostRoot, log: silentLog })
  const lines: string[] = []
  for (const record of records)
    for (const a of record.attachments.toReversed()) {
      const made = invocationOf(record, a)
      if (!made) continue
      const { netns, pod } = record
      const what = `${a.interface} of pod ${pod.namespace}/${pod.name}`
      try {
        await plugins.del({ ...made, netns: existsSync(netns) ? netns : '' })
        lines.push(`gave back ${what}`)
      } catch (error) {
        lines.push(`could not give back ${what}: ${asFault(error, 'DEL').message}`)
      }
    }
  return lines
}

async function emptyKernel(run: string): Promise<string[]> {
  await mkdir(run, { recursive: true, mode: 0o700 })
  const datapath = await linuxDatapath({ runDir: run })
  try {
    const { changes } = await datapath.replace({ namespaces: [emptyNamespace('host')], ports: [] })
    return changes
  } finally {
    await datapath.close()
    // The datapath makes it to look into it.
    await rmdir(join(run, 'netns')).catch(() => {})
  }
}

async function removeFiles(
  { confDir, binDir }: CleanOptions,
  at: (path: string) => string,
): Promise<string[]> {
  const lines: string[] = []
  const remove = async (path: string) => {
    const there = at(path)
    if (!existsSync(there)) return
    await rm(there, { recursive: true, force: true })
    lines.push(`- file ${path}`)
  }
  for (const name of await readdir(at(confDir)).catch(() => []))
    if (isOurName(name) || /^0+-polynet\.conflist\..*\.new$/.test(name)) await remove(join(confDir, name))
  // A link's own path: what it points to goes first.
  for (const name of await readdir(at(binDir)).catch(() => []))
    if (/^polynet-(cni|ipam)(\..*\.new)?$/.test(name)) {
      await rm(join(at(binDir), name), { force: true })
      lines.push(`- file ${join(binDir, name)}`)
    }
  for (const dir of ['/run/polynet', '/var/lib/polynet'])
    for (const name of await readdir(at(dir)).catch(() => [])) await remove(join(dir, name))
  // A container's mount cannot be removed in it, and is empty.
  for (const dir of ['/run/polynet', '/var/lib/polynet'])
    await rm(at(dir), { recursive: true, force: true }).catch(() => {})
  return lines
}
