import { existsSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { argumentsOf, everyProcess } from '../../cluster/processes.ts'

/** Processor time of processes and of the machine, in milliseconds; resident memory. */

interface Stat {
  parent: number
  cpu: number
}

/** One tick of the kernel's clock, as `/proc` counts. */
const tickMs = 10

function statOf(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    // utime, stime, and those of children that have ended and were waited for.
    const cpu = [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) * tickMs
    return { parent: Number(fields[1]), cpu }
  } catch {
    return undefined
  }
}

/** A process and everything below it. */
export function tree(init: number): number[] {
  const children = new Map<number, number[]>()
  for (const pid of everyProcess()) {
    const parent = statOf(pid)?.parent
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const found = [init]
  for (let i = 0; i < found.length; i++) found.push(...(children.get(found[i]!) ?? []))
  return found
}

/** Of everything that ran below `init` so far, ended or not, by program; what a program executes and waits for counts as its own. */
export function cpuByProgram(init: number): Map<string, number> {
  const found = new Map<string, number>()
  for (const pid of tree(init)) {
    const program = programOf(pid)
    found.set(program, (found.get(program) ?? 0) + (statOf(pid)?.cpu ?? 0))
  }
  return found
}

/** The name of the file that it executes; of the script, where that is Node. */
function programOf(pid: number): string {
  const [file = '', ...rest] = argumentsOf(pid)
  const script = basename(file) === 'node' ? rest.find((word) => word.startsWith('/')) : undefined
  return basename(script ?? file)
}

/** Of all processors of this machine, idle and waiting time left out. */
export function cpuOfMachine(): number {
  const [line = ''] = readFileSync('/proc/stat', 'latin1').split('\n')
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return (user + nice + system + irq + softirq) * tickMs
}

/** The processes of these whose command line has `word` as an argument. */
export const named = (pids: number[], word: string): number[] =>
  pids.filter((pid) => argumentsOf(pid).includes(word))

/** Of the control group that a process is in, with everything it executed, to the nanosecond where the kernel says so. */
export function cpuOfGroup(pid: number): number {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'latin1').trim().split('\n')
  for (const line of groups) {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers.split(',').includes('cpuacct')) {
      const file = `/sys/fs/cgroup/${controllers}${path}/cpuacct.usage`
      if (existsSync(file)) return Number(readFileSync(file, 'latin1')) / 1e6
    }
    const unified = `/sys/fs/cgroup${path}/cpu.stat`
    if (controllers === '' && existsSync(unified))
      return Number(/usage_usec (\d+)/.exec(readFileSync(unified, 'latin1'))?.[1] ?? 0) / 1000
  }
  return statOf(pid)?.cpu ?? 0
}
