import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Container, Pod } from '../src/api/core.ts'
import type { CniResult } from '../src/cni/result.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, removeNamespace } from '../src/datapath/linux/netns.ts'
import { Fault } from '../src/lib/fault.ts'
import { emptyNamespace } from '../src/plan/node-plan.ts'
import { addressesIn, answered } from './answer.ts'
import * as cni from './cni.ts'
import type { Machine } from './machine.ts'
import type { CniQuestion } from './place.ts'
import { argsOf, type Process, type Runtime, type Sandbox } from './runtime.ts'

interface Held extends Sandbox {
  conf?: cni.ConfList
  result?: CniResult
  processes: Set<Process>
}

/**
 * A container runtime on one machine of the lab: a sandbox is a network
 * namespace that the machine's own shim was executed for, a container is a
 * process in it, run from this machine's file system whatever its image says.
 */
export class Processes implements Runtime {
  readonly #machine: Machine
  readonly #addresses: string[]
  readonly #sandboxes = new Map<string, Held>()

  constructor(machine: Machine, addresses: string[]) {
    this.#machine = machine
    this.#addresses = addresses
  }

  /** Of the pod (`<namespace>/<name>`), when it has one. */
  sandboxOf(pod: string): Sandbox | undefined {
    return [...this.#sandboxes.values()].find((each) => `${each.pod.namespace}/${each.pod.name}` === pod)
  }

  logOf(pod: { uid: string }, container: string): string {
    return join(this.#machine.root, 'logs', pod.uid, `${container}.log`)
  }

  async run(pod: Pod): Promise<Sandbox> {
    const { namespace = '', name, uid = '' } = pod.metadata
    const id = randomBytes(32).toString('hex')
    const sandbox: Held = { id, netns: '', pod: { namespace, name, uid }, ips: [], processes: new Set() }
    if (pod.spec.hostNetwork) sandbox.ips = this.#addresses
    else {
      sandbox.conf = await cni.confIn(join(this.#machine.root, 'etc/cni/net.d'))
      sandbox.netns = join(this.#machine.root, 'run/netns', `cni-${id.slice(0, 16)}`)
      createNamespace(sandbox.netns)
      applyNamespaces([emptyNamespace('pod')], { pod: sandbox.netns })
      this.#sandboxes.set(id, sandbox)
      try {
        sandbox.result = await cni.add(sandbox.conf, attachmentOf(sandbox), this.#launcher())
        sandbox.ips = addressesIn(sandbox.result)
      } catch (error) {
        // As containerd: what was done till then is taken back; what cannot be is left to GC.
        await this.remove(sandbox).catch(() => this.#drop(sandbox))
        throw error
      }
    }
    this.#sandboxes.set(id, sandbox)
    return sandbox
  }

  start(sandbox: Sandbox, pod: Pod, container: Container): Process {
    const held = this.#sandboxes.get(sandbox.id)
    const command = [...(container.command ?? []), ...(container.args ?? [])]
    const log = this.logOf(sandbox.pod, container.name)
    mkdirSync(join(log, '..'), { recursive: true })
    const out = openSync(log, 'a')
    const env = {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      HOSTNAME: pod.metadata.name,
      ...Object.fromEntries((container.env ?? []).map(({ name, value = '' }) => [name, value])),
    }
    const argv = [...this.#inside(sandbox), ...(command.length > 0 ? command : ['sleep', 'infinity'])]
    const child = spawn(argv[0]!, argv.slice(1), { detached: true, env, stdio: ['ignore', out, out] })
    closeSync(out)
    const started: Process = {
      ended: new Promise((resolve) => {
        child.on('error', () => resolve(127))
        child.on('close', (code, signal) => resolve(code ?? 128 + (signal === 'SIGKILL' ? 9 : 15)))
      }),
      kill(signal) {
        // The whole group: a container is all of its processes.
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
        try {
          process.kill(-child.pid, signal)
        } catch {}
      },
    }
    held?.processes.add(started)
    void started.ended.then(() => held?.processes.delete(started))
    return started
  }

  async remove({ id }: Sandbox): Promise<void> {
    const held = this.#sandboxes.get(id)
    if (!held) return
    for (const each of held.processes) each.kill('SIGKILL')
    await Promise.all([...held.processes].map((each) => each.ended))
    if (held.conf) await cni.del(held.conf, attachmentOf(held), this.#launcher(), held.result)
    this.#drop(held)
  }

  exec(sandbox: Sandbox, argv: string[]): Promise<number> {
    const [program = '', ...args] = [...this.#inside(sandbox), ...argv]
    return new Promise((resolve) => {
      const child = spawn(program, args, { stdio: 'ignore', timeout: 10_000 })
      child.on('error', () => resolve(127))
      child.on('close', (code) => resolve(code ?? 128))
    })
  }

  async connects(sandbox: Sandbox, port: number): Promise<boolean> {
    const script = `require('net').connect(${port}, ${JSON.stringify(sandbox.ips[0])}).on('connect', () => process.exit(0)).on('error', () => process.exit(1)); setTimeout(() => process.exit(1), 1000)`
    const [program = '', ...args] = [...this.#machine.prefix, process.execPath, '-e', script]
    return new Promise((resolve) => {
      const child = spawn(program, args, { stdio: 'ignore' })
      child.on('error', () => resolve(false))
      child.on('close', (code) => resolve(code === 0))
    })
  }

  async status(): Promise<void> {
    const conf = await cni.confIn(join(this.#machine.root, 'etc/cni/net.d'))
    await cni.status(conf, this.#launcher())
  }

  async collect(): Promise<void> {
    const conf = await cni.confIn(join(this.#machine.root, 'etc/cni/net.d'))
    await cni.gc(conf, [...this.#sandboxes.keys()], this.#launcher())
  }

  /** A call that no kubelet asked for. */
  async ask({ command, pods, sandbox }: CniQuestion): Promise<{ exit: number; output: string }> {
    const launcher = this.#launcher()
    const conf = await cni.confIn(join(this.#machine.root, 'etc/cni/net.d'))
    const valid = pods.map((pod) => this.sandboxOf(pod)?.id ?? pod)
    if (command === 'GC') return answered(cni.gc(conf, valid, launcher))
    const [name = ''] = pods
    const own = this.sandboxOf(name)
    if (sandbox === undefined) {
      if (!own) throw new Fault('missing', `find pod ${name}`, 'it has no sandbox on this machine')
      return answered(calls[command](conf, attachmentOf(own as Held), launcher))
    }
    const [namespace = '', pod = ''] = name.split('/')
    const other: Held = {
      id: createHash('sha256').update(sandbox).digest('hex'),
      netns: join(this.#machine.root, 'run/netns', sandbox),
      pod: own?.pod ?? { namespace, name: pod, uid: '' },
      ips: [],
      processes: new Set(),
    }
    if (command === 'ADD' && !existsSync(other.netns)) {
      createNamespace(other.netns)
      applyNamespaces([emptyNamespace('pod')], { pod: other.netns })
    }
    const answer = await answered(calls[command](conf, attachmentOf(other), launcher))
    if (command === 'DEL' && existsSync(other.netns)) removeNamespace(other.netns)
    return answer
  }

  /** As when the power fails: processes and namespaces are gone, and nobody was told. */
  crash(): void {
    for (const held of this.#sandboxes.values()) {
      for (const each of held.processes) each.kill('SIGKILL')
      this.#drop(held)
    }
  }

  #drop(held: Held): void {
    if (held.netns) removeNamespace(held.netns)
    this.#sandboxes.delete(held.id)
  }

  #inside(sandbox: Sandbox): string[] {
    return sandbox.netns ? ['nsenter', `--net=${sandbox.netns}`, '--'] : this.#machine.prefix
  }

  #launcher(): cni.Launcher {
    const { root, prefix, socket } = this.#machine
    return {
      prefix,
      path: [join(root, 'opt/cni/bin')],
      env: {
        POLYNET_SOCKET: socket,
        POLYNET_SPOOL: join(root, 'var/lib/polynet/spool'),
      },
    }
  }
}

const calls = { ADD: cni.add, DEL: cni.del, CHECK: cni.check }

const attachmentOf = ({ id, netns, pod }: Held): cni.Attachment => ({
  containerID: id,
  netns,
  args: argsOf({ id, pod }),
})
