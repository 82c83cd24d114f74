import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { nicsOf, numberOf, runInside } from '../lab/options.ts'
import { Fault } from '../src/lib/fault.ts'
import { obey } from '../src/lib/program.ts'
import { clusters, findCluster, initOf, kubeconfigOf } from './boot.ts'
import { type Tool, toolDir, tools } from './build.ts'
import { type ClusterOptions, kubernetesVersions, startCluster } from './cluster.ts'
import { installPolynet } from './install.ts'
import { defaultNetworks } from './machines.ts'

const program = new Command('npm run cluster --')
  .description('A real Kubernetes on this machine: a set of namespaces for each node')
  .showHelpAfterError()

const say = (line: string) => console.error(line)
const named = (command: Command): Command => command.option('--name <name>', 'which cluster', 'cluster')

interface UpOptions extends Pick<ClusterOptions, 'defaultNetwork' | 'kubernetes'> {
  name: string
  nodes: string
  nics: string
  port: string
}

named(program.command('up'))
  .description('start a cluster; it goes on until `down`')
  .option('--nodes <n>', 'how many', '2')
  .option('--nics <names>', 'NICs of each node beside eth0, a switch behind each', 'eth1,eth2')
  .addOption(
    new Option('--default-network <network>', 'what every pod gets')
      .choices(defaultNetworks)
      .default('bridge'),
  )
  .addOption(new Option('--kubernetes <version>').choices(kubernetesVersions).default('1.37'))
  .option('--port <port>', 'of the API server on 127.0.0.1; any when absent', '0')
  .action(async (options: UpOptions) => {
    const { name, defaultNetwork, kubernetes } = options
    const began = performance.now()
    const nodes = numberOf('--nodes', options.nodes, 1, 20)
    const port = numberOf('--port', options.port, 0, 65535)
    const nics = nicsOf(options.nics)
    const cluster = await startCluster({
      name,
      nodes,
      nics,
      port,
      defaultNetwork,
      kubernetes,
      stay: true,
      say,
    })
    if (defaultNetwork === 'polynet') await installPolynet(cluster, [], say)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    say(`cluster ${name} is up after ${seconds} s`)
    console.log(`export KUBECONFIG=${cluster.kubeconfig} PATH=${join(cluster.kubectl, '..')}:$PATH`)
    process.exit(0)
  })

named(program.command('down'))
  .description('end a cluster and everything in it')
  .action(async ({ name }: { name: string }) => (await findCluster(name)).close())

program
  .command('list')
  .description('the clusters that run')
  .action(async () => console.log((await clusters()).join('\n')))

named(program.command('status'))
  .description('nodes and pods')
  .action(async ({ name }: { name: string }) => {
    const env = { ...process.env, KUBECONFIG: await kubeconfigFor(name) }
    const kubectl = join(await toolDir('kubernetes-1.37', say), 'kubectl')
    for (const args of [
      ['get', 'nodes', '-o', 'wide'],
      ['get', 'pods', '-A', '-o', 'wide'],
    ])
      process.exitCode ||= spawnSync(kubectl, args, { env, stdio: 'inherit' }).status ?? 1
  })

named(program.command('kubeconfig'))
  .description('print the path of the kubeconfig')
  .action(async ({ name }: { name: string }) => {
    await findCluster(name)
    console.log(kubeconfigOf(name))
  })

named(program.command('load-image <node> <tar>'))
  .description('give a `docker save` file to a node, or to all of them')
  .action(async (node: string, tar: string, { name }: { name: string }) => {
    if (!existsSync(tar)) throw new Fault('missing', `load ${tar}`, 'there is no such file')
    await (await findCluster(name)).loadImage(node, resolve(tar))
  })

named(program.command('exec <node> [command...]'))
  .description('run a program on a node: exec n1 -- ip addr')
  .action(async (node: string, command: string[], { name }: { name: string }) => {
    const prefix = await (await findCluster(name)).prefixOf(node)
    const argv = command.length > 0 ? command : [process.env.SHELL ?? 'sh']
    process.exitCode = await runInside(initOf(name), [...prefix, ...argv])
  })

named(program.command('reboot <node>'))
  .description('kill and start; comes back when the node is Ready')
  .action(async (node: string, { name }: { name: string }) => (await findCluster(name)).reboot(node))

named(program.command('kill <node>'))
  .description('as pulling the plug')
  .action(async (node: string, { name }: { name: string }) => (await findCluster(name)).kill(node))

named(program.command('start <node>'))
  .description('start what `kill` ended')
  .action(async (node: string, { name }: { name: string }) => (await findCluster(name)).start(node))

named(program.command('api <what>'))
  .description('`stop` or `start` the API server')
  .action(async (what: string, { name }: { name: string }) => {
    const cluster = await findCluster(name)
    if (what === 'stop') await cluster.stopApi()
    else if (what === 'start') await cluster.startApi()
    else throw new Fault('invalid', `api ${what}`, 'it takes stop or start')
  })

program
  .command('build [tools...]')
  .description(`build ahead of time, into the user's cache: ${Object.keys(tools).join(', ')}`)
  .action(async (names: string[]) => {
    const known = Object.keys(tools)
    for (const name of names.length > 0 ? names : known) {
      if (!known.includes(name)) throw new Fault('invalid', `build ${name}`, `it takes ${known.join(', ')}`)
      console.log(await toolDir(name as Tool, say))
    }
  })

/** With KUBECONFIG set, that cluster is meant, unless another is named. */
async function kubeconfigFor(name: string): Promise<string> {
  if (process.env.KUBECONFIG && !process.argv.includes('--name')) return process.env.KUBECONFIG
  await findCluster(name)
  return kubeconfigOf(name)
}

await obey(program, 'run the cluster')
