import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { Command } from 'commander'
import { systemNamespace } from '../api/network.ts'
import { connect } from '../kube/cluster/connect.ts'
import { type Clock, realClock } from '../lib/clock.ts'
import { answers } from '../lib/fault.ts'
import { jsonLog } from '../lib/log.ts'
import { serveProbes } from '../lib/probes.ts'
import { apiOption, exiting, logLevelOption, probesOption, toldToEnd } from '../lib/program.ts'
import { startCandidate } from './candidate.ts'
import { defaultNetworkOf } from './default-network.ts'
import { controllerMetrics } from './metrics.ts'

interface Options {
  api?: string
  leaderElect: boolean
  defaultNetwork: string[]
  probes?: string
  logLevel: string
}

/** Counts on when the time of day is set. */
const steadyClock: Clock = { now: () => performance.now(), sleep: realClock.sleep }

/** A controller, until it is told to end by SIGTERM or SIGINT, or another one may lead. */
async function run(options: Options): Promise<void> {
  const ended = toldToEnd()
  const log = jsonLog('controller', options.logLevel)
  const lost = (why: string) => {
    log.error(`lead the controllers: ${why}; ends, and stands again when it is started again`)
    process.exit(answers.unavailable.exit)
  }
  const candidate = startCandidate({
    kube: await connect(options.api),
    clock: realClock,
    log,
    ...(options.defaultNetwork.length > 0 && { defaultNetwork: defaultNetworkOf(options.defaultNetwork) }),
    ...(options.leaderElect && {
      election: {
        lease: { namespace: process.env.POD_NAMESPACE ?? systemNamespace, name: 'polynet-controller' },
        identity: `${process.env.POD_NAME ?? hostname()}_${randomUUID()}`,
        clock: steadyClock,
        lost,
      },
    }),
  })
  const probes = options.probes
    ? await serveProbes(options.probes, candidate.unready, controllerMetrics(candidate))
    : undefined
  await ended
  log.info('closing')
  await candidate.close()
  await probes?.close()
}

const program = new Command('polynet-controller')
  .description(
    'Gives identifiers to networks, says what they have come to, and cleans up after nodes that are gone',
  )
  .addOption(apiOption)
  .option(
    '--leader-elect',
    'work only while it holds Lease polynet-controller (default: in a pod)',
    process.env.KUBERNETES_SERVICE_HOST !== undefined,
  )
  .option('--no-leader-elect', 'work at once: there is no other')
  .option(
    '--default-network <cidr...>',
    'make Network polynet-system/default with these subnets when it is not there',
    [],
  )
  .addOption(probesOption)
  .addOption(logLevelOption)

program.action(exiting('controller', run))
await program.parseAsync()
