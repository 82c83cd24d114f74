import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'

/** What the figures were measured on, and when. */
export interface Machine {
  date: string
  polynet: string
  node: string
  kernel: string
  cpu: string
  memory: string
}

export function thisMachine(): Machine {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'))
  const all = cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    polynet: version,
    node: process.version,
    kernel: release(),
    cpu: `${all.length} × ${all[0]?.model.trim() ?? process.arch}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
  }
}

export const machineText = (machine: Machine): string =>
  Object.entries(machine)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')
