import type { AddressBlock } from '../api/address-block.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { Condition } from '../api/meta.ts'
import { isRendered, type Network, systemNamespace } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import type { Usage } from '../ipam/usage.ts'
import { type Problem, sentence } from '../lib/fault.ts'
import { contains, leastMtu, overlaps, type Prefix, parseAddress, parsePrefix, sizeOf } from '../lib/ip.ts'
import { vlanOutside } from '../plan/wire.ts'

/** What is true of an object, before it is known since when. */
export type Finding = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>

/** What the API server takes at most as a condition's message: many nodes together may have more to say. */
const longestMessage = 32768

/** The conditions with `findings` in them; a condition that did not change keeps its time. */
export function conditionsWith(
  before: Condition[] | undefined,
  findings: Finding[],
  generation: number | undefined,
  now: string,
): Condition[] {
  return findings.map((finding) => {
    const old = before?.find((c) => c.type === finding.type)
    const lastTransitionTime = old?.status === finding.status ? old.lastTransitionTime : now
    const { message } = finding
    return {
      ...finding,
      message: message.length > longestMessage ? `${message.slice(0, longestMessage - 1)}…` : message,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime,
    }
  })
}

/** What a VXLAN packet carries beside the frame's payload: outer IP, UDP, VXLAN, inner Ethernet (RFC 7348 section 5). */
const overhead = { 4: 50, 6: 70 } as const

export interface Surroundings {
  physical: PhysicalNetwork[]
  hosts: HostPhysicalNetwork[]
  networks: Network[]
  /** How much of this network's addresses nodes have leased. */
  usage: Usage[]
  /** What `parse` has against the network. */
  problems: Problem[]
  /** Pods that are attached to it; known only while it is being deleted. */
  users?: string[]
}

/**
 * The MTU of a network: the smallest of its member nodes' NICs less the
 * tunnel's overhead, or less where its spec says so; unknown while no node
 * reaches it. Fixed once known: pods that run would not learn of another.
 */
export function mtuFor(network: Network, around: Surroundings): number | undefined {
  if (network.status?.mtu !== undefined) return network.status.mtu
  const wires = wiresOf(network, around.hosts).usable.filter((w) => w.mtu !== undefined)
  const physical = around.physical.find((p) => p.metadata.name === network.spec.physicalNetwork)
  const most = physical?.spec.mtu ?? 65535
  const room = wires.map((w) => Math.min(w.mtu ?? 0, most) - tunnelBytes(network, w))
  const mtu = room.length > 0 ? Math.min(network.spec.mtu ?? 65535, ...room) : 0
  return mtu < leastMtu[4] ? undefined : mtu
}

const tunnelBytes = ({ spec }: Network, { address = '' }: MemberWire): number =>
  spec.topology === 'Direct' ? 0 : overhead[parseAddress(address)?.family ?? 4]

interface MemberWire {
  node: string
  usable: boolean
  nic?: string
  mtu?: number
  address?: string
  message?: string
}

interface MemberWires {
  all: MemberWire[]
  usable: MemberWire[]
  broken: MemberWire[]
}

/** The same for all networks of one kind on one wire, so looked for once for given hosts. */
function wiresOf(network: Network, hosts: HostPhysicalNetwork[]): MemberWires {
  const known = wiresOfHosts.get(hosts) ?? new Map<string, MemberWires>()
  wiresOfHosts.set(hosts, known)
  // One node with less lowers no network of which others leave as much, but where the network has less, or shall have.
  const least = Math.min(leastMtu[6], network.status?.mtu ?? network.spec.mtu ?? leastMtu[6])
  const key = `${network.spec.topology === 'Direct'} ${least} ${network.spec.physicalNetwork ?? ''}`
  let wires = known.get(key)
  if (!wires) {
    const all = withoutNarrow(network, memberWires(network, hosts), least)
    wires = { all, usable: all.filter((w) => w.usable), broken: all.filter((w) => !w.usable) }
    known.set(key, wires)
  }
  return wires
}

const wiresOfHosts = new WeakMap<HostPhysicalNetwork[], Map<string, MemberWires>>()

/** With those that would leave the network less than `least` unusable, unless all would: a node's word may be wrong, or a lie. */
function withoutNarrow(network: Network, wires: MemberWire[], least: number): MemberWire[] {
  const isWide = (w: MemberWire) => (w.mtu ?? 0) - tunnelBytes(network, w) >= least
  if (!wires.some((w) => w.usable && isWide(w))) return wires
  return wires.map((w) => {
    if (!w.usable || w.mtu === undefined || isWide(w)) return w
    const message = `${w.nic ?? 'its NIC'} has an MTU of ${w.mtu}, too small for this network; give it at least ${least + tunnelBytes(network, w)}`
    return { ...w, usable: false, message }
  })
}

function memberWires(network: Network, hosts: HostPhysicalNetwork[]): MemberWire[] {
  const name = network.spec.physicalNetwork
  return hosts.flatMap((host): MemberWire[] => {
    const node = host.metadata.name
    if (name !== undefined) {
      const mapping = host.status?.mappings?.find((m) => m.physicalNetwork === name)
      if (!mapping) return []
      // On the wire itself no tunnel starts.
      if (!mapping.usable || mapping.address || network.spec.topology === 'Direct')
        return [{ node, ...mapping }]
      const message = `${mapping.nic} has no address that tunnels could start from; give it one (ip address add … dev ${mapping.nic})`
      return [{ node, ...mapping, usable: false, message }]
    }
    // Without a physical network the nodes' own addresses carry it: the smallest NIC that has one.
    const nics = (host.status?.nics ?? []).filter((n) => n.up && n.addresses?.length)
    const [nic] = nics.toSorted((a, b) => a.mtu - b.mtu)
    return nic ? [{ node, usable: true, nic: nic.name, mtu: nic.mtu }] : []
  })
}

/** Whether the network works, and if not, why and what to do. */
export function networkReady(network: Network, around: Surroundings, vni: number | undefined): Finding {
  const no = (reason: string, message: string): Finding => ({
    type: 'Ready',
    status: 'False',
    reason,
    message,
  })
  if (network.metadata.deletionTimestamp !== undefined)
    return no('Deleting', `is being deleted; it goes when ${podsIn(around.users ?? [])}`)
  if (around.problems.length > 0) return no('Invalid', sentence(around.problems))
  const { physicalNetwork, plugin = 'polynet', topology } = network.spec
  if (physicalNetwork !== undefined && !around.physical.some((p) => p.metadata.name === physicalNetwork))
    return no(
      'PhysicalNetworkMissing',
      `spec.physicalNetwork: PhysicalNetwork ${physicalNetwork} does not exist; create it or name one of: ${
        around.physical.map((p) => p.metadata.name).join(', ') || '(there are none)'
      }`,
    )
  if (plugin !== 'polynet')
    return { type: 'Ready', status: 'True', reason: 'Delegated', message: `plugin ${plugin} carries it` }
  const outside = vlanOutside(
    network,
    around.physical.find((p) => p.metadata.name === physicalNetwork),
  )
  if (outside) return no('VlanNotAllowed', outside)
  const twin = overlappingTwin(network, around.networks)
  if (twin) return no('SubnetsOverlap', twin)
  const { all: wires, usable, broken } = wiresOf(network, around.hosts)
  if (usable.length === 0)
    return no(
      'NoNode',
      wires.map((w) => `node ${w.node}: ${w.message}`).join('; ') || noWire(physicalNetwork, around),
    )
  if (topology !== 'Direct' && vni === undefined)
    return no('NoIdentifier', 'all VXLAN identifiers are taken; delete networks that are not used')
  const limits = [
    { reason: 'Exhausted', sentences: exhausted(around.usage) },
    { reason: 'NotOnEveryNode', sentences: broken.map((w) => `node ${w.node}: ${w.message}`) },
    { reason: 'MTULowered', sentences: lowered(network) },
  ].filter(({ sentences }) => sentences.length > 0)
  const reached = broken.length > 0 ? `${usable.length} of ${wires.length}` : usable.length
  return {
    type: 'Ready',
    status: 'True',
    reason: limits[0]?.reason ?? 'Ready',
    message: [`reached by ${reached} nodes`, ...limits.flatMap(({ sentences }) => sentences)].join('; '),
  }
}

/** What of its MTU pods do not get. */
function lowered({ spec, status }: Network): string[] {
  if (spec.mtu === undefined || status?.mtu === undefined || spec.mtu <= status.mtu) return []
  return [
    `spec.mtu: ${spec.mtu} is more than the wires carry, so pods get ${status.mtu}`,
    `make another Network with spec.mtu ${status.mtu}, or none, or one after the NICs have more`,
  ]
}

const noWire = (physicalNetwork: string | undefined, { hosts }: Surroundings): string =>
  physicalNetwork === undefined || hosts.length === 0
    ? 'no node has registered yet; see whether the agents run'
    : `no node maps a NIC to PhysicalNetwork ${physicalNetwork}; give it spec.nics, or map it in a HostPhysicalNetwork`

/** Where what pods send is held to their own addresses, and so who could undo it. */
export function networkConfined(
  { spec: { plugin = 'polynet', topology } }: Network,
  beside = false,
): Finding {
  const found = (status: Finding['status'], reason: string, message: string): Finding => ({
    type: 'Confined',
    status,
    reason,
    message,
  })
  if (plugin !== 'polynet')
    return found('Unknown', 'Delegated', `plugin ${plugin} decides what pods may send`)
  if (topology === 'Direct' && beside)
    return found(
      'False',
      'BesideTunnels',
      'tunnels of other networks run over the same wire, and a pod with NET_ADMIN can send into them as a node does; give this network a wire of its own, or a VLAN (spec.vlan)',
    )
  if (topology === 'Direct')
    return found(
      'False',
      'CheckedInPod',
      'what pods send is checked inside their own namespaces, where one with NET_ADMIN can undo it; on the wire nothing else keeps pods apart but its switches',
    )
  return found('True', 'CheckedOnNode', 'what pods send is checked on their node, where no pod can undo it')
}

/** Whether its pods are, untagged, on a wire by which nodes send each other tunnel packets. */
export const isBesideTunnels = (
  { spec: { physicalNetwork, topology, direct } }: Network,
  networks: Network[],
): boolean =>
  topology === 'Direct' &&
  direct?.mode !== 'vlan' &&
  networks.some(
    ({ spec }) =>
      isRendered({ spec }) && spec.topology !== 'Direct' && spec.physicalNetwork === physicalNetwork,
  )

/** At most a few of them: a message has its limits. */
function podsIn(users: string[]): string {
  if (users.length === 0) return 'nodes have told that no pod has it'
  const [shown, rest] = [users.slice(0, 5), users.length - 5]
  if (users.length === 1) return `pod ${shown[0]} is gone`
  return `pods ${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''} are gone`
}

/** The default network shares the host's namespace, so no two of the kind may overlap what the nodes themselves use; others may. */
function overlappingTwin(network: Network, networks: Network[]): string | undefined {
  if (network.metadata.namespace !== systemNamespace) return undefined
  for (const other of networks) {
    if (other.metadata.uid === network.metadata.uid || other.metadata.namespace !== systemNamespace) continue
    for (const a of prefixesOf(network))
      for (const b of prefixesOf(other))
        if (overlaps(a, b))
          return `spec.subnets: they overlap those of network ${other.metadata.namespace}/${other.metadata.name}; both are rendered in the nodes' own namespace, so give one of them another prefix`
  }
  return undefined
}

/** What it means for pods that a family has no block left: nodes go on with what is free in theirs. */
function exhausted(usages: Usage[]): string[] {
  const full = usages.filter(({ blocks }) => blocks.leased >= blocks.all)
  if (full.length === 0) return []
  return [
    ...full.map(({ family, oneByOne, blocks, singles }) => {
      const all = `spec.subnets: all ${blocks.all} IPv${family}`
      if (oneByOne) return `${all} addresses are leased to nodes`
      const left = singles.all - singles.leased
      const rest = left > 0n ? `, then the ${left} that still go out one by one` : ''
      return `${all} blocks are leased to nodes, so pods get only what is free in their node's${rest}`
    }),
    full.every(({ oneByOne }) => oneByOne)
      ? 'append a subnet, or delete pods that are not needed'
      : 'append a subnet, delete pods that are not needed, or make another Network with smaller blocks (spec.blockSize)',
  ]
}

/** Addresses leased to nodes of all there are, of the smallest family: `128/65536`. */
export function addressesText(network: Network, blocks: AddressBlock[]): string {
  const subnets = prefixesOf(network)
  const family = subnets.some((s) => s.family === 4) ? 4 : 6
  let leased = 0n
  let all = 0n
  for (const subnet of subnets.filter((s) => s.family === family)) {
    leased += leasedOf(subnet, blocks)
    all += sizeOf(subnet)
  }
  return `${leased}/${all > 1_000_000_000n ? '2^'.concat(String(all.toString(2).length - 1)) : all}`
}

function leasedOf(subnet: Prefix, blocks: AddressBlock[]): bigint {
  let leased = 0n
  for (const block of blocks) {
    const prefix = parsePrefix(block.spec.cidr)
    if (prefix && contains(subnet, prefix)) leased += sizeOf(prefix)
  }
  return leased
}

const prefixesOf = (network: Network): Prefix[] =>
  (network.spec.subnets ?? []).flatMap((s) => parsePrefix(s.cidr) ?? [])

/** Whether hosts reach the wire. */
export function physicalReady(
  physical: PhysicalNetwork,
  hosts: HostPhysicalNetwork[],
): { usable: number; unusable: number; ready: Finding } {
  const mappings = hosts.flatMap((h) =>
    (h.status?.mappings ?? [])
      .filter((m) => m.physicalNetwork === physical.metadata.name)
      .map((m) => ({ node: h.metadata.name, ...m })),
  )
  const usable = mappings.filter((m) => m.usable)
  const broken = mappings.filter((m) => !m.usable)
  const why = broken.map((m) => `node ${m.node}: ${m.message}`).join('; ')
  if (usable.length === 0)
    return {
      usable: 0,
      unusable: broken.length,
      ready: {
        type: 'Ready',
        status: 'False',
        reason: 'NoNode',
        message: why || 'no node maps a NIC to it; give it spec.nics, or map it in a HostPhysicalNetwork',
      },
    }
  return {
    usable: usable.length,
    unusable: broken.length,
    ready: {
      type: 'Ready',
      status: 'True',
      reason: broken.length > 0 ? 'NotOnEveryNode' : 'Ready',
      message:
        broken.length > 0 ? `reached by ${usable.length} nodes; ${why}` : `reached by ${usable.length} nodes`,
    },
  }
}
