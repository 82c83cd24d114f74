import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CniResult } from '../src/cni/result.ts'
import { Fault } from '../src/lib/fault.ts'

/** The network configuration list that a runtime found. */
export interface ConfList {
  name: string
  cniVersion: string
  plugins: Record<string, unknown>[]
}

/** What one operation is about: what CNI calls runtime configuration. */
export interface Attachment {
  containerID: string
  netns: string
  args: Record<string, string>
}

/** How plugins are started: inside the node, with its plugins on CNI_PATH. */
export interface Launcher {
  /** Before the plugin's own path: `nsenter …`. */
  prefix: string[]
  /** Where plugins are. */
  path: string[]
  env: Record<string, string>
}

/**
 * What containerd uses: the first file in lexical order that is a
 * configuration. Rejects with `missing` while there is none.
 */
export async function confIn(dir: string): Promise<ConfList> {
  const names = (await readdir(dir).catch(() => []))
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .sort()
  for (const name of names) {
    try {
      const value = JSON.parse(await readFile(join(dir, name), 'utf8'))
      if (Array.isArray(value.plugins) && value.plugins.length > 0) return value
      if (typeof value.type === 'string') return { ...value, plugins: [value] }
    } catch {
      // Another file may be one.
    }
  }
  throw new Fault(
    'missing',
    'initialise the network',
    `no network config found in ${dir}; start the agent, which puts one there`,
  )
}

/** ADD: each plugin in order, fed the result of the one before (SPEC 1.1 section 3). */
export async function add(conf: ConfList, to: Attachment, by: Launcher): Promise<CniResult> {
  let result: CniResult | undefined
  for (const plugin of conf.plugins)
    result = JSON.parse(await execute('ADD', conf, plugin, to, by, result ? { prevResult: result } : {}))
  return result as CniResult
}

/** DEL: in reverse, with the result of the ADD where there was one. */
export async function del(conf: ConfList, from: Attachment, by: Launcher, result?: CniResult): Promise<void> {
  for (const plugin of [...conf.plugins].reverse())
    await execute('DEL', conf, plugin, from, by, result ? { prevResult: result } : {})
}

/** CHECK: each plugin in order, with the result of the ADD where there was one. */
export async function check(conf: ConfList, of: Attachment, by: Launcher, result?: CniResult): Promise<void> {
  for (const plugin of conf.plugins)
    await execute('CHECK', conf, plugin, of, by, result ? { prevResult: result } : {})
}

export async function gc(conf: ConfList, valid: string[], by: Launcher): Promise<void> {
  const attachments = valid.map((containerID) => ({ containerID, ifname: 'eth0' }))
  for (const plugin of conf.plugins)
    await execute('GC', conf, plugin, undefined, by, { 'cni.dev/valid-attachments': attachments })
}

export async function status(conf: ConfList, by: Launcher): Promise<void> {
  for (const plugin of conf.plugins) await execute('STATUS', conf, plugin, undefined, by, {})
}

async function execute(
  command: string,
  conf: ConfList,
  plugin: Record<string, unknown>,
  about: Attachment | undefined,
  by: Launcher,
  more: object,
): Promise<string> {
  const config = { ...plugin, name: conf.name, cniVersion: conf.cniVersion, ...more }
  const args = Object.entries(about?.args ?? {}).map(([key, value]) => `${key}=${value}`)
  const env = {
    PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    ...by.env,
    CNI_COMMAND: command,
    CNI_PATH: by.path.join(':'),
    ...(about && {
      CNI_CONTAINERID: about.containerID,
      CNI_NETNS: about.netns,
      CNI_IFNAME: 'eth0',
      CNI_ARGS: args.join(';'),
    }),
  }
  const type = String(plugin.type)
  const [program = '', ...rest] = [...by.prefix, join(by.path[0] ?? '', type)]
  const { exit, stdout } = await run(program, rest, env, JSON.stringify(config))
  if (exit === 0) return stdout
  const doing = `plugin type="${type}" name="${conf.name}" failed (${command.toLowerCase()})`
  throw new Fault('plugin', doing, messageIn(stdout) || `it ended with ${exit} and said nothing`)
}

function messageIn(stdout: string): string {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string }
    return [msg, details].filter(Boolean).join('; ')
  } catch {
    return stdout.trim()
  }
}

const run = (program: string, args: string[], env: Record<string, string>, stdin: string) =>
  new Promise<{ exit: number; stdout: string }>((resolve) => {
    const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk
    })
    child.on('error', (error) => resolve({ exit: 127, stdout: error.message }))
    child.on('close', (code, signal) => resolve({ exit: code ?? 128, stdout: stdout || (signal ?? '') }))
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
  })
