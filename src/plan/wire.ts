import type { HostPhysicalNetwork, Nic, NicMapping } from '../api/host-physical-network.ts'
import type { Network } from '../api/network.ts'
import type { NicMatch, PhysicalNetwork } from '../api/physical-network.ts'
import { contains, linkLocal, parseAddress, withoutLength } from '../lib/ip.ts'
import { parseMac } from '../lib/mac.ts'
import { type Labels, selects } from '../lib/selector.ts'
import { type PortHolder, portTaken } from './foreign-tunnel.ts'

/**
 * Which NIC of a node reaches which physical network, sorted by network: all
 * those that a mapping of the node's own names or else a rule of the
 * PhysicalNetwork (the first whose selector fits the node). A physical network that
 * neither speaks of is not on this node, and not in the answer. One that cannot
 * be used says why and what to do: no such NIC, no cable, a tunnel port that one
 * of `holders` has.
 */
export function mappingsFor(
  physicalNetworks: readonly PhysicalNetwork[],
  host: HostPhysicalNetwork | undefined,
  nics: readonly Nic[],
  nodeLabels: Labels,
  holders: readonly PortHolder[] = [],
): NicMapping[] {
  const explicit = host?.spec.mappings ?? []
  const known = new Set(physicalNetworks.map((p) => p.metadata.name))
  const strangers = explicit
    .filter((m) => !known.has(m.physicalNetwork))
    .map(({ physicalNetwork }) => ({
      physicalNetwork,
      usable: false,
      message: `PhysicalNetwork ${physicalNetwork} does not exist; create it, or take the mapping out of HostPhysicalNetwork ${host?.metadata.name}`,
    }))
  const mappings = physicalNetworks.flatMap((wire) => {
    const asked = matchFor(wire, host, nodeLabels)
    return asked ? [mappingOf(wire, asked, nics, holders)] : []
  })
  return [...strangers, ...mappings].sort((a, b) => (a.physicalNetwork < b.physicalNetwork ? -1 : 1))
}

interface Asked {
  match: NicMatch
  /** Where it stands, for messages. */
  source: string
}

function matchFor(
  wire: PhysicalNetwork,
  host: HostPhysicalNetwork | undefined,
  labels: Labels,
): Asked | undefined {
  const { name } = wire.metadata
  const mappings = host?.spec.mappings ?? []
  const own = mappings.findIndex((m) => m.physicalNetwork === name)
  if (own >= 0)
    return {
      match: mappings[own]!.match,
      source: `spec.mappings[${own}].match of HostPhysicalNetwork ${host?.metadata.name}`,
    }
  const rules = wire.spec.nics ?? []
  const rule = rules.findIndex((r) => selects(r.nodeSelector ?? {}, labels))
  if (rule < 0) return undefined
  return { match: rules[rule]!.match, source: `spec.nics[${rule}].match of PhysicalNetwork ${name}` }
}

function mappingOf(
  wire: PhysicalNetwork,
  { match, source }: Asked,
  nics: readonly Nic[],
  holders: readonly PortHolder[],
): NicMapping {
  const physicalNetwork = wire.metadata.name
  const unusable = (message: string) => ({ physicalNetwork, usable: false, message })
  const [nic, ...others] = nics.filter((n) => matches(match, n))
  if (!nic) {
    const present = nics.length > 0 ? nics.map((n) => n.name).join(', ') : 'none'
    return unusable(`no NIC has ${spelled(match)} (there are: ${present}); correct ${source}, or plug it in`)
  }
  if (others.length > 0)
    return unusable(
      `${[nic, ...others].map((n) => n.name).join(' and ')} have ${spelled(match)}; narrow ${source} to one`,
    )
  const address = tunnelAddress(nic)
  const mtu = Math.min(nic.mtu, wire.spec.mtu ?? nic.mtu)
  const message = hindrance(wire, nic) || portHindrance(wire, address, holders)
  return { physicalNetwork, nic: nic.name, address, mtu, usable: message === '', message }
}

/** Why the NIC cannot carry the wire; empty when it can. */
function hindrance(wire: PhysicalNetwork, nic: Nic): string {
  const { mtu } = wire.spec
  if (!nic.up)
    return `${nic.name} is down; set it up (ip link set ${nic.name} up) and see whether its cable is in`
  if (mtu !== undefined && mtu > nic.mtu)
    return `${nic.name} carries packets of ${nic.mtu} bytes and spec.mtu of PhysicalNetwork ${wire.metadata.name} says ${mtu}; raise the one (ip link set ${nic.name} mtu ${mtu}) or lower the other`
  return ''
}

/** The same of its tunnel port, which other programs may have. */
function portHindrance(
  { metadata, spec, status }: PhysicalNetwork,
  address: string | undefined,
  holders: readonly PortHolder[],
): string {
  const port = spec.tunnelPort ?? status?.tunnelPort
  const taken = port === undefined ? undefined : portTaken(port, address, holders)
  if (taken === undefined) return ''
  return `${taken}; give that another port, or use a PhysicalNetwork with another spec.tunnelPort than ${metadata.name} has`
}

const matches = (match: NicMatch, nic: Nic): boolean =>
  (match.name === undefined || globbed(match.name, nic.name)) &&
  (match.driver === undefined || match.driver === nic.driver) &&
  (match.pciAddress === undefined || match.pciAddress === nic.pciAddress) &&
  (match.mac === undefined || parseMac(match.mac) === parseMac(nic.mac))

function globbed(glob: string, name: string): boolean {
  const escaped = glob.replace(/[.+^${}()|[\]\\-]/g, '\\$&')
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(name)
}

/** `name eth1 and driver ixgbe`, for messages. */
const spelled = (match: NicMatch): string =>
  Object.entries(match)
    .map(([key, value]) => `${key} ${value}`)
    .join(' and ')

/** The first address of the NIC that other nodes can reach it by, without prefix length. */
const tunnelAddress = ({ addresses = [] }: Nic): string | undefined =>
  addresses.map(withoutLength).find((text) => {
    const address = parseAddress(text)
    return address !== undefined && !linkLocal.some((p) => contains(p, address))
  })

/** The status of a HostPhysicalNetwork but for its conditions, columns for people included. */
export const hostStatus = (
  nics: Nic[],
  mappings: NicMapping[],
): Required<Omit<NonNullable<HostPhysicalNetwork['status']>, 'conditions'>> => ({
  nics,
  mappings,
  nicNames: nics.map((n) => n.name).join(','),
  mapped: mappings.map((m) => `${m.physicalNetwork}=${m.usable ? m.nic : 'none'}`).join(','),
})

/** Why the network may not use its VLAN on this wire, and the remedy; undefined when it may, or uses none. */
export function vlanOutside({ spec }: Network, wire: PhysicalNetwork | undefined): string | undefined {
  const range = wire?.spec.vlanRange
  if (spec.vlan === undefined || !range || (spec.vlan >= range.min && spec.vlan <= range.max))
    return undefined
  return `spec.vlan: PhysicalNetwork ${wire.metadata.name} has VLANs ${range.min} to ${range.max} for networks, not ${spec.vlan}; choose one of those`
}
