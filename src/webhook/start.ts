import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import type { Prefix } from '../lib/ip.ts'
import type { Log } from '../lib/log.ts'
import { startCertificates } from './certificate.ts'
import { type Heard, serveAdmission } from './server.ts'
import { watchView } from './view.ts'

export interface WebhookDeps {
  kube: Kube
  clock: Clock
  log: Log
  /** `host:port`. */
  listen: string
  /** Where its Secret and its Service are. */
  namespace: string
  /** Names and addresses that API servers may call it by, beside its Service's. */
  names?: readonly string[]
  /** Plugins that the configurations of every namespace may execute, as the agents are told. */
  allowedPlugins?: readonly string[]
  /** Where API servers ask from; absent or empty: anywhere. */
  from?: readonly Prefix[]
  heard?: Heard
}

export interface Webhook {
  port: number
  /** Why API servers get no answer from it, or nothing. */
  unready(): string | undefined
  /** When its certificate ends, in milliseconds since the epoch. */
  until(): number | undefined
  close(): Promise<void>
}

/** Name of the Service by which API servers find the webhook. */
export const serviceName = 'polynet-webhook'

/** Starts the webhook, once it has seen what it looks things up in. */
export async function startWebhook(deps: WebhookDeps): Promise<Webhook> {
  const { namespace, names = [], listen, ...rest } = deps
  const view = watchView(rest)
  await view.synced
  const server = await serveAdmission(listen, { ...rest, view })
  const service = `${serviceName}.${namespace}.svc`
  const certificates = startCertificates({
    ...rest,
    namespace,
    names: [service, ...names],
    use: (identity) => server.use(identity),
  })
  let closing = false
  return {
    port: server.port,
    unready: () => (closing ? 'the webhook is closing' : certificates.unready()),
    until: certificates.until,
    async close() {
      closing = true
      await certificates.close()
      await server.close()
      view.close()
    },
  }
}
