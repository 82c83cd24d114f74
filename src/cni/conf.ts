import { readdirSync, statSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { inAscii } from '../lib/ascii.ts'
import type { Parsed, Problem } from '../lib/fault.ts'
import { isObject } from '../lib/json.ts'
import { inRoot } from '../lib/rooted.ts'
import type { NetworkConf } from './plugins.ts'
import { atLeast, resultVersions } from './versions.ts'

/** The largest conf that is read. */
const sizeLimit = 1 << 20

/**
 * The network configuration that `text` writes, be it a list or one plugin's
 * conf, in the form of a list; or everything that is wrong with it. `source`
 * is for messages; `name` is the name of one that has none of its own, as a
 * NetworkAttachmentDefinition may.
 */
export function parseConf(text: string, source: string, name?: string): Parsed<NetworkConf> {
  const problems: Problem[] = []
  const wrong = (path: string, problem: string) => {
    problems.push({ path, problem })
  }
  const json = jsonIn(text)
  if ('problem' in json) return { ok: false, problems: [{ path: '', problem: `${source}: ${json.problem}` }] }
  const { conf } = json
  const isList = 'plugins' in conf
  const named = conf.name ?? name
  if (typeof named !== 'string' || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(named))
    wrong('name', `${show(named)} is no network name; use letters, digits, "_", "." and "-"`)
  const plugins = isList ? conf.plugins : [conf]
  if (!Array.isArray(plugins) || plugins.length === 0)
    wrong('plugins', 'it is not a list of plugins; list at least one, {"type": "bridge", …}')
  else for (const [i, plugin] of plugins.entries()) checkPlugin(plugin, isList ? `plugins[${i}].` : '', wrong)
  const cniVersion = versionIn(conf, wrong)
  const disableCheck = flag(conf, 'disableCheck', wrong)
  if (problems.length > 0)
    return { ok: false, problems: problems.map((p) => ({ ...p, path: `${source}: ${p.path}` })) }
  return {
    ok: true,
    value: {
      name: named as string,
      cniVersion,
      ...(disableCheck && { disableCheck }),
      plugins: plugins as Record<string, unknown>[],
      source,
    },
  }
}

type Json = Record<string, unknown>
type Wrong = (path: string, problem: string) => void

const show = (value: unknown): string =>
  value === undefined ? 'nothing' : inAscii(JSON.stringify(value)).slice(0, 80)

function jsonIn(text: string): { conf: Json } | { problem: string } {
  if (text.length > sizeLimit) return { problem: `it is larger than ${sizeLimit} bytes; make it smaller` }
  if (text.trim() === '')
    return { problem: 'it is empty; whoever writes it should write it elsewhere and rename it' }
  try {
    const conf: unknown = JSON.parse(text)
    return isObject(conf)
      ? { conf }
      : { problem: 'it is not a JSON object; write {"cniVersion": …, "name": …}' }
  } catch (error) {
    const { message } = error as Error
    const cut = message.includes('end of JSON') || message.includes('Unterminated')
    const remedy = cut ? 'it is half-written or was cut off; write it elsewhere and rename it' : 'correct it'
    return { problem: `it is not JSON (${inAscii(message)}); ${remedy}` }
  }
}

function checkPlugin(plugin: unknown, path: string, wrong: Wrong): void {
  if (!isObject(plugin)) {
    wrong(path.slice(0, -1), 'it is not an object; write {"type": "bridge", …}')
    return
  }
  const { type, capabilities, ipam } = plugin
  if (!isPluginType(type))
    wrong(`${path}type`, `${show(type)} is no plugin; name one that is installed, like "bridge"`)
  if (type === 'polynet-cni')
    wrong(`${path}type`, 'polynet-cni would ask itself; name another plugin, or ask for a Network')
  if (isObject(ipam) && ipam.type === 'polynet-cni')
    wrong(`${path}ipam.type`, 'polynet-cni gives no addresses; "polynet-ipam" does')
  if (isObject(ipam) && ipam.type !== undefined && ipam.type !== '' && !isPluginType(ipam.type))
    wrong(
      `${path}ipam.type`,
      `${show(ipam.type)} is no plugin; name one that is installed, like "host-local"`,
    )
  if (capabilities !== undefined && !isObject(capabilities))
    wrong(`${path}capabilities`, 'it is not an object; write {"portMappings": true}')
}

/** A file name in the plugins' folders and nothing else. */
export const isPluginType = (type: unknown): type is string =>
  typeof type === 'string' && /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$/.test(type)

/** The newest of `cniVersion` and `cniVersions` that we know (SPEC 1.1 section 1). */
function versionIn(conf: Json, wrong: Wrong): string {
  // CNI-Genie and plugins of old take a conf that does not say for 0.3.0, the first with several addresses.
  const one = conf.cniVersion === undefined || conf.cniVersion === '' ? '0.3.0' : conf.cniVersion
  const others = conf.cniVersions ?? []
  if (!Array.isArray(others) || !others.every((v) => typeof v === 'string')) {
    wrong('cniVersions', 'it is not a list of versions; write ["0.4.0", "1.0.0"]')
    return '0.3.0'
  }
  const known = [one, ...others].filter((v) => (resultVersions as readonly unknown[]).includes(v)) as string[]
  if (known.length === 0)
    wrong('cniVersion', `${show(one)} is not known; use one of ${resultVersions.join(', ')}`)
  return known.reduce((a, b) => (atLeast(a, b) ? a : b), known[0] ?? '0.3.0')
}

/** libcni takes both `true` and `"true"`. */
function flag(conf: Json, key: string, wrong: Wrong): boolean {
  const value = conf[key]
  const text = String(value).toLowerCase()
  if (value === undefined || text === 'false') return false
  if (text !== 'true') wrong(key, `${show(value)} is neither true nor false`)
  return text === 'true'
}

export interface ConfDir {
  /** In lexical order of file name, Polynet's own left out. */
  confs: NetworkConf[]
  /** What is wrong with the others. */
  problems: Problem[]
}

/** What a node's conf directory, a path below `root`, holds now. A directory that is not there holds nothing. */
export async function readConfDir(dir: string, root = '/'): Promise<ConfDir> {
  const names = await readdir(inRoot(root, dir)).catch(() => [])
  const found: ConfDir = { confs: [], problems: [] }
  for (const name of names.filter(isConfName).sort()) {
    const source = join(dir, name)
    const text = await textOf(inRoot(root, source))
    if (text === undefined || isOurs(text)) continue
    const conf = parseConf(text, source)
    if (conf.ok) found.confs.push(conf.value)
    else found.problems.push(...conf.problems)
  }
  return found
}

/** Whether a runtime takes a file of that name for a configuration. */
export const isConfName = (name: string): boolean => /^[^.].*\.(conf|conflist|json)$/.test(name)

/** As `readConfDir`, for who asks often: the files are read again when one of them has changed. */
export function confDirReader(dir: string, root = '/'): () => Promise<ConfDir> {
  let known: { look: Look; found: Promise<ConfDir> } | undefined
  return () => {
    const look = lookAt(dir, root, known?.look)
    if (known && look?.state === known.look.state) return known.found
    const found = readConfDir(dir, root)
    // A file that changes twice within one tick of the kernel's clock looks the same afterwards.
    known = look && look.changedAt < Date.now() - 1000 ? { look, found } : undefined
    return found
  }
}

interface Look {
  names: string[]
  /** Differs when another directory is there, or another file in it. */
  directory: string
  /** Differs also when one of its files has changed. */
  state: string
  /** When the last of all did; milliseconds since the epoch. */
  changedAt: number
}

/** The directory and its files from outside; undefined when one went away meanwhile, or there is no directory. */
function lookAt(dir: string, root: string, before: Look | undefined): Look | undefined {
  try {
    const there = inRoot(root, dir)
    const { ino, ctimeMs } = statSync(there)
    const directory = `${ino} ${ctimeMs}`
    const names =
      before?.directory === directory ? before.names : readdirSync(there).filter(isConfName).sort()
    const look = { names, directory, state: directory, changedAt: ctimeMs }
    for (const name of names) {
      const { ino, size, ctimeMs } = statSync(inRoot(root, join(dir, name)))
      look.state += `\n${name} ${ino} ${size} ${ctimeMs}`
      look.changedAt = Math.max(look.changedAt, ctimeMs)
    }
    return look
  } catch {
    return undefined
  }
}

/** Undefined when it went away meanwhile or is no file. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    const { size } = await stat(path)
    return size > sizeLimit ? ' '.repeat(sizeLimit + 1) : await readFile(path, 'utf8')
  } catch {
    return undefined
  }
}

function isOurs(text: string): boolean {
  const json = jsonIn(text)
  if ('problem' in json) return false
  const { plugins = [json.conf] } = json.conf
  return Array.isArray(plugins) && plugins.some((plugin) => plugin?.type === 'polynet-cni')
}
