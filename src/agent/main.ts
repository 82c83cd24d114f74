import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { Command, Option } from 'commander'
import type { Node } from '../api/core.ts'
import { resources } from '../api/resources.ts'
import { foreignPlugins } from '../cni/exec.ts'
import { linuxDatapath } from '../datapath/linux/linux.ts'
import { connect } from '../kube/cluster/connect.ts'
import { realClock } from '../lib/clock.ts'
import { asFault } from '../lib/fault.ts'
import { giveBackFreed } from '../lib/freed.ts'
import { openInspectorWhenAsked } from '../lib/inspector.ts'
import { formatPrefix } from '../lib/ip.ts'
import { jsonLog, type Log } from '../lib/log.ts'
import { serveProbes } from '../lib/probes.ts'
import { apiOption, exiting, logLevelOption, prefixIn, probesOption, toldToEnd } from '../lib/program.ts'
import { inRoot } from '../lib/rooted.ts'
import type { Agent } from './agent.ts'
import { kubeletDevices } from './devices.ts'
import { eventsFrom } from './events.ts'
import { type Installation, startInstallation } from './install/install.ts'
import { daemonSetNamed, removalOf } from './install/removal.ts'
import { openJournal } from './journal/file.ts'
import { agentMetrics } from './metrics.ts'
import { raiseNeighbourTables } from './neighbour-tables.ts'
import { refuseUnsharedMounts } from './shared-mounts.ts'
import { serveShim } from './socket.ts'
import { startSpool } from './spool.ts'
import { startAgent } from './start.ts'
import { serveTraces, Traces } from './traces.ts'

interface Options {
  node: string
  api?: string
  root: string
  hostRoot?: string
  install?: string
  yield: boolean
  confDir?: string
  binDir: string[]
  pluginTimeout?: number
  probes?: string
  closed: string[]
  allowedPlugins: string[]
  kubeletDir: string
  logLevel: string
  fsync: boolean
}

/** The agent of one node: answers the shim until it is told to end by SIGTERM or SIGINT. */
async function run(options: Options): Promise<void> {
  const ended = toldToEnd()
  const log = jsonLog('agent', options.logLevel)
  const at = (path: string) => join(options.root, path)
  await mkdir(at('run/polynet'), { recursive: true, mode: 0o700 })
  await mkdir(at('var/lib/polynet'), { recursive: true, mode: 0o700 })
  if (options.hostRoot) refuseUnsharedMounts(at('run/polynet'))
  raiseNeighbourTables(log)
  giveBackFreed()
  openInspectorWhenAsked()
  const kube = await connect(options.api)
  const journal = await openJournal(at('var/lib/polynet/journal'), { fsync: options.fsync, log })
  const datapath = await linuxDatapath({ runDir: at('run/polynet') })
  // In a container, paths on the host; else paths here.
  const hostRoot = options.hostRoot ?? '/'
  const hostsAt = options.hostRoot ? (path: string) => join('/', path) : at
  const confDir = options.confDir ?? hostsAt('etc/cni/net.d')
  const binDir = hostsAt('opt/cni/bin')
  const plugins = foreignPlugins({
    confDir,
    binDirs: [...new Set([binDir, ...options.binDir])],
    ...(options.hostRoot ? { hostRoot } : {}),
    ...(options.pluginTimeout ? { timeoutMs: 1000 * options.pluginTimeout } : {}),
    env: { POLYNET_SOCKET: at('run/polynet/agent.sock'), POLYNET_SPOOL: at('var/lib/polynet/spool') },
    log,
  })
  const traces = new Traces(realClock)
  const plain = startAgent({
    node: options.node,
    kube,
    datapath,
    journal,
    plugins,
    closed: options.closed.map((text) => formatPrefix(prefixIn('--closed', text, '10.96.0.0/12'))),
    allowedPlugins: options.allowedPlugins,
    devices: kubeletDevices(
      join(inRoot(hostRoot, options.kubeletDir), 'device-plugins/kubelet_internal_checkpoint'),
      log,
    ),
    clock: realClock,
    log,
    traces,
    hasNamespace: existsSync,
    at: dieAt(at('var/lib/polynet/die-at')),
  })
  let installation: Installation | undefined
  const metrics = agentMetrics(options.node, journal, () => installation?.first())
  const agent = metrics.observed(patient(plain))
  if (isScript(inRoot(hostRoot, join(binDir, 'polynet-cni'))))
    log.warn(
      'the shim is a script, a hundred times slower than the compiled one; install a C compiler and install the shim again',
    )
  const server = await serveShim(at('run/polynet/agent.sock'), agent.handle, log)
  const traced = await serveTraces(at('run/polynet/trace.sock'), traces)
  const daemonSet = process.env.POLYNET_DAEMONSET
  const removal = daemonSet ? removalOf(kube, options.node, daemonSetNamed(daemonSet), realClock) : undefined
  const events = eventsFrom({ kube, clock: realClock, log, component: 'agent', host: options.node })
  const tell = async (reason: string, message: string) => {
    const node: Node = await kube.get(resources.nodes, { name: options.node })
    events.tell(node, 'Warning', reason, message)
  }
  if (options.install)
    installation = startInstallation({
      shim: options.install,
      hostRoot,
      binDir,
      confDir,
      removedMark: at('var/lib/polynet/removed'),
      yielding: options.yield,
      ready: () => agent.unready() === undefined,
      lacking: agent.lacking,
      tell: (reason, message) =>
        void tell(reason, message).catch((error) => log.debug('an event was lost', { error: String(error) })),
      clock: realClock,
      log,
    })
  const unready = () => agent.unready() ?? installation?.missing()
  const probes = options.probes ? await serveProbes(options.probes, unready, metrics) : undefined
  const stopSpool = startSpool({
    dir: at('var/lib/polynet/spool'),
    ready: () => agent.unready() === undefined,
    handle: agent.handle,
    clock: realClock,
    log,
  })

  await ended
  const unknown = { removed: false, why: 'nobody said which DaemonSet it is of' }
  const { removed, why } = (await removal?.ask()) ?? unknown
  log.info('closing', { removed, why })
  if (removed) await Promise.all([installation?.remove(), leave(agent, log)])
  else await installation?.close()
  stopSpool()
  // Those that wait for an API server that is away are answered by the agent's closing, others go on beside it.
  const answered = server.close()
  await Promise.race([answered, realClock.sleep(answersMs)])
  await traced.close()
  await probes?.close()
  await agent.close()
  await answered
  await datapath.close()
  await journal.close()
}

/** Leaves the Node without what it was told. Most often the right to was removed before the agent is told to end. */
async function leave(agent: Agent, log: Log): Promise<void> {
  try {
    await agent.leave()
  } catch (error) {
    const { message } = asFault(error, 'leave the Node')
    log.warn('the Node keeps labels physical.polynet.dev/… and resources nic.polynet.dev/…', { why: message })
  }
}

/** How long an agent that is told to end goes on for those who wait for an answer, as if it were not. */
const answersMs = 10_000

/** How long after its start an agent lets pods wait for it; later, what keeps it from being ready may take long. */
const patienceMs = 5000

/** The agent, for a runtime that comes while it starts: its pods wait a moment instead of failing. */
function patient(agent: Agent): Agent {
  const began = performance.now()
  return {
    ...agent,
    async handle(request, isTold) {
      if (['ADD', 'CHECK', 'STATUS'].includes(request.command))
        while (agent.unready() !== undefined && performance.now() - began < patienceMs)
          await realClock.sleep(20)
      return agent.handle(request, isTold)
    },
  }
}

/** Without a C compiler the shim is a script around Node (`cni/shim/build.ts`). */
function isScript(path: string): boolean {
  try {
    return readFileSync(path).subarray(0, 2).toString() === '#!'
  } catch {
    return false
  }
}

/**
 * For tests: where a file names a step, the agent dies at that step as by
 * kill -9. The file is read at start, and only where the environment says
 * that this is a test.
 */
function dieAt(path: string): ((step: string) => void) | undefined {
  if (!process.env.POLYNET_TEST || !existsSync(path)) return undefined
  const point = readFileSync(path, 'utf8').trim()
  return (step) => {
    if (step === point) process.kill(process.pid, 'SIGKILL')
  }
}

const program = new Command('polynet-agent')
  .description('Attaches the pods of one node to their networks')
  .requiredOption('--node <name>', 'name of the Node it runs on', process.env.NODE_NAME)
  .addOption(apiOption)
  .option('--root <dir>', 'where run/polynet, var/lib/polynet, etc/cni/net.d and opt/cni/bin are', '/')
  .option(
    '--host-root <dir>',
    "where the host's file system is, in which plugins run (default: here); other paths of plugins are paths in it",
  )
  .option('--install <shim>', 'once ready, put this shim and the conf that names it on the node')
  .option('--yield', "leave the conf directory's first place to other plugins", false)
  .option('--conf-dir <dir>', "the runtime's CNI conf directory (default: <root>/etc/cni/net.d)")
  .option('--bin-dir <dir...>', 'more directories with CNI plugins', ['/opt/cni/bin', '/usr/lib/cni'])
  .addOption(
    new Option(
      '--plugin-timeout <seconds>',
      'how long another plugin may take before it is killed (default: 45)',
    )
      .env('POLYNET_PLUGIN_TIMEOUT')
      .argParser(Number),
  )
  .addOption(probesOption)
  .option('--closed <cidr...>', 'what no logical network reaches, nor pods have as eth0: the API server', [])
  .option(
    '--allowed-plugins <types...>',
    "CNI plugins that every namespace's configurations may execute, or '*'",
    [],
  )
  .option('--kubelet-dir <dir>', 'where the kubelet notes which devices it gave to pods', '/var/lib/kubelet')
  .addOption(logLevelOption)
  .option('--fsync', 'let the journal survive a power cut, not only a crash of the agent', false)

// Young objects are a few MB: waking other threads to collect them takes longer than collecting them, and on a busy node the
// pod waits for those threads. What is done for each pod is worth compiling well before there were thousands of pods.
setFlagsFromString('--no-parallel-scavenge')
setFlagsFromString('--invocation-count-for-maglev=30')
setFlagsFromString('--minimum-invocations-after-ic-update=30')

program.action(exiting('agent', run))
await program.parseAsync()
