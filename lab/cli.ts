import { Command } from 'commander'
import { Fault } from '../src/lib/fault.ts'
import { obey } from '../src/lib/program.ts'
import { bootLab, findLab, initOf, kubeconfigOf, labs } from './boot.ts'
import { wayIn } from './enter.ts'
import { nicsOf, numberOf, runInside } from './options.ts'
import { screenOf } from './show.ts'

const program = new Command('npm run lab --')
  .description('A whole cluster on this machine’s kernel: a network namespace for each node and pod')
  .showHelpAfterError()

const named = (command: Command): Command => command.option('--name <name>', 'which lab', 'lab')

named(program.command('up'))
  .description('start a lab; it goes on until `down`')
  .option('--nodes <n>', 'how many', '3')
  .option('--nics <names>', 'NICs of each node beside eth0, a switch behind each', 'eth1,eth2')
  .option('--port <port>', 'of the API server on 127.0.0.1; any when absent', '0')
  .action(async (options: { name: string; nodes: string; nics: string; port: string }) => {
    const way = wayIn()
    if (way.how === 'none')
      throw new Fault(
        'unsupported',
        'start a lab on this machine',
        `${way.why}; npm start runs a simulation instead`,
      )
    const count = numberOf('--nodes', options.nodes, 1, 60)
    const nodes = Array.from({ length: count }, (_, i) => `n${i + 1}`)
    const wiring = { nodes, nics: nicsOf(options.nics) }
    const port = numberOf('--port', options.port, 0, 65535)
    const { kubeconfig } = await bootLab(way, {
      name: options.name,
      wiring,
      port,
      stay: true,
    })
    console.log(`lab ${options.name} is up: ${wiring.nodes.join(', ')}\n\nexport KUBECONFIG=${kubeconfig}`)
    process.exit(0)
  })

named(program.command('down'))
  .description('end a lab and everything in it')
  .action(async ({ name }: { name: string }) => {
    await findLab(name).close()
    while (labs().includes(name)) await new Promise((resolve) => setTimeout(resolve, 20))
  })

program
  .command('list')
  .description('the labs that run')
  .action(() => console.log(labs().join('\n')))

named(program.command('status'))
  .description('nodes, networks, pods, and who reaches whom')
  .action(async ({ name }: { name: string }) => {
    console.log(`${await screenOf(findLab(name))}\n\nexport KUBECONFIG=${kubeconfigOf(name)}`)
  })

named(program.command('exec <pod> [command...]'))
  .description('run a program in a pod’s network: exec [namespace/]pod -- ip addr')
  .action(async (pod: string, command: string[], { name }: { name: string }) => {
    const full = pod.includes('/') ? pod : `default/${pod}`
    const netns = await findLab(name).netnsOf(full)
    const argv = command.length > 0 ? command : [process.env.SHELL ?? 'sh']
    process.exitCode = await runInside(initOf(name), ['nsenter', `--net=${netns}`, '--', ...argv])
  })

named(program.command('kill <node>'))
  .description('as pulling the plug: the node, its agent and its pods are gone at once')
  .option('--agent', 'only the agent, as kill -9')
  .action(async (node: string, { name, agent }: { name: string; agent?: boolean }) => {
    await findLab(name).kill(node, agent ? 'agent' : 'node')
  })

named(program.command('start <node>'))
  .description('start what `kill` ended')
  .action(async (node: string, { name }: { name: string }) => findLab(name).start(node))

named(program.command('reboot <node>'))
  .description('kill and start')
  .action(async (node: string, { name }: { name: string }) => {
    await findLab(name).kill(node, 'node')
    await findLab(name).start(node)
  })

named(program.command('leftovers <node>'))
  .description('everything that Polynet owns on a node: kernel and files')
  .action(async (node: string, { name }: { name: string }) => {
    console.log((await findLab(name).leftovers(node)).join('\n'))
  })

await obey(program, 'run the lab')
