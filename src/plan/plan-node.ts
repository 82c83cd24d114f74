import type { Network } from '../api/network.ts'
import { planDirectPort } from './direct.ts'
import { planLayer2, planLayer2Port } from './layer2.ts'
import { planLayer3, planLayer3Port } from './layer3.ts'
import type { NamespacePlan, NodePlan, PortPlan } from './node-plan.ts'
import type { Table } from './ruleset.ts'
import { tunnelGuard } from './tunnel-guard.ts'
import { uplinksInHost } from './uplink.ts'
import type { HeldAttachment, NetworkView, NodeView } from './view.ts'

/**
 * What this node's kernel should look like. The same view gives the same
 * plan, in the same order; the same view of one network, the very same plan
 * of its namespace, so that a change of one network costs the others nothing.
 */
export function planNode(view: NodeView): NodePlan {
  const networks = new Map(view.networks.map((n) => [n.network.metadata.uid ?? '', n]))
  const ports: PortPlan[] = []
  for (const held of view.attachments) {
    const network = networks.get(held.networkUID)
    if (network) ports.push(portOf(network, held))
  }
  ports.sort((a, b) => (a.key < b.key ? -1 : 1))
  const own = view.networks.filter((n) => n.place === 'own' && topologyOf(n.network) !== 'Direct')
  const inHost = view.networks.filter((n) => n.place === 'host')
  return {
    namespaces: [
      planHost(inHost, view.networks, view.closed),
      ...own.map(planNetwork).sort((a, b) => (a.netns < b.netns ? -1 : 1)),
    ],
    ports,
  }
}

/** The part of the plan that one pod's interface is. Needs nothing but its network, so an ADD does not plan the node again. */
export function planPort(view: NetworkView, held: HeldAttachment): PortPlan {
  switch (topologyOf(view.network)) {
    case 'Layer2':
      return planLayer2Port(view, held)
    case 'Direct':
      return planDirectPort(view, held)
    default:
      return planLayer3Port(view, held)
  }
}

const topologyOf = (network: Network) => network.spec.topology ?? 'Layer3'

function planNetwork(view: NetworkView): NamespacePlan {
  const known = networkPlans.get(view)
  if (known) return known
  const plan = topologyOf(view.network) === 'Layer2' ? planLayer2(view) : planLayer3(view)
  networkPlans.set(view, plan)
  return plan
}

const networkPlans = new WeakMap<NetworkView, NamespacePlan>()

/** The port as it was planned before, unless its network is another: what other nodes hold is nothing to it. */
function portOf(view: NetworkView, held: HeldAttachment): PortPlan {
  const { network, wire, place } = view
  const known = portPlans.get(held)
  if (known && known.network === network && known.wire === wire && known.place === place) return known.port
  const port = planPort(view, held)
  portPlans.set(held, { network, wire, place, port })
  return port
}

const portPlans = new WeakMap<
  HeldAttachment,
  Pick<NetworkView, 'network' | 'wire' | 'place'> & { port: PortPlan }
>()

function planHost(inHost: NetworkView[], all: NetworkView[], closed: string[]): NamespacePlan {
  const tunnelled = all.filter((n) => topologyOf(n.network) !== 'Direct')
  const parts = [...inHost.map(planLayer3), uplinksInHost(tunnelled.toSorted(byUID), closed)]
  return {
    netns: 'host',
    sysctls: Object.assign({}, ...parts.map((p) => p.sysctls)),
    links: parts.flatMap((p) => p.links),
    addresses: parts.flatMap((p) => p.addresses),
    routes: parts.flatMap((p) => p.routes),
    neighbours: parts.flatMap((p) => p.neighbours),
    forwarding: parts.flatMap((p) => p.forwarding),
    tables: hostTables([...parts.flatMap((p) => p.tables), ...tunnelGuard(tunnelled)]),
  }
}

const byUID = (a: NetworkView, b: NetworkView): number =>
  (a.network.metadata.uid ?? '') < (b.network.metadata.uid ?? '') ? -1 : 1

/** One table of each family: a namespace has no other of ours. */
function hostTables(parts: Table[]): Table[] {
  const tables = new Map<string, Table>()
  for (const part of parts) {
    const table = tables.get(part.family)
    tables.set(
      part.family,
      table
        ? { ...table, sets: [...table.sets, ...part.sets], chains: [...table.chains, ...part.chains] }
        : part,
    )
  }
  return [...tables.values()]
}
