import { Command } from 'commander'
import { connect } from '../kube/cluster/connect.ts'
import { realClock } from '../lib/clock.ts'
import { answers, isFault } from '../lib/fault.ts'
import { jsonLog } from '../lib/log.ts'
import { startController } from './start.ts'

/** The controller of one cluster, until it is told to end by SIGTERM or SIGINT. */
const program = new Command('polynet-controller')
  .description(
    'Gives identifiers to networks, says what they have come to, and cleans up after nodes that are gone',
  )
  .option(
    '--api <url>',
    'the API server: a kubeconfig, or unix:/path; in a pod, what the service account says',
  )
  .option('--log-level <level>', 'debug, info, warn or error', process.env.POLYNET_LOG ?? 'info')

program.action(async ({ api, logLevel }: { api?: string; logLevel: string }) => {
  const log = jsonLog('controller', logLevel)
  try {
    const controller = await startController({ kube: await connect(api), clock: realClock, log })
    log.info('ready')
    await new Promise<void>((resolve) => {
      process.once('SIGTERM', resolve)
      process.once('SIGINT', resolve)
    })
    log.info('closing')
    await controller.close()
    process.exit(0)
  } catch (error) {
    log.error(error instanceof Error ? error.message : String(error))
    process.exit(isFault(error) ? answers[error.kind].exit : 1)
  }
})
await program.parseAsync()
