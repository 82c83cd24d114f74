import { Gauge } from '@prometheus-io/client'
import type { MetricsPage } from '../lib/probes.ts'
import { processRegistry } from '../lib/registry.ts'

/** What a controller tells Prometheus. */
export function controllerMetrics(leads: () => boolean): MetricsPage {
  const registry = processRegistry()
  new Gauge({
    name: 'polynet_controller_leads',
    help: 'Whether this is the controller that works; the sum over all is 1.',
    registers: [registry],
    collect() {
      this.set(leads() ? 1 : 0)
    },
  })
  return { text: () => registry.metrics(), contentType: registry.contentType }
}
