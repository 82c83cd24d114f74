import { readFileSync } from 'node:fs'
import { Argument, Command } from 'commander'
import { cleanNode } from '../agent/install/clean.ts'
import { removeAgents } from '../agent/install/remove-agents.ts'
import { type ConnectedKube, connect } from '../kube/cluster/connect.ts'
import { realClock } from '../lib/clock.ts'
import { apiOption, obey } from '../lib/program.ts'
import { agents } from './agents.ts'
import { completionFor } from './completion.ts'
import { runDoctor } from './doctor.ts'
import { traceOf } from './trace.ts'

/** `polynet`: what people run by hand, on a node or beside `kubectl`. */
const program = new Command('polynet')
  .description("Looks after Polynet's networks")
  .version(versionOf(), '--version')

program
  .command('doctor')
  .description('compare kernel, journal, addresses, attachments and pods; exit 1 where they differ')
  .addOption(apiOption)
  .option(
    '--node <name>',
    'the node that this runs on, whose kernel and journal to look at',
    process.env.NODE_NAME,
  )
  .option('--root <dir>', 'where run/polynet and var/lib/polynet are on that node', '/')
  .option('--settle <seconds>', 'how long to wait for what is under way', '5')
  .action(async (options: { api?: string; node?: string; root: string; settle: string }) => {
    const kube = await connect(options.api)
    process.exitCode = await runDoctor(
      kube,
      { ...options, settleMs: Number(options.settle) * 1000 },
      console.log,
    )
    kube.close()
  })

program
  .command('trace')
  .description("show the steps of a pod's last ADD or DEL, with their milliseconds, on the pod's node")
  .addArgument(new Argument('<command>', 'which').choices(['add', 'del'] as const))
  .argument('<pod>', 'its name')
  .option('-n, --namespace <name>', "the pod's namespace", 'default')
  .option('-o, --output <format>', 'json; absent: a table')
  .addOption(apiOption)
  .option('--root <dir>', 'where run/polynet is on that node', '/')
  .action(
    async (
      command: 'add' | 'del',
      pod: string,
      { api, ...options }: { namespace: string; output?: string; api?: string; root: string },
    ) => {
      let kube: ConnectedKube | undefined
      const connected = async () => {
        kube = await connect(api)
        return kube
      }
      try {
        console.log(await traceOf({ ...options, command, pod }, connected))
      } finally {
        kube?.close()
      }
    },
  )

program
  .command('remove-agents')
  .description('delete the DaemonSet of the agents, and wait until they have left their nodes')
  .addOption(apiOption)
  .option('--within <seconds>', 'how long to wait', '90')
  .action(async ({ api, within }: { api?: string; within: string }) => {
    const kube = await connect(api)
    const left = await removeAgents(kube, realClock, {
      daemonSet: { namespace: agents.namespace, name: 'polynet-agent' },
      labels: agents.labels,
      withinMs: Number(within) * 1000,
    })
    for (const node of left)
      console.log(`the agent of ${node} is there still; its Node keeps what it told the scheduler`)
    kube.close()
  })

program
  .command('clean')
  .description('take everything of Polynet off this node, once its pods are gone')
  .option('--root <dir>', "where the node's file system is", '/')
  .option('--conf-dir <dir>', "the runtime's CNI conf directory", '/etc/cni/net.d')
  .option('--bin-dir <dir>', 'where the shim is', '/opt/cni/bin')
  .option('--force', 'while an agent runs or pods are there, too', false)
  .action(async (options: { root: string; confDir: string; binDir: string; force: boolean }) => {
    await cleanNode(options, console.log)
  })

program
  .command('completion <shell>')
  .description('print what completes this command in bash, zsh or fish')
  .action((shell: string) => console.log(completionFor(program, shell)))

function versionOf(): string {
  // Beside src/ or build/: as the release has it.
  for (const up of ['../..', '../../..'])
    try {
      return JSON.parse(readFileSync(new URL(`${up}/package.json`, import.meta.url), 'utf8')).version
    } catch {}
  return 'unknown'
}

await obey(program, 'polynet')
