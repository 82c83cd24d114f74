import type { HostPhysicalNetwork, Nic, NicMapping } from '../api/host-physical-network.ts'
import { apiVersionOf, type Condition } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import { equal } from '../lib/json.ts'
import { hostStatus } from '../plan/wire.ts'

/**
 * Writes this node's HostPhysicalNetwork: makes it when it is not there,
 * never touches its spec, and its status only when that says something new.
 */
export async function register(
  deps: { kube: Kube; clock: Clock; node: { name: string; uid: string } },
  current: HostPhysicalNetwork | undefined,
  nics: Nic[],
  mappings: NicMapping[],
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
  const ready = readyOf(mappings, host, clock)
  const status = { ...hostStatus(nics, mappings), conditions: [ready] }
  if (equal(host.status ?? {}, status)) return
  await kube.patch(resource, { name: node.name }, { type: 'merge', subresource: 'status', body: { status } })
}

function readyOf(mappings: NicMapping[], host: HostPhysicalNetwork, clock: Clock): Condition {
  const broken = mappings.filter((m) => !m.usable)
  const before = host.status?.conditions?.find((c) => c.type === 'Ready')
  const status = broken.length === 0 ? 'True' : 'False'
  return {
    type: 'Ready',
    status,
    reason: broken.length === 0 ? 'AllMappingsUsable' : 'MappingNotUsable',
    message:
      broken.length === 0
        ? `${mappings.length} physical networks are reached from this node`
        : broken.map((m) => `${m.physicalNetwork}: ${m.message}`).join('; '),
    observedGeneration: host.metadata.generation,
    lastTransitionTime:
      before?.status === status ? before.lastTransitionTime : new Date(clock.now()).toISOString(),
  }
}
