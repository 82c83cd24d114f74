import { Command } from 'commander'
import { systemNamespace } from '../api/network.ts'
import { connect } from '../kube/cluster/connect.ts'
import { realClock } from '../lib/clock.ts'
import { jsonLog } from '../lib/log.ts'
import { serveProbes } from '../lib/probes.ts'
import { apiOption, exiting, logLevelOption, prefixIn, probesOption, toldToEnd } from '../lib/program.ts'
import { webhookMetrics } from './metrics.ts'
import { startWebhook, type Webhook } from './start.ts'

interface Options {
  listen: string
  namespace: string
  name: string[]
  from: string[]
  api?: string
  probes?: string
  allowedPlugins: string[]
  lingerSeconds: string
  logLevel: string
}

/** The webhook of one cluster: answers API servers until it is told to end by SIGTERM or SIGINT. */
async function run(options: Options): Promise<void> {
  const log = jsonLog('webhook', options.logLevel)
  const ended = toldToEnd()
  let webhook: Webhook | undefined
  let closing = false
  const metrics = webhookMetrics(() => webhook?.until())
  const unready = () => {
    if (closing) return 'the webhook is closing'
    return webhook ? webhook.unready() : 'the API server was not reached yet; see whether it runs'
  }
  const probes = options.probes ? await serveProbes(options.probes, unready, metrics) : undefined
  const started = startWebhook({
    kube: await connect(options.api),
    clock: realClock,
    log,
    listen: options.listen,
    namespace: options.namespace,
    names: options.name,
    from: options.from.map((text) => prefixIn('--from', text, '192.168.1.10/32')),
    allowedPlugins: options.allowedPlugins,
    heard: metrics.heard,
  })
  webhook = await Promise.race([started, ended.then(() => undefined)])
  if (webhook) log.info('answers', { port: webhook.port })
  await ended
  log.info('closing')
  closing = true
  // API servers go on asking until they have heard that this one is not ready.
  if (webhook) await realClock.sleep(Number(options.lingerSeconds) * 1000)
  await webhook?.close()
  await probes?.close()
}

const program = new Command('polynet-webhook')
  .description('Refuses what would fail later, and keeps pods to the nodes that reach their networks')
  .option('--listen <address>', 'where API servers ask: host:port', ':9443')
  .option(
    '--namespace <name>',
    'where its Secret and its Service are',
    process.env.POD_NAMESPACE ?? systemNamespace,
  )
  .option('--name <names...>', "names and addresses that API servers call it by, beside its Service's", [])
  .option('--from <cidr...>', 'takes connections from there alone: where API servers are', [])
  .addOption(apiOption)
  .addOption(probesOption)
  .option(
    '--allowed-plugins <types...>',
    "CNI plugins that every namespace's configurations may execute, or '*', as the agents are told",
    [],
  )
  .option('--linger-seconds <seconds>', 'how long it goes on answering when it is told to end', '3')
  .addOption(logLevelOption)

program.action(exiting('webhook', run))
await program.parseAsync()
