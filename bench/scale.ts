import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Size } from './cluster.ts'
import type { Figures } from './figures.ts'
import type { Scaled } from './scale-one.ts'

const sizes: Size[] = [
  { nodes: 500, networks: 50, podsPerNode: 20 },
  { nodes: 5000, networks: 500, podsPerNode: 20 },
]
const smallSizes: Size[] = [
  { nodes: 5, networks: 2, podsPerNode: 2 },
  { nodes: 20, networks: 2, podsPerNode: 2 },
]

/** A whole cluster in one process, at a tenth of its size and at all of it: what it takes, and what grows. */
export async function scale({ small }: { small: boolean }): Promise<Figures[]> {
  const found: Scaled[] = []
  for (const size of small ? smallSizes : sizes) found.push(await one(size))
  const [tenth, whole] = [found[0]!, found.at(-1)!]
  const row = (title: string, of: (scaled: Scaled) => number) => [
    title,
    ...found.map(of),
    `${(of(whole) / of(tenth)).toFixed(1)}×`,
  ]
  return [
    {
      title: 'A cluster in one process: every agent, the controller, the API server',
      columns: ['', ...found.map(({ size }) => `${size.nodes} nodes`), 'growth'],
      rows: [
        row('networks', ({ size }) => size.networks),
        row('pods', podsOf),
        row('MiB resident, all together', (s) => s.residentMiB),
        row('KiB a node, agent and its part of the rest', (s) => (s.residentMiB * 1024) / s.size.nodes),
        row('s until all agents are ready', (s) => s.startS),
        row('s until all pods are attached', (s) => s.attachS),
        row('s until all kernels follow', (s) => s.convergeS),
        row('s of CPU for all of this', (s) => s.cpuS),
        row('ms of CPU a pod', (s) => (s.cpuS * 1000) / podsOf(s)),
        row('API requests a pod, watches apart', (s) => sum(s.requests, /^(?!watch)/) / podsOf(s)),
        row('of these: network-status', (s) => sum(s.requests, /^patch pods/) / podsOf(s)),
        row('of these: who is where', (s) => sum(s.requests, /attachmentslices/) / podsOf(s)),
        row(
          'of these: address blocks',
          (s) => sum(s.requests, /^(create|get|list) addressblocks/) / podsOf(s),
        ),
        row('ms from one change to the last plan', (s) => s.changeMs),
        row('nodes that the change concerns', (s) => s.changed),
      ],
      notes: [
        'One CPU does the work of all nodes, so times are the sum of what nodes do beside each other.',
        'Pods come tenant after tenant, 64 at a time.',
        'The change: a network gets another subnet; every node with pods on it plans anew.',
      ],
    },
  ]
}

const podsOf = ({ size }: Scaled): number => size.nodes * size.podsPerNode

const sum = (requests: Record<string, number>, which: RegExp): number =>
  Object.entries(requests).reduce((total, [name, count]) => total + (which.test(name) ? count : 0), 0)

/** In a process of its own, so that one size leaves nothing to the next. */
async function one(size: Size): Promise<Scaled> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
  try {
    const script = join(import.meta.dirname, 'scale-one.ts')
    const path = join(dir, 'found.json')
    const flags = ['--expose-gc', '--max-old-space-size=16384']
    const child = spawn(process.execPath, [...flags, script, JSON.stringify(size), path], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const [code, signal] = await once(child, 'exit')
    if (code !== 0) throw new Error(`bench scale: ${size.nodes} nodes ended with ${code ?? signal}`)
    return JSON.parse(readFileSync(path, 'utf8'))
  } finally {
    rmSync(dir, { recursive: true })
  }
}
