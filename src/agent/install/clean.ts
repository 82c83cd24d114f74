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
import { salvageJournal } from '../journal/file.ts'
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

const journalPath = '/var/lib/polynet/journal'

/**
 * Takes everything of Polynet off the node: what other plugins hold for its
 * pods, links, namespaces, routes, rules, files. Tells what was done, a line
 * each; nothing when nothing was there. Refuses with `conflict` while an agent
 * answers or a pod's namespace is there, unless forced. What fails is told, and
 * the rest is done; where other plugins hold something still, or may since the
 * journal is damaged, rejects with `plugin` at the end, and the journal stays
 * unless forced.
 */
export async function cleanNode(options: CleanOptions, tell: (line: string) => void): Promise<void> {
  const { root, force } = options
  const at = (path: string) => inRoot(root, path)
  const run = at('/run/polynet')
  const { entries, damage } = await salvageJournal(at(journalPath))
  const records = recordsIn(entries)
  if (!force) await refuse(join(run, 'agent.sock'), records, at)
  const { lines, failed } = await giveBack(records, options)
  for (const line of lines) tell(line)
  for (const line of await emptyKernel(run)) tell(line)
  const left = leftSentence(failed, damage)
  for (const line of await removeFiles(options, at, left !== undefined && !force)) tell(line)
  if (left === undefined) return
  const remedy = force
    ? `the journal is gone by now; what they keep is in their own files (/var/lib/cni)`
    : `put that right and repeat it; ${journalPath} stays until then, or until --force`
  throw new Fault('plugin', doing, `${left}; ${remedy}`)
}

const doing = 'clean this node'

/** What other plugins hold still, or may hold; undefined when they hold nothing. */
function leftSentence(failed: number, damage: string | undefined): string | undefined {
  const sentences = [
    ...(failed > 0 ? [`${failed} of the interfaces that other plugins made could not be given back`] : []),
    ...(damage === undefined
      ? []
      : [`other plugins may hold more than the journal names, since it cannot be trusted (${damage})`]),
  ]
  return sentences.length > 0 ? sentences.join('; ') : undefined
}

async function refuse(socket: string, records: SandboxRecord[], at: (path: string) => string): Promise<void> {
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

/** Has other plugins take away what they keep for pods whose DEL nobody played: addresses, forwarded ports. A line for each, and how many failed. */
export async function giveBack(
  records: SandboxRecord[],
  { root, confDir, binDir }: CleanOptions,
): Promise<{ lines: string[]; failed: number }> {
  const binDirs = [...new Set([binDir, '/opt/cni/bin', '/usr/lib/cni'])]
  const hostRoot = root === '/' ? {} : { hostRoot: root }
  const plugins = foreignPlugins({ confDir, binDirs, ...hostRoot, log: silentLog })
  const lines: string[] = []
  let failed = 0
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
        failed++
        lines.push(`could not give back ${what}: ${asFault(error, 'DEL').message}`)
      }
    }
  return { lines, failed }
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
  keepJournal: boolean,
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
    for (const name of await readdir(at(dir)).catch(() => []))
      if (!keepJournal || join(dir, name) !== journalPath) await remove(join(dir, name))
  // A container's mount cannot be removed in it, and is empty.
  for (const dir of ['/run/polynet', '/var/lib/polynet']) await rmdir(at(dir)).catch(() => {})
  return lines
}
