import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { programArgs } from '../scripts/build.ts'
import { buildShim } from '../src/cni/shim/build.ts'
import { removeNamespace } from '../src/datapath/linux/netns.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Log } from '../src/lib/log.ts'

/**
 * One machine of the lab: a network namespace, a mount namespace in which
 * `/run` and `/var/lib` are its own, a disk that survives a reboot, and the
 * agent as a process in it.
 */
export class Machine {
  readonly name: string
  /** Its disk: `etc/cni/net.d`, `opt/cni/bin`, `var/lib`, and `run`, which a reboot empties. */
  readonly root: string
  readonly #netns: string
  readonly #api: string
  readonly #log: Log
  #holder: ChildProcess | undefined
  #agent: ChildProcess | undefined
  /** Whether the agent is meant to run; one that dies by itself is started again. */
  #wanted = false
  #failures = 0
  /** What the agent installs. */
  #shim = ''

  constructor(options: { name: string; root: string; netns: string; api: string; log: Log }) {
    this.name = options.name
    this.root = options.root
    this.#netns = options.netns
    this.#api = options.api
    this.#log = options.log
  }

  get socket(): string {
    return join(this.root, 'run/polynet/agent.sock')
  }

  get on(): boolean {
    return this.#holder !== undefined
  }

  /** Its network namespace must be there. Repeating is harmless. */
  async powerOn(): Promise<void> {
    if (this.#holder) return
    const at = (path: string) => join(this.root, path)
    for (const dir of [
      'run/polynet',
      'run/netns',
      'var/lib/polynet',
      'var/lib/cni',
      'etc/cni/net.d',
      'opt/cni/bin',
    ])
      mkdirSync(at(dir), { recursive: true })
    writeFileSync(at('boot_id'), `${randomUUID()}\n`)
    this.#shim = (await buildShim(at('shim'))).path
    this.#holder = await held(this.#netns, this.root)
    this.startAgent()
  }

  /** As pulling the plug: what runs on it ends at once, and what is in memory is gone. */
  powerOff(): void {
    this.killAgent()
    this.#holder?.kill('SIGKILL')
    this.#holder = undefined
    const bound = join(this.root, 'run/polynet/netns')
    for (const name of existsSync(bound) ? readdirSync(bound) : []) removeNamespace(join(bound, name))
    rmSync(join(this.root, 'run'), { recursive: true, force: true })
  }

  /** What starts a program on the machine: in its network, seeing its disk. */
  get prefix(): string[] {
    if (!this.#holder?.pid)
      throw new Fault('unavailable', `run something on ${this.name}`, 'it is switched off; start it')
    return ['nsenter', `--target=${this.#holder.pid}`, '--net', '--mount', '--']
  }

  /** With `dieAt`, it kills itself when it comes to that step, once. */
  startAgent(dieAt?: string): void {
    this.#wanted = true
    if (this.#agent) return
    const log = openSync(join(this.root, 'agent.log'), 'a')
    const [program = '', ...rest] = this.prefix
    const args = [
      ...rest,
      process.execPath,
      ...programArgs('agent'),
      '--node',
      this.name,
      '--api',
      this.#api,
      '--root',
      this.root,
      '--install',
      this.#shim,
    ]
    const point = join(this.root, 'var/lib/polynet/die-at')
    // One that dies because it was told to comes back at once.
    if (dieAt) this.#failures = 0
    if (dieAt) writeFileSync(point, dieAt)
    else rmSync(point, { force: true })
    const env = { ...process.env, POLYNET_TEST: '1' }
    const agent = spawn(program, args, { stdio: ['ignore', log, log], env })
    closeSync(log)
    const began = performance.now()
    this.#agent = agent
    agent.on('close', (code, signal) => {
      if (this.#agent !== agent) return
      this.#agent = undefined
      if (!this.#wanted) return
      this.#log.warn('an agent ended; it is started again', { node: this.name, code, signal })
      this.#failures = performance.now() - began > 5000 ? 1 : this.#failures + 1
      const delayMs = Math.min(100 * 2 ** this.#failures, 5000)
      setTimeout(() => this.#wanted && this.#holder && this.startAgent(), delayMs)
    })
  }

  /** As `kill -9`; it stays away until it is started. */
  killAgent(): void {
    this.#wanted = false
    this.#agent?.kill('SIGKILL')
    this.#agent = undefined
  }
}

/**
 * A process that is nothing but the machine's namespaces. Mounts below `root`
 * are shared with the lab: a pod's namespace that the lab binds there is seen
 * on the machine, and the other way round.
 */
function held(netns: string, root: string): Promise<ChildProcess> {
  const script = [
    'set -e',
    'mount --bind "$1/run" /run',
    'mount --bind "$1/var/lib" /var/lib',
    'mount --make-private /run',
    'mount --make-private /var/lib',
    'mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id',
    // Another machine's NICs are not to be seen in /sys; where the kernel forbids that, nothing depends on it.
    'mount -t sysfs sysfs /sys 2>/dev/null || true',
    'echo on',
    'exec cat',
  ].join('\n')
  const args = [
    `--net=${netns}`,
    'unshare',
    '--mount',
    '--propagation',
    'unchanged',
    'sh',
    '-c',
    script,
    'sh',
    root,
  ]
  const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] })
  return new Promise((resolve, reject) => {
    child.stdout.once('data', () => resolve(child))
    child.once('error', reject)
    child.once('exit', (code) =>
      reject(new Fault('kernel', `switch on ${root}`, `its first process ended with ${code}; see stderr`)),
    )
  })
}
