import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { inAscii } from '../lib/ascii.ts'
import { Fault, sentence } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { inRoot } from '../lib/rooted.ts'
import { type Ended, spawn as posixSpawn, type Spawn, spawnIn } from '../lib/spawn.ts'
import { confDirReader, isPluginType } from './conf.ts'
import type { Invocation, NetworkConf, Plugins } from './plugins.ts'
import type { CniError, CniResult } from './result.ts'
import { atLeast, convertResult, newestVersion, parseResult, resultVersions } from './versions.ts'

export interface ForeignPlugins {
  /** `/etc/cni/net.d`. */
  confDir: string
  /** Where plugins are, in order; they look there for each other too, `polynet-ipam` included. */
  binDirs: string[]
  /** Where the file system is in which these directories are and plugins run: `/host` in a container that has the host's there. Absent: `/`. */
  hostRoot?: string
  log: Log
  /** What plugins get beside the agent's own environment, such as POLYNET_SOCKET where it is not the usual one. */
  env?: Record<string, string>
  /** How long one execution of one plugin may take. The runtime's patience is two minutes for a whole pod. */
  timeoutMs?: number
  spawn?: Spawn
}

/** The plugins on this node as libcni would execute them. Every rejection is a fault that names plugin and conf. */
export function foreignPlugins(options: ForeignPlugins): Plugins {
  const run = new Runner(options)
  const told = new Set<string>()
  const read = confDirReader(options.confDir, options.hostRoot)
  return {
    async confs() {
      const { confs, problems } = await read()
      const sentences = problems.map(({ path, problem }) => sentence([{ path, problem }]))
      for (const text of sentences) if (!told.has(text)) options.log.warn(`read ${options.confDir}: ${text}`)
      told.clear()
      for (const text of sentences) told.add(text)
      return confs
    },
    add: (invocation) => add(run, invocation, options.log),
    del: (invocation) => del(run, invocation),
    check: (invocation) => check(run, invocation),
  }
}

/**
 * The result of the last plugin. When one fails, the whole list is deleted
 * before that one's fault is thrown, so that nothing is left of it.
 */
async function add(run: Runner, invocation: Invocation, log: Log): Promise<CniResult> {
  const { conf } = invocation
  const version = await run.versionFor(conf)
  let result = invocation.prevResult
  try {
    for (const plugin of conf.plugins) {
      const doing = doingWith('ADD', plugin, conf)
      const printed = await run.execute('ADD', plugin, conf, version, { ...invocation, prevResult: result })
      const parsed = parseResult(jsonIn(printed, doing), version)
      if (!parsed.ok)
        throw new Fault(
          'plugin',
          doing,
          `it printed a wrong result: ${sentence(parsed.problems)}; report it to its makers`,
        )
      result = parsed.value
    }
  } catch (error) {
    const timeoutMs = Math.min(run.timeoutMs, 15_000)
    await del(run, { ...invocation, prevResult: result }, timeoutMs).catch((cleanup) =>
      log.warn('clean up after a failed ADD; DEL tries again', { error: (cleanup as Error).message }),
    )
    throw error
  }
  return placed(result ?? { cniVersion: newestVersion }, invocation)
}

/** Addresses of a plugin that lists no interface are on the one it was asked to make. */
function placed(result: CniResult, { ifName, netns }: Invocation): CniResult {
  if (result.interfaces?.length || !result.ips?.length) return result
  return {
    ...result,
    interfaces: [{ name: ifName, sandbox: netns }],
    ips: result.ips.map((ip) => ({ ...ip, interface: 0 })),
  }
}

async function del(run: Runner, invocation: Invocation, timeoutMs?: number): Promise<void> {
  const { conf, prevResult, ...rest } = invocation
  const version = await run.versionFor(conf)
  // Up to 0.3.1 a DEL gets no result (SPEC 0.4.0).
  const given = { ...rest, conf, ...(atLeast(version, '0.4.0') && prevResult && { prevResult }) }
  await each(conf.plugins.toReversed(), (plugin) =>
    run.execute('DEL', plugin, conf, version, given, timeoutMs),
  )
}

/** Nothing happens where the conf is older than CHECK or does not want it. */
async function check(run: Runner, invocation: Invocation): Promise<void> {
  const { conf } = invocation
  const version = await run.versionFor(conf)
  if (conf.disableCheck || !atLeast(version, '0.4.0')) return
  for (const plugin of conf.plugins) await run.execute('CHECK', plugin, conf, version, invocation)
}

/** Goes on after an error; throws the one there was, or one of all. */
async function each<T>(items: T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const errors: Error[] = []
  for (const item of items) await act(item).catch((error: Error) => errors.push(error))
  if (errors.length === 1) throw errors[0]
  if (errors.length > 1)
    throw new Fault('plugin', 'run a list of plugins', errors.map((e) => e.message).join('; '), errors)
}

type Plugin = Record<string, unknown>

const doingWith = (command: string, plugin: Plugin, conf: NetworkConf): string =>
  `${command} by plugin ${plugin.type} of ${conf.source}`

const quoted = (text: string): string =>
  inAscii(JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text))

function jsonIn(printed: string, doing: string): unknown {
  try {
    return JSON.parse(printed)
  } catch {
    const what = printed.trim() === '' ? 'printed nothing' : `printed ${quoted(printed)}`
    throw new Fault('plugin', doing, `it ended well but ${what} instead of a result; report it to its makers`)
  }
}

/** Finds and executes single plugins. */
class Runner {
  readonly timeoutMs: number
  readonly #options: ForeignPlugins
  readonly #spawn: Spawn
  /** What each binary supports, by path and what changes when it is replaced. */
  readonly #versions = new Map<string, Promise<string[]>>()

  constructor(options: ForeignPlugins) {
    this.#options = options
    const { hostRoot = '/', spawn = hostRoot === '/' ? posixSpawn : spawnIn(hostRoot) } = options
    this.#spawn = spawn
    this.timeoutMs = options.timeoutMs ?? 45_000
  }

  /** The first executable file of that name, or why there is none. */
  async find(type: unknown): Promise<{ path?: string; identity?: string; problem?: string }> {
    const { binDirs, hostRoot = '/' } = this.#options
    if (!isPluginType(type)) return { problem: `${quoted(String(type))} is no name of a plugin` }
    let problem = `it is not installed; put it into ${binDirs.join(' or ')}`
    for (const dir of binDirs) {
      const path = join(dir, type)
      const file = await stat(inRoot(hostRoot, path)).catch(() => undefined)
      if (!file?.isFile()) continue
      if (file.mode & 0o111)
        return { path, identity: `${path} ${file.dev} ${file.ino} ${file.mtimeMs} ${file.size}` }
      problem = `${path} is not executable; chmod 755 it`
    }
    return { problem }
  }

  /**
   * The version that the list is executed in: its own, or where a plugin of it
   * does not speak that, the newest older one that all do. A plugin that is
   * missing or does not answer is supposed to speak the list's.
   */
  async versionFor(conf: NetworkConf): Promise<string> {
    const spoken = await Promise.all(conf.plugins.map((plugin) => this.#spokenBy(plugin)))
    const common = resultVersions.filter(
      (version) =>
        atLeast(conf.cniVersion, version) && spoken.every((s) => s.length === 0 || s.includes(version)),
    )
    return common.at(-1) ?? conf.cniVersion
  }

  async #spokenBy(plugin: Plugin): Promise<string[]> {
    const { path, identity = '' } = await this.find(plugin.type)
    if (path === undefined) return []
    const known = this.#versions.get(identity) ?? this.#probe(path)
    this.#versions.set(identity, known)
    const versions = await known
    // One that failed is asked again next time: it may have been killed by something that has passed.
    if (versions.length === 0) this.#versions.delete(identity)
    return versions
  }

  async #probe(path: string): Promise<string[]> {
    const stdin = Buffer.from(JSON.stringify({ cniVersion: newestVersion }))
    // Plugins of old check these variables before they look at the command.
    const variables = {
      CNI_COMMAND: 'VERSION',
      CNI_CONTAINERID: 'dummy',
      CNI_NETNS: 'dummy',
      CNI_IFNAME: 'dummy',
      CNI_PATH: 'dummy',
    }
    const { code, stdout } = await this.#run(path, variables, stdin, Math.min(this.timeoutMs, 5000))
    try {
      const { supportedVersions } = JSON.parse(stdout.toString())
      return code === 0 && Array.isArray(supportedVersions) ? supportedVersions.map(String) : []
    } catch {
      return []
    }
  }

  /** What the plugin printed. */
  async execute(
    command: string,
    plugin: Plugin,
    conf: NetworkConf,
    version: string,
    invocation: Invocation,
    timeoutMs = this.timeoutMs,
  ): Promise<string> {
    const doing = doingWith(command, plugin, conf)
    const { path, problem } = await this.find(plugin.type)
    if (path === undefined) throw new Fault('plugin', doing, problem as string)
    const given = await this.#withAddresses(plugin)
    const stdin = Buffer.from(JSON.stringify(configFor(given, conf, version, invocation)))
    const variables = {
      CNI_COMMAND: command,
      CNI_PATH: this.#options.binDirs.join(':'),
      CNI_CONTAINERID: invocation.containerID,
      CNI_NETNS: invocation.netns,
      CNI_IFNAME: invocation.ifName,
      CNI_ARGS: argsOf(invocation.args, doing),
    }
    const ended = await this.#run(path, variables, stdin, timeoutMs)
    if (ended.code === 0 && !ended.killed) return ended.stdout.toString()
    throw faultOf(ended, doing, path, timeoutMs)
  }

  /** Addresses by Whereabouts come from us where Whereabouts is not installed. */
  async #withAddresses(plugin: Plugin): Promise<Plugin> {
    const ipam = plugin.ipam as Plugin | undefined
    if (ipam?.type !== 'whereabouts' || (await this.find(ipam.type)).path !== undefined) return plugin
    return { ...plugin, ipam: { ...ipam, type: 'polynet-ipam' } }
  }

  async #run(path: string, variables: Plugin, stdin: Uint8Array, timeoutMs: number): Promise<Ended> {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith('CNI_'))
    const env = { ...Object.fromEntries(own), ...this.#options.env, ...variables } as Record<string, string>
    if (this.#options.hostRoot) env.PATH = hostsPath
    for (let attempt = 1; ; attempt++) {
      const ended = await this.#spawn(path, [path], env, stdin, { timeoutMs })
      // Somebody is installing a new one at this moment.
      if (ended.error !== 'ETXTBSY' || attempt === 10) return ended
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

/** Where a host's programs are, for plugins that execute iptables and the like: ours says where the container's are. */
const hostsPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** SPEC 1.1 section 3, "Deriving request configuration from plugin configuration". */
function configFor(plugin: Plugin, conf: NetworkConf, version: string, invocation: Invocation): Plugin {
  const { capabilities, prevResult, ...rest } = plugin
  const declared = Object.entries(capabilities ?? {}).filter(([, supported]) => supported === true)
  const given = declared.flatMap(([name]) => {
    const value = Object.hasOwn(invocation.capabilityArgs, name) && invocation.capabilityArgs[name]
    return value ? [[name, value]] : []
  })
  return {
    ...rest,
    name: conf.name,
    cniVersion: version,
    ...(given.length > 0 && { runtimeConfig: Object.fromEntries(given) }),
    ...(invocation.prevResult && { prevResult: convertResult(invocation.prevResult, version) }),
  }
}

/** CNI_ARGS has no way to write a `;` in a value: what has one would be read as an argument of its own. */
function argsOf(args: Record<string, string>, doing: string): string {
  for (const [name, value] of Object.entries(args))
    if (/[;=\0\n]/.test(name) || /[;\0\n]/.test(value))
      throw new Fault(
        'invalid',
        doing,
        `the argument ${quoted(`${name}=${value}`)} has a ";"; ask without it`,
      )
  return Object.entries(args)
    .map(([name, value]) => `${name}=${value}`)
    .join(';')
}

function faultOf(ended: Ended, doing: string, path: string, timeoutMs: number): Fault {
  const said = ended.stderr.trim() ? `; it said ${quoted(ended.stderr.trim())}` : ''
  const fault = (problem: string, cause?: unknown) => new Fault('plugin', doing, problem, cause)
  if (ended.error === 'ENOEXEC')
    return fault(`${path} is no program for this machine; install the one for ${process.arch}`)
  if (ended.error) return fault(`${path} could not be executed (${ended.error}); install it again`)
  if (ended.killed === 'timeout')
    return fault(`it did not end within ${timeoutMs} ms and was killed${said}; look for what it waits for`)
  if (ended.killed === 'output')
    return fault(`it printed without end and was killed${said}; report it to its makers`)
  if (ended.signal) return fault(`it was ended by ${ended.signal}${said}; report it to its makers`)
  const error = errorIn(ended.stdout)
  if (error) {
    const details = error.details ? `: ${error.details}` : ''
    return fault(
      `${error.msg}${details} (CNI code ${error.code})${said}; see the plugin's documentation`,
      error,
    )
  }
  const printed =
    ended.stdout.length > 0 ? ` and printed ${quoted(ended.stdout.toString())}` : ' without a word'
  return fault(`it ended with exit code ${ended.code}${printed}${said}; see the plugin's documentation`)
}

function errorIn(stdout: Buffer): CniError | undefined {
  try {
    const { cniVersion, code, msg, details } = JSON.parse(stdout.toString())
    if (typeof msg !== 'string') return undefined
    const number = typeof code === 'number' ? code : 0
    return { cniVersion, code: number, msg, ...(typeof details === 'string' && details && { details }) }
  } catch {
    return undefined
  }
}
