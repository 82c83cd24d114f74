import type { CniConfig, CniRequest } from './request.ts'

/**
 * The bytes between shim and agent (`request.ts` describes them), as values
 * and back. Nothing here trusts the other side: a frame is as long as it may
 * be, its words are those the specification knows, or it is refused with the
 * code that the specification has for that (SPEC 1.1 "Error").
 */
export const frameLimits = { config: 1 << 20, environment: 256 << 10, reply: 4 << 20 }

/** The longest frame there is. */
export const frameLimit = frameLimits.config + frameLimits.environment

export const specVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export interface Answer {
  exit: number
  stdout: string
}

/** The request in the frame, or the answer for whoever sent it. */
export type ParsedRequest = { ok: true; request: CniRequest } | { ok: false; answer: Answer }

/** What the shim sends: every `CNI_…` variable of `env`, then stdin. */
export function frameOf(
  program: string,
  env: Record<string, string | undefined>,
  stdin: Uint8Array,
): Uint8Array {
  const variables = Object.entries(env)
    .filter(([name, value]) => name.startsWith('CNI_') && value !== undefined)
    .map(([name, value]) => `${name}=${value}\0`)
  return Buffer.concat([Buffer.from(`polynet-cni/1 ${program}\n${variables.join('')}\0`), stdin])
}

/** What the agent sends back. */
export function replyOf({ exit, stdout }: Answer): Buffer {
  const end = stdout === '' || stdout.endsWith('\n') ? '' : '\n'
  return Buffer.from(`${Math.min(Math.max(Math.trunc(exit) || 0, 0), 9)}\n${stdout}${end}`)
}

/** The answer in a whole reply, or undefined when it was cut short. */
export function parseReply(bytes: Uint8Array): Answer | undefined {
  const text = Buffer.from(bytes).toString()
  if (!/^[0-9]\n/.test(text) || !text.endsWith('\n')) return undefined
  return { exit: Number(text[0]), stdout: text.slice(2) }
}

/** The answer that says an operation failed, as SPEC 1.1 has it. */
export function errorAnswer(code: number, msg: string, details: string, cniVersion = '1.0.0'): Answer {
  return { exit: 1, stdout: `${JSON.stringify({ cniVersion, code, msg, details })}\n` }
}

const programs = ['polynet-cni', 'polynet-ipam']
const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const

class Refusal {
  readonly code: number
  readonly msg: string
  readonly details: string
  constructor(code: number, msg: string, details = '') {
    this.code = code
    this.msg = msg
    this.details = details
  }
}

/** Pure. Refuses with code 6 what is no frame or no JSON, 4 wrong variables, 7 a wrong configuration, 1 a wrong version. */
export function parseRequest(frame: Uint8Array): ParsedRequest {
  let cniVersion: string | undefined
  try {
    const { program, variables, stdin } = split(frame)
    const command = oneOf(commands, 'CNI_COMMAND', variables.get('CNI_COMMAND') ?? '')
    const config = configIn(stdin, command)
    cniVersion = config.cniVersion
    if (!(specVersions as readonly string[]).includes(cniVersion))
      throw new Refusal(
        1,
        `cniVersion ${JSON.stringify(cniVersion)} is not supported`,
        `Polynet speaks ${specVersions.join(', ')}`,
      )
    return { ok: true, request: { program, command, ...attachmentIn(variables, command), config } }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return {
      ok: false,
      answer: errorAnswer(error.code, error.msg, error.details, known(cniVersion) ? cniVersion : undefined),
    }
  }
}

const known = (version: string | undefined): boolean => /^[0-9.]{1,15}$/.test(version ?? '')

interface Split {
  program: string
  variables: Map<string, string>
  stdin: Uint8Array
}

function split(frame: Uint8Array): Split {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
  const newline = bytes.subarray(0, 64).indexOf(0x0a)
  const [, program] = /^polynet-cni\/1 (.*)$/.exec(bytes.toString('latin1', 0, Math.max(newline, 0))) ?? []
  if (program === undefined)
    throw new Refusal(6, 'this is not a polynet-cni/1 frame', 'install the shim and the agent of one release')
  if (!programs.includes(program))
    throw new Refusal(
      4,
      `the shim was executed as ${JSON.stringify(program)}`,
      `install it as ${programs.join(' or ')}`,
    )
  const variables = new Map<string, string>()
  let at = newline + 1
  for (;;) {
    const end = bytes.indexOf(0, at)
    if (end < 0 || end > frameLimits.environment)
      throw new Refusal(6, 'the variables in the frame do not end', 'the shim was cut short; try again')
    if (end === at) return { program, variables, stdin: limited(bytes.subarray(end + 1)) }
    const [, name, value] = /^(CNI_[A-Z_]+)=(.*)$/s.exec(utf8(bytes.subarray(at, end), 'a variable')) ?? []
    if (name === undefined || value === undefined)
      throw new Refusal(6, 'the frame has something other than CNI_NAME=value before stdin')
    variables.set(name, value)
    at = end + 1
  }
}

function limited(stdin: Uint8Array): Uint8Array {
  if (stdin.length > frameLimits.config)
    throw new Refusal(
      7,
      `the network configuration is larger than ${frameLimits.config} bytes`,
      'make it smaller',
    )
  return stdin
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function utf8(bytes: Uint8Array, what: string): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw new Refusal(6, `${what} is not UTF-8`)
  }
}

function oneOf<T extends string>(allowed: readonly T[], name: string, value: string): T {
  const found = allowed.find((a) => a === value)
  if (found === undefined)
    throw new Refusal(4, `${name} is ${JSON.stringify(value)}`, `it must be one of ${allowed.join(', ')}`)
  return found
}

function configIn(stdin: Uint8Array, command: string): CniConfig {
  const text = utf8(stdin, 'the network configuration')
  let config: unknown
  try {
    config = JSON.parse(text)
  } catch (error) {
    throw new Refusal(6, 'the network configuration on stdin is not JSON', (error as Error).message)
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw new Refusal(6, 'the network configuration on stdin is not a JSON object')
  // SPEC 0.1.0 to 1.1.0: a configuration without cniVersion is of version 0.1.0.
  const { cniVersion = '0.1.0', name, type } = config as Record<string, unknown>
  if (typeof cniVersion !== 'string') throw new Refusal(7, 'cniVersion is not a string')
  if (command === 'VERSION') return { ...config, cniVersion, name: '', type: '' }
  if (typeof name !== 'string' || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name))
    throw new Refusal(7, `name is ${JSON.stringify(name)}`, 'it must be letters, digits, "_", "." and "-"')
  if (typeof type !== 'string') throw new Refusal(7, 'type is missing', 'name the plugin that is executed')
  const valid = (config as CniConfig)['cni.dev/valid-attachments']
  if (valid !== undefined && !isAttachments(valid))
    throw new Refusal(7, 'cni.dev/valid-attachments is not a list of {containerID, ifname}')
  return { ...config, cniVersion, name, type }
}

const isAttachments = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.every((v) => typeof v?.containerID === 'string' && typeof v?.ifname === 'string')

type Attachment = Pick<CniRequest, 'containerID' | 'netns' | 'ifName' | 'args' | 'path'>

function attachmentIn(variables: Map<string, string>, command: string): Attachment {
  const of = (name: string) => variables.get(name) ?? ''
  const [containerID, netns, ifName] = [of('CNI_CONTAINERID'), of('CNI_NETNS'), of('CNI_IFNAME')]
  const pod = command === 'ADD' || command === 'CHECK' || command === 'DEL'
  if (pod) {
    const needed = ['CNI_CONTAINERID', 'CNI_IFNAME', ...(command === 'DEL' ? [] : ['CNI_NETNS'])]
    const missing = needed.filter((name) => of(name) === '')
    if (missing.length > 0) throw new Refusal(4, `${missing.join(', ')} not set`, `${command} needs it`)
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}$/.test(containerID))
      throw new Refusal(4, `CNI_CONTAINERID is ${JSON.stringify(containerID)}`, 'it is no container ID')
    if (!isInterfaceName(ifName))
      throw new Refusal(
        4,
        `CNI_IFNAME is ${JSON.stringify(ifName)}`,
        'it must be 1 to 15 characters without "/", ":" and spaces',
      )
    if (netns !== '' && !/^\/[^\0]{0,4094}$/.test(netns))
      throw new Refusal(4, `CNI_NETNS is ${JSON.stringify(netns)}`, 'it must be an absolute path')
  }
  return {
    containerID,
    netns,
    ifName,
    args: argsIn(of('CNI_ARGS')),
    path: of('CNI_PATH')
      .split(':')
      .filter((dir) => dir !== ''),
  }
}

/** What the kernel takes as a link's name (dev_valid_name), in ASCII. */
const isInterfaceName = (name: string): boolean =>
  /^[!-~]{1,15}$/.test(name) && !/[/:]/.test(name) && name !== '.' && name !== '..'

/**
 * `K=V;K=V`. The first `=` parts them; the last of equal keys counts. Polynet
 * ignores keys it does not know, with or without `IgnoreUnknown`.
 */
function argsIn(text: string): Record<string, string> {
  const pairs = text.split(';').filter((pair) => pair !== '')
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=')
      if (equals < 1)
        throw new Refusal(4, `CNI_ARGS has ${JSON.stringify(pair)}`, 'it must be KEY=VALUE pairs between ";"')
      return [pair.slice(0, equals), pair.slice(equals + 1)]
    }),
  )
}
