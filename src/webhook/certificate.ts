import { X509Certificate } from 'node:crypto'
import type { Secret, WebhookConfiguration } from '../api/core.ts'
import { apiVersionOf, type KubeObject, type Resource } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { type Mirror, mirror } from '../kube/mirror.ts'
import type { Kube } from '../kube/port.ts'
import type { Identity } from '../lib/certificate.ts'
import type { Clock } from '../lib/clock.ts'
import { Fault, isFault } from '../lib/fault.ts'
import type { Log } from '../lib/log.ts'
import { startLoop } from '../reconcile/loop.ts'
import { bundleOf, type Kept, rotated } from './rotation.ts'

const {
  secrets,
  validatingWebhookConfigurations: validatingConfigurations,
  mutatingWebhookConfigurations: mutatingConfigurations,
} = resources

/** The Secret that the replicas share, in their namespace. */
const secretName = 'polynet-webhook-certificate'
/** Name of the two configurations that let the API server ask the webhook. */
export const configurationName = 'polynet'

const lookEveryMs = 30 * 60_000
/** Certificates that nobody can use are not made one after another. */
const replaceEveryMs = 60 * 60_000
const doing = 'keep the certificate'

export interface Certificates {
  /** Why the API server would not trust this webhook, or nothing. */
  unready(): string | undefined
  /** When what serves ends, in milliseconds since the epoch. */
  until(): number | undefined
  close(): Promise<void>
}

/**
 * Keeps the certificate that the webhook serves with: made when there is
 * none, shared with the other replicas, followed by another one in time, and
 * told to the API server before it is used. `use` gets what is to serve.
 */
export function startCertificates(deps: {
  kube: Kube
  clock: Clock
  log: Log
  namespace: string
  names: readonly string[]
  use(identity: Identity): void
}): Certificates {
  const { kube, clock, log, namespace, names, use } = deps
  const stop = new AbortController()
  const watch = <T extends KubeObject>(resource: Resource<T>, name: string, ns?: string): Mirror<T> => {
    const selection = { fields: `metadata.name=${name}`, ...(ns !== undefined && { namespace: ns }) }
    const m = mirror(kube, resource, selection, { clock, log })
    m.onChange(() => loop.wake())
    return m
  }
  let serving: Identity | undefined
  let writtenAt = Number.NEGATIVE_INFINITY
  let why: string | undefined = 'the certificate was not looked at yet; see whether the API server answers'

  const round = async () => {
    await Promise.all(all.map((m) => m.synced))
    const [secret] = shared.list()
    const kept = secret && keptIn(secret)
    const trusted = [validating, mutating].map((m) => m.list()[0])
    const bundle = kept && bundleOf(kept)
    const announced = bundle !== undefined && trusted.every((each) => each && trusts(each, bundle))
    const wanted = rotated(kept, names, clock.now(), announced)
    if (wanted !== kept) {
      const replaced = kept && wanted.serving !== kept.serving && wanted.serving !== kept.next
      if (replaced && clock.now() - writtenAt < replaceEveryMs)
        throw new Fault('invalid', doing, 'a new one is no good either; see whether --name is right')
      writtenAt = clock.now()
      await write(secret, wanted)
      // The watch shows what came of it, be it this replica's or another's.
      return
    }
    if (serving?.certificate !== wanted.serving.certificate) {
      use(wanted.serving)
      serving = wanted.serving
      log.info('serves with another certificate', { names, secret: `${namespace}/${secretName}` })
    }
    for (const [m, resource] of [
      [validating, validatingConfigurations],
      [mutating, mutatingConfigurations],
    ] as const)
      for (const configuration of m.list()) await announce(resource, configuration, bundleOf(wanted))
    const missing = [validating, mutating].findIndex((m) => m.list().length === 0)
    const kind = [validatingConfigurations, mutatingConfigurations][missing]?.kind
    why = kind && `there is no ${kind} ${configurationName}, so nobody asks; install it`
  }

  const write = async (secret: Secret | undefined, kept: Kept) => {
    const object = secretOf(kept, namespace)
    try {
      if (!secret) await kube.create(secrets, object)
      else await kube.update(secrets, { ...object, metadata: secret.metadata })
    } catch (error) {
      // Another replica was first, and what it wrote is as good.
      if (!isFault(error, 'exists', 'conflict')) throw error
    }
  }

  const announce = async (
    resource: Resource<WebhookConfiguration>,
    configuration: WebhookConfiguration,
    bundle: string,
  ) => {
    if (trusts(configuration, bundle)) return
    const caBundle = Buffer.from(bundle).toString('base64')
    const webhooks = (configuration.webhooks ?? []).map((each) => ({
      ...each,
      clientConfig: { ...each.clientConfig, caBundle },
    }))
    try {
      await kube.update(resource, { ...configuration, webhooks })
      log.info('told the API server which certificate to trust', { kind: resource.kind })
    } catch (error) {
      if (!isFault(error, 'conflict', 'missing')) throw error
      loop.wake()
    }
  }

  const loop = startLoop({ doing, round, clock, log, batchMs: 20 })
  const shared = watch(secrets, secretName, namespace)
  const validating = watch(validatingConfigurations, configurationName)
  const mutating = watch(mutatingConfigurations, configurationName)
  const all: Mirror<KubeObject>[] = [shared, validating, mutating]
  const regularly = async () => {
    while (!stop.signal.aborted) {
      loop.wake()
      await clock.sleep(lookEveryMs, stop.signal)
    }
  }
  void regularly()

  return {
    unready: () => why,
    until: () => (serving ? Date.parse(new X509Certificate(serving.certificate).validTo) : undefined),
    async close() {
      stop.abort()
      for (const m of all) m.close()
      await loop.close()
    },
  }
}

const trusts = ({ webhooks = [] }: WebhookConfiguration, bundle: string): boolean =>
  webhooks.every(({ clientConfig }) => clientConfig.caBundle === Buffer.from(bundle).toString('base64'))

const keys = { certificate: 'tls.crt', key: 'tls.key' } as const
const nextKeys = { certificate: 'next.crt', key: 'next.key' } as const
const previousKey = 'previous.crt'

function keptIn({ data = {} }: Secret): Kept {
  const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString()
  const identity = ({ certificate, key }: { certificate: string; key: string }): Identity => ({
    certificate: text(certificate),
    key: text(key),
  })
  return {
    serving: identity(keys),
    ...(data[nextKeys.certificate] && { next: identity(nextKeys) }),
    ...(data[previousKey] && { previous: text(previousKey) }),
  }
}

function secretOf({ serving, next, previous }: Kept, namespace: string): Secret {
  const texts = {
    [keys.certificate]: serving.certificate,
    [keys.key]: serving.key,
    ...(next && { [nextKeys.certificate]: next.certificate, [nextKeys.key]: next.key }),
    ...(previous && { [previousKey]: previous }),
  }
  const data = Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString('base64')])
  return {
    apiVersion: apiVersionOf(secrets),
    kind: secrets.kind,
    metadata: { namespace, name: secretName },
    type: 'kubernetes.io/tls',
    data: Object.fromEntries(data),
  }
}
