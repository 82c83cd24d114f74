import { collectDefaultMetrics, Registry } from '@prometheus-io/client'

/** What a program tells Prometheus, with the figures of its process; by default those wake an idle one a hundred and ten times a second. */
export function processRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({
    register: registry,
    eventLoopMonitoringPrecision: 500,
    eventLoopUtilizationTimeout: 1000,
  })
  return registry
}
