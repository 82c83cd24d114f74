import type { HostPhysicalNetwork, Nic, NicMapping } from '../api/host-physical-network.ts'
import { apiVersionOf, type Condition } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import { hostStatus } from '../plan/wire.ts'

/** What a node finds on itself. */
export interface Seen {
  nics: Nic[]
  mappings: NicMapping[]
  /** Why networks without a physical network have no tunnels from here; absent where they have. */
  taken: string | undefined
}

/**
 * Writes this node's HostPhysicalNetwork: makes it when it is not there,
 * never touches its spec, and its status only when that says something new.
 */
export async function writeHost(
  deps: { kube: Kube; clock: Clock; node: { name: string; uid: string } },
  current: HostPhysicalNetwork | undefined,
  { nics, mappings, taken }: Seen,
): Promise<void> {
  const { kube, clock, node } = deps
  const resource = resources.hostPhysicalNetworks
  let host = current
  if (!host) {
    try {
      host = await kube.create(resource, {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        metadata: {
          name: node.name,
          ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid }],
        },
        spec: {},
      })
    } catch (error) {
      if (!isFault(error, 'exists')) throw error
      host = await kube.get(resource, { name: node.name })
    }
  }
  const ready = readyOf(mappings, taken, host, clock)
  const status = { ...hostStatus(nics, mappings), conditions: [ready] }
  if (equal(host.status ?? {}, status)) return
  await kube.patch(resource, { name: node.name }, { type: 'merge', subresource: 'status', body: { status } })
}

function readyOf(
  mappings: NicMapping[],
  taken: string | undefined,
  host: HostPhysicalNetwork,
  clock: Clock,
): Condition {
  const broken = mappings.filter((m) => !m.usable)
  const problems = [
    ...(taken === undefined ? [] : [`tunnels by the node's own address: ${taken}`]),
    ...broken.map((m) => `${m.physicalNetwork}: ${m.message}`),
  ]
  const before = host.status?.conditions?.find((c) => c.type === 'Ready')
  const status = problems.length === 0 ? 'True' : 'False'
  return {
    type: 'Ready',
    status,
    reason: broken.length > 0 ? 'MappingNotUsable' : taken ? 'TunnelPortTaken' : 'AllMappingsUsable',
    message:
      problems.length === 0
        ? `${mappings.length} physical networks are reached from this node`
        : problems.join('; '),
    observedGeneration: host.metadata.generation,
    lastTransitionTime:
      before?.status === status ? before.lastTransitionTime : new Date(clock.now()).toISOString(),
  }
}
