import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Fault } from '../src/lib/fault.ts'
import { systemPath } from './debian.ts'

/** What kubelet wants of the kernel for all; it finds that here and writes nothing. */
const kernelSettings = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
}

/**
 * One machine of the cluster as the kernel sees it: a network namespace (made
 * by others), and namespaces of its own for processes, mounts and the host
 * name. Its disk is a folder: `/var/lib`, `/var/log`, and what it changes in
 * `/etc` and `/opt`; `/run` is in memory. Everything else is this machine's.
 */
export class Node {
  readonly name: string
  /** Its disk. */
  readonly root: string
  readonly #netns: string
  #init: ChildProcess | undefined

  constructor(options: { name: string; root: string; netns: string }) {
    this.name = options.name
    this.root = options.root
    this.#netns = options.netns
  }

  get on(): boolean {
    return this.#init !== undefined
  }

  /** A file that says which boot this is. */
  get bootId(): string {
    return join(this.root, 'proc/kernel/random/boot_id')
  }

  /** Where a file below `/var/lib`, `/var/log`, `/etc/cni` or `/opt/cni` is for this process. */
  path(path: string): string {
    return join(this.root, path)
  }

  /** Gives the runtime a CNI configuration, in one step: it reads it as soon as it is there. */
  putConf(name: string, conf: object): void {
    const path = this.path(join('/etc/cni/net.d', name))
    writeFileSync(`${path}.new`, `${JSON.stringify(conf, null, 2)}\n`)
    renameSync(`${path}.new`, path)
  }

  async powerOn(): Promise<void> {
    if (this.#init) return
    const overlays = ['etc', 'opt'].flatMap((each) => [`overlay/${each}/upper`, `overlay/${each}/work`])
    for (const dir of ['var/lib', 'var/log', 'etc/cni/net.d', 'opt/cni/bin', 'proc', ...overlays])
      mkdirSync(this.path(dir), { recursive: true })
    writeFileSync(this.path('overlay/etc/upper/hostname'), `${this.name}\n`)
    const settings = { ...kernelSettings, 'kernel/random/boot_id': randomUUID() }
    for (const [path, value] of Object.entries(settings)) {
      const file = join(this.root, 'proc', path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, `${value}\n`)
    }
    this.#init = await this.#boot()
  }

  /** As pulling the plug: the kernel ends every process on it, and what is in memory is gone. */
  async powerOff(): Promise<void> {
    const init = this.#init
    this.#init = undefined
    if (!init) return
    const ended = new Promise<void>((resolve) => init.once('close', () => resolve()))
    // Its child is the node's first process, and ends with it.
    init.kill('SIGKILL')
    await ended
  }

  /** What starts a program on the machine. */
  get prefix(): string[] {
    return ['nsenter', `--target=${this.#first()}`, '--net', '--mount', '--uts', '--ipc', '--pid', '--']
  }

  /** The node's first process, as this process sees it. */
  #first(): number {
    const pid = this.#init?.pid
    const children = pid === undefined ? '' : readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    const first = Number(children.trim().split(' ')[0])
    if (!first)
      throw new Fault('unavailable', `run something on ${this.name}`, 'it is switched off; start it')
    return first
  }

  #boot(): Promise<ChildProcess> {
    const args = [
      `--net=${this.#netns}`,
      'unshare',
      ...['--mount', '--propagation', 'slave', '--uts', '--ipc', '--pid', '--fork', '--kill-child'],
      ...['sh', join(import.meta.dirname, 'node.sh'), this.root, this.name],
    ]
    const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: systemPath } })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    return new Promise((resolve, reject) => {
      child.stdout.once('data', () => resolve(child))
      child.once('error', reject)
      child.once('close', (code) =>
        reject(
          new Fault(
            'kernel',
            `switch on ${this.name}`,
            `its first process ended with ${code}: ${said.trim()}`,
          ),
        ),
      )
    })
  }
}
