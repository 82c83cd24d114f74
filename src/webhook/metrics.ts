import { Counter, Gauge, Histogram } from '@prometheus-io/client'
import type { MetricsPage } from '../lib/probes.ts'
import { processRegistry } from '../lib/registry.ts'
import type { Heard } from './server.ts'

/** What a webhook tells Prometheus; `until` is when its certificate ends, in milliseconds since the epoch. */
export function webhookMetrics(until: () => number | undefined): MetricsPage & { heard: Heard } {
  const registry = processRegistry()
  const requests = new Counter({
    name: 'polynet_admission_requests_total',
    help: 'Objects that were reviewed, by kind and what came of it.',
    labelNames: ['path', 'kind', 'operation', 'outcome'],
    registers: [registry],
  })
  const seconds = new Histogram({
    name: 'polynet_admission_request_seconds',
    help: 'How long a review took.',
    labelNames: ['path', 'kind'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5],
    registers: [registry],
  })
  new Gauge({
    name: 'polynet_webhook_certificate_until_seconds',
    help: 'When the certificate ends, since the epoch; 0 while there is none.',
    registers: [registry],
    collect() {
      this.set((until() ?? 0) / 1000)
    },
  })
  return {
    heard({ kind, operation }, path, outcome, took) {
      // Whoever reaches the port writes the request: no label of his choice.
      const known = kinds.has(kind.kind) ? kind.kind : 'other'
      const done = operation === 'CREATE' || operation === 'UPDATE' ? operation : 'other'
      requests.inc({ path, kind: known, operation: done, outcome })
      seconds.observe({ path, kind: known }, took)
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

const kinds = new Set([
  ...['Pod', 'Network', 'PhysicalNetwork', 'HostPhysicalNetwork', 'NetworkAttachmentDefinition'],
  ...['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job', 'CronJob'],
])
