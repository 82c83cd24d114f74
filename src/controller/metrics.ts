import { Gauge } from '@prometheus-io/client'
import type { Usage } from '../ipam/usage.ts'
import type { MetricsPage } from '../lib/probes.ts'
import { processRegistry } from '../lib/registry.ts'

/** What a controller knows of its cluster, in numbers. */
export interface Figures {
  /** With the reason of each one's condition `Ready`. */
  networks: { namespace: string; name: string; reason: string; usage: Usage[] }[]
  /** How many nodes reach each physical network, and how many should and do not. */
  wires: { name: string; usable: number; unusable: number }[]
}

/** What a controller tells Prometheus; of its cluster, only the one that works. */
export function controllerMetrics(candidate: {
  leads(): boolean
  figures(): Figures | undefined
}): MetricsPage {
  const registry = processRegistry()
  const registers = [registry]
  new Gauge({
    name: 'polynet_controller_leads',
    help: 'Whether this is the controller that works; the sum over all is 1.',
    registers,
    collect() {
      this.set(candidate.leads() ? 1 : 0)
    },
  })
  new Gauge({
    name: 'polynet_networks',
    help: 'Networks, by the reason of their condition Ready.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const { reason } of candidate.figures()?.networks ?? []) this.inc({ reason })
    },
  })
  new Gauge({
    name: 'polynet_network_blocks',
    help: 'Address blocks of a network that nodes have leased, and that they may lease.',
    labelNames: ['namespace', 'name', 'family', 'state'],
    registers,
    collect() {
      this.reset()
      for (const { namespace, name, usage } of candidate.figures()?.networks ?? [])
        for (const { family, blocks } of usage) {
          const labels = { namespace, name, family: `IPv${family}` }
          this.set({ ...labels, state: 'leased' }, Number(blocks.leased))
          this.set({ ...labels, state: 'free' }, Number(blocks.all - blocks.leased))
        }
    },
  })
  new Gauge({
    name: 'polynet_physical_network_nodes',
    help: 'Nodes that a physical network is mapped on, by whether they reach it.',
    labelNames: ['name', 'usable'],
    registers,
    collect() {
      this.reset()
      for (const { name, usable, unusable } of candidate.figures()?.wires ?? []) {
        this.set({ name, usable: 'true' }, usable)
        this.set({ name, usable: 'false' }, unusable)
      }
    },
  })
  return { text: () => registry.metrics(), contentType: registry.contentType }
}
