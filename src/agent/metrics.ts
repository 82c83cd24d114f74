import { Counter, Gauge, Histogram } from '@prometheus-io/client'
import type { MetricsPage } from '../lib/probes.ts'
import { processRegistry } from '../lib/registry.ts'
import type { Agent } from './agent.ts'
import type { Journal } from './journal/journal.ts'
import { recordsOf } from './journal/record.ts'

/** What an agent tells Prometheus. */
export interface Metrics extends MetricsPage {
  /** The agent, counted and timed. */
  observed(agent: Agent): Agent
}

/** `confFirst` says whether the runtime takes Polynet's conf before every other, where the agent installs it. */
export function agentMetrics(node: string, journal: Journal, confFirst: () => boolean | undefined): Metrics {
  const registry = processRegistry()
  registry.setDefaultLabels({ node })
  const requests = new Counter({
    name: 'polynet_cni_requests_total',
    help: 'Executions of the shim that the agent answered.',
    labelNames: ['command', 'outcome'],
    registers: [registry],
  })
  const seconds = new Histogram({
    name: 'polynet_cni_request_seconds',
    help: 'How long the agent took to answer the shim.',
    labelNames: ['command'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60],
    registers: [registry],
  })
  new Gauge({
    name: 'polynet_attachments',
    help: 'Interfaces of pods on this node, by what made them.',
    labelNames: ['by'],
    registers: [registry],
    collect() {
      this.reset()
      this.set({ by: 'polynet' }, 0)
      for (const record of recordsOf(journal)) for (const a of record.attachments) this.inc({ by: a.kind })
    },
  })
  let left = () => 0
  new Gauge({
    name: 'polynet_sandboxes_left',
    help: 'Sandboxes that something could not be taken away of; it is tried again and again.',
    registers: [registry],
    collect() {
      this.set(left())
    },
  })
  let ready = () => 0
  new Gauge({
    name: 'polynet_agent_ready',
    help: 'Whether the agent can attach pods.',
    registers: [registry],
    collect() {
      this.set(ready())
    },
  })
  new Gauge({
    name: 'polynet_cni_conf_first',
    help: "Whether the runtime takes Polynet's conf before every other.",
    registers: [registry],
    collect() {
      const first = confFirst()
      if (first !== undefined) this.set(first ? 1 : 0)
      else this.reset()
    },
  })
  return {
    observed(agent) {
      ready = () => (agent.unready() === undefined ? 1 : 0)
      left = () => agent.left().length
      return {
        ...agent,
        async handle(request, isTold) {
          const begun = performance.now()
          const answer = await agent.handle(request, isTold)
          seconds.observe({ command: request.command }, (performance.now() - begun) / 1000)
          requests.inc({ command: request.command, outcome: answer.exit === 0 ? 'success' : 'error' })
          return answer
        },
      }
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
