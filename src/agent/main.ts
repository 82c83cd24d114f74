import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { foreignPlugins } from '../cni/exec.ts'
import { linuxDatapath } from '../datapath/linux/linux.ts'
import { connect } from '../kube/cluster/connect.ts'
import { realClock } from '../lib/clock.ts'
import { answers, Fault, isFault } from '../lib/fault.ts'
import { formatPrefix, parsePrefix } from '../lib/ip.ts'
import { jsonLog } from '../lib/log.ts'
import { openJournal } from './journal/file.ts'
import { agentMetrics } from './metrics.ts'
import { serveProbes } from './probes.ts'
import { serveShim, workOffSpool } from './socket.ts'
import { startAgent } from './start.ts'

interface Options {
  node: string
  api?: string
  root: string
  confDir?: string
  binDir: string[]
  probes?: string
  closed: string[]
  allowedPlugins: string[]
  logLevel: string
  fsync: boolean
}

/** The agent of one node: answers the shim until it is told to end by SIGTERM or SIGINT. */
async function run(options: Options): Promise<void> {
  const log = jsonLog('agent', options.logLevel)
  const at = (path: string) => join(options.root, path)
  await mkdir(at('run/polynet'), { recursive: true, mode: 0o700 })
  await mkdir(at('var/lib/polynet'), { recursive: true, mode: 0o700 })
  const kube = await connect(options.api)
  const journal = await openJournal(at('var/lib/polynet/journal'), { fsync: options.fsync })
  const datapath = await linuxDatapath({
    runDir: at('run/polynet'),
    log,
    // Nothing can be done without it; started again, the agent goes on where it was.
    failed: () => process.exit(answers.kernel.exit),
  })
  const plugins = foreignPlugins({
    confDir: options.confDir ?? at('etc/cni/net.d'),
    binDirs: [at('opt/cni/bin'), ...options.binDir],
    env: { POLYNET_SOCKET: at('run/polynet/agent.sock'), POLYNET_SPOOL: at('var/lib/polynet/spool') },
    log,
  })
  const plain = startAgent({
    node: options.node,
    kube,
    datapath,
    journal,
    plugins,
    closed: options.closed.map(closedRange),
    allowedPlugins: options.allowedPlugins,
    clock: realClock,
    log,
    at: dieAt(at('var/lib/polynet/die-at')),
  })
  const metrics = agentMetrics(options.node, journal)
  const agent = metrics.observed(plain)
  if (isScript(at('opt/cni/bin/polynet-cni')))
    log.warn(
      'the shim is a script, a hundred times slower than the compiled one; install a C compiler and install the shim again',
    )
  const server = await serveShim(at('run/polynet/agent.sock'), agent.handle, log)
  const probes = options.probes ? await serveProbes(options.probes, agent.unready, metrics) : undefined
  const spool = setInterval(async () => {
    if (agent.unready() === undefined) await workOffSpool(at('var/lib/polynet/spool'), agent.handle, log)
  }, 1000)

  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  log.info('closing')
  clearInterval(spool)
  await server.close()
  await probes?.close()
  await agent.close()
  await datapath.close()
  await journal.close()
}

/** Without a C compiler the shim is a script around Node (`cni/shim/build.ts`). */
function isScript(path: string): boolean {
  try {
    return readFileSync(path).subarray(0, 2).toString() === '#!'
  } catch {
    return false
  }
}

function closedRange(text: string): string {
  const prefix = parsePrefix(text)
  if (prefix) return formatPrefix(prefix)
  throw new Fault('invalid', 'read --closed', `${text} is no prefix; write one like 10.96.0.0/12`)
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
  .option(
    '--api <url>',
    'the API server: a kubeconfig, or unix:/path; in a pod, what the service account says',
  )
  .option('--root <dir>', 'where run/polynet, var/lib/polynet, etc/cni/net.d and opt/cni/bin are', '/')
  .option('--conf-dir <dir>', "the runtime's CNI conf directory (default: <root>/etc/cni/net.d)")
  .option('--bin-dir <dir...>', 'more directories with CNI plugins', ['/opt/cni/bin', '/usr/lib/cni'])
  .option('--probes <address>', '/healthz, /readyz and /metrics: host:port or unix:/path')
  .option(
    '--closed <cidr...>',
    'what no logical network reaches, nor pods have as eth0: service range, API server',
    [],
  )
  .option(
    '--allowed-plugins <types...>',
    "CNI plugins that every namespace's configurations may execute, or '*'",
    [],
  )
  .option('--log-level <level>', 'debug, info, warn or error', process.env.POLYNET_LOG ?? 'info')
  .option('--fsync', 'let the journal survive a power cut, not only a crash of the agent', false)

program.action(async (options: Options) => {
  try {
    await run(options)
    process.exit(0)
  } catch (error) {
    jsonLog('agent').error(error instanceof Error ? error.message : String(error))
    process.exit(isFault(error) ? answers[error.kind].exit : 1)
  }
})
await program.parseAsync()
