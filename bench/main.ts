import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { addresses } from './addresses.ts'
import { enclosed, run } from './enclosed.ts'
import { type Figures, textOf } from './figures.ts'
import { machineText, thisMachine } from './machine.ts'
import { peers } from './peers/peers.ts'
import { rows } from './peers/rows.ts'
import { scale } from './scale.ts'

interface Options {
  json: boolean
  small: boolean
  /** Of `attach` and `peers`: where CPU profiles of the agent go. */
  profile?: string
  /** Of `peers`: which rows. */
  rows?: string[]
}

interface Bench {
  about: string
  figures?: (options: Options) => Promise<Figures[]>
  /** One that prints its own table. */
  script?: string
  /** Its arguments when it is to be small. */
  smallArgs?: string[]
}

const benches: Record<string, Bench> = {
  attach: {
    about: 'what an ADD and a DEL cost, from the shim to its result, beside the reference plugins',
    figures: (options) => enclosed('attach', options),
  },
  memory: {
    about: 'the resident memory of an agent at rest, with 100 pods on its node',
    figures: (options) => enclosed('memory', options),
  },
  scale: {
    about: 'a cluster of 5,000 nodes, 500 networks and 100,000 pods, and how it grew from a tenth of that',
    figures: scale,
  },
  datapath: {
    about: 'what an attachment costs the kernel, without the agent and the shim',
    script: 'datapath.ts',
    smallArgs: ['2'],
  },
  packets: {
    about: 'what a packet from pod to pod costs, beside a bridge and flannel’s VXLAN, without Kubernetes',
    script: 'packets.ts',
    smallArgs: ['1', '20'],
  },
  addresses: {
    about: 'what leasing an address costs, without the agent and the kernel',
    figures: addresses,
  },
  peers: {
    about:
      'beside Multus and Whereabouts on a real cluster: attachments, pods, requests, addresses, memory, packets, restarts',
    figures: peers,
  },
}

async function bench(name: string, options: Options): Promise<void> {
  const { figures, script, smallArgs } = benches[name]!
  const machine = thisMachine()
  const found = figures
    ? { figures: await figures(options) }
    : { text: await printed(script!, options.small ? (smallArgs ?? []) : []) }
  if (found.figures?.some((each) => each.failed)) process.exitCode = 1
  if (options.json) return console.log(JSON.stringify({ bench: name, machine, ...found }, null, 2))
  const text = found.figures ? found.figures.map(textOf).join('\n\n') : found.text
  console.log(`${machineText(machine)}\n\n${text?.trimEnd()}`)
}

/** What the script printed, in namespaces of its own. */
async function printed(script: string, args: string[]): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
  const path = join(dir, 'out')
  try {
    await run(`../bench/${script}`, args, openSync(path, 'a'))
    return readFileSync(path, 'utf8')
  } catch {
    throw new Error(readFileSync(path, 'utf8'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const program = new Command('npm run bench --').description(
  'Measures what is published about Polynet, on this machine',
)
for (const [name, { about }] of Object.entries(benches)) {
  const command = program
    .command(name)
    .description(about)
    .option('--json', 'for machines', false)
    .option('--small', 'as little as shows that it works; its figures mean nothing', false)
    .action((options: Options) => bench(name, options))
  if (name === 'attach' || name === 'peers')
    command.option('--profile <dir>', 'CPU profiles of the agent go there; they make it slower', (dir) =>
      resolve(dir),
    )
  if (name === 'peers')
    command.option('--rows <names>', `only these: ${Object.keys(rows).join(',')}`, (text) => text.split(','))
}
try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
