import type { Parsed, Problem } from '../lib/fault.ts'
import { bitsOf, contains, type Family, leastMtu, parseAddress, parsePrefix } from '../lib/ip.ts'
import { configProblems } from './cni-config.ts'
import { parseAs } from './crd.ts'
import { type Condition, type KubeObject, type LabelSelector, selectorProblems } from './meta.ts'
import { networkKind } from './network-kind.ts'
import { subnetProblems } from './subnet.ts'

/** Where Polynet's own objects are. */
export const systemNamespace = 'polynet-system'

/** The cluster's default network: rendered in the host's namespace. */
export const defaultNetwork = { namespace: systemNamespace, name: 'default' } as const

export const isDefaultNetwork = ({ metadata }: Network): boolean =>
  metadata.namespace === defaultNetwork.namespace && metadata.name === defaultNetwork.name

export type Topology = 'Layer3' | 'Layer2' | 'Direct'

export interface Subnet {
  cidr: string
  /** Absent: Layer3 networks need none; others take the first address. */
  gateway?: string
  /** First and last address that pods may get; absent: all of the cidr. */
  ranges?: { start: string; end: string }[]
  /** Addresses or prefixes that pods never get. */
  exclude?: string[]
}

/** A logical network. */
export interface Network extends KubeObject {
  spec: {
    /** The wire it runs over; absent: the one that carries the nodes' own addresses. */
    physicalNetwork?: string
    /** `polynet`, or the type or name of any CNI plugin installed on the nodes. */
    plugin?: string
    topology?: Topology
    subnets?: Subnet[]
    /** Prefix length of the blocks that nodes lease, per family; fixed for the network's life. */
    blockSize?: { ipv4?: number; ipv6?: number }
    /** VLAN on the physical network, for Direct. */
    vlan?: number
    /** How a Direct attachment is made. */
    direct?: { mode: 'macvlan' | 'ipvlan' | 'vlan' | 'host-device' }
    /** Destinations beside its own subnets that pods reach through it. */
    routes?: { to: string; via?: string }[]
    /** How pods resolve names whose eth0 it is. */
    dns?: { nameservers: string[]; searches?: string[]; options?: string[] }
    mtu?: number
    /** Whether its attachment takes the pod's default route also when it is not eth0. */
    primary?: boolean
    /** Who may attach, beside pods of its own namespace. */
    allowedNamespaces?: { from: 'Same' | 'Tenant' | 'Selector' | 'All'; selector?: LabelSelector }
    /** For a foreign plugin: its CNI configuration (a conf or a conflist), as JSON; absent: the conf on the node. */
    config?: string
  }
  status?: {
    /** VXLAN network identifier, unique within its physical network's tunnel port. */
    vni?: number
    mtu?: number
    /** Nodes that hold a block. */
    nodes?: number
    /** Addresses leased to nodes of all there are, for people: `12/65534`. */
    addresses?: string
    /** What is in effect, for people: the topology (none where a foreign plugin has its own), and `10.1.0.0/16,fd00:10:1::/64`. */
    topology?: Topology
    subnets?: string
    conditions?: Condition[]
  }
}

/** Where `spec.blockSize` says nothing: at most 64 addresses a block, and a small subnet is cut into 64 blocks. */
const smallestBlocks = 6

/**
 * Prefix length of the blocks that nodes lease from the network's subnets of
 * `family`: what `spec.blockSize` says, else /26 (/122) where the first
 * subnet is a /20 (/116) or larger, else a 64th of it, down to single
 * addresses. Subnets are only ever appended, so it is fixed for the network's
 * life. Undefined where the network has no subnet of the family.
 */
export function blockSizeOf(network: Pick<Network, 'spec'>, family: Family): number | undefined {
  const { blockSize, subnets = [] } = network.spec
  const first = subnets.map((s) => parsePrefix(s.cidr)).find((p) => p?.family === family)
  if (!first) return undefined
  const bits = bitsOf(family)
  return (
    (family === 4 ? blockSize?.ipv4 : blockSize?.ipv6) ??
    Math.min(bits, Math.max(bits - smallestBlocks, first.length + smallestBlocks))
  )
}

/** What of a network's status follows from its spec alone. */
export const shownOf = ({ spec }: Network): Pick<NonNullable<Network['status']>, 'topology' | 'subnets'> => ({
  topology: isRendered({ spec }) ? (spec.topology ?? 'Layer3') : undefined,
  subnets: spec.subnets?.map((s) => s.cidr).join(','),
})

/** Whether Polynet renders it itself; another plugin carries it otherwise. */
export const isRendered = ({ spec }: Pick<Network, 'spec'>): boolean =>
  (spec.plugin ?? 'polynet') === 'polynet'

/** The Network that `input` is, with defaults filled in, or every problem with it. */
export function parseNetwork(input: unknown): Parsed<Network> {
  const parsed = parseAs(networkKind, input, problemsOf)
  if (!parsed.ok) return parsed
  const { spec } = parsed.value
  if (isRendered(parsed.value)) spec.topology ??= 'Layer3'
  if (spec.topology === 'Direct') spec.direct ??= { mode: 'macvlan' }
  const sizes = { ipv4: blockSizeOf(parsed.value, 4), ipv6: blockSizeOf(parsed.value, 6) }
  if (sizes.ipv4 !== undefined || sizes.ipv6 !== undefined)
    spec.blockSize = {
      ...(sizes.ipv4 !== undefined && { ipv4: sizes.ipv4 }),
      ...(sizes.ipv6 !== undefined && { ipv6: sizes.ipv6 }),
    }
  return parsed
}

const problemsOf = (network: Network): Problem[] => [
  ...pluginProblems(network.spec),
  ...subnetProblems(network.spec.subnets ?? [], network.spec.topology),
  ...blockProblems(network),
  ...directProblems(network.spec),
  ...routeProblems(network.spec),
  ...dnsProblems(network.spec),
  ...mtuProblems(network.spec),
  ...allowedProblems(network.spec),
]

function pluginProblems(spec: Network['spec']): Problem[] {
  // The plugin has a default: it is absent only where what was given is refused already.
  if (spec.plugin === undefined) return []
  if (!isRendered({ spec }))
    return [
      ...(spec.topology
        ? [
            {
              path: 'spec.topology',
              problem: `plugin ${spec.plugin} has a topology of its own; leave it out`,
            },
          ]
        : []),
      ...(spec.config === undefined ? [] : configProblems(spec.config, 'spec.config')),
    ]
  const found: Problem[] = []
  if (!spec.subnets?.length)
    found.push({ path: 'spec.subnets', problem: 'is missing; give at least one cidr, such as 10.1.0.0/16' })
  if (spec.config !== undefined)
    found.push({
      path: 'spec.config',
      problem: 'plugin polynet takes none; name another plugin in spec.plugin, or leave it out',
    })
  return found
}

function blockProblems(network: Network): Problem[] {
  const { subnets = [], blockSize } = network.spec
  if (!isWhole(subnets)) return []
  return ([4, 6] as const).flatMap((family) => {
    const key = family === 4 ? 'ipv4' : 'ipv6'
    const asked = blockSize?.[key]
    const size = blockSizeOf(network, family)
    if (size === undefined)
      return asked === undefined
        ? []
        : [{ path: `spec.blockSize.${key}`, problem: `no subnet is of that family; leave it out` }]
    return subnets.flatMap((subnet, i) => {
      const prefix = parsePrefix(subnet.cidr)!
      if (prefix.family !== family || prefix.length <= size) return []
      return [
        asked === undefined
          ? {
              path: `spec.subnets[${i}].cidr`,
              problem: `${subnet.cidr} is smaller than the blocks of the network (/${size}); use a larger prefix or set spec.blockSize.${key}`,
            }
          : {
              path: `spec.blockSize.${key}`,
              problem: `blocks of /${size} do not fit into ${subnet.cidr}; use ${prefix.length}–${bitsOf(family)}`,
            },
      ]
    })
  })
}

/** Whether no subnet is left out for its shape. */
const isWhole = (subnets: Subnet[]): boolean => subnets.filter(() => true).length === subnets.length

function directProblems(spec: Network['spec']): Problem[] {
  if (spec.topology === 'Direct')
    return spec.direct?.mode === 'vlan' && spec.vlan === undefined
      ? [{ path: 'spec.vlan', problem: 'is missing; direct.mode vlan needs one (1–4094)' }]
      : []
  return (['vlan', 'direct'] as const)
    .filter((key) => spec[key] !== undefined)
    .map((key) => ({
      path: `spec.${key}`,
      problem: 'is for topology Direct; set spec.topology to that, or leave it out',
    }))
}

function routeProblems({ routes = [], subnets = [] }: Network['spec']): Problem[] {
  return routes.flatMap(({ to, via }, i) => {
    if (via === undefined) return []
    const hop = parseAddress(via)!
    const path = `spec.routes[${i}].via`
    if (hop.family !== parsePrefix(to)!.family)
      return [{ path, problem: `${via} is of another family than ${to}; use one of the same` }]
    if (isWhole(subnets) && !subnets.some((s) => contains(parsePrefix(s.cidr)!, hop)))
      return [{ path, problem: `${via} is in none of the subnets of the network; use an address of one` }]
    return []
  })
}

/** As much as the API server takes in a pod's dnsConfig. */
const maxSearchCharacters = 2048

function dnsProblems({ dns }: Network['spec']): Problem[] {
  const problems: Problem[] = []
  if (dns?.nameservers?.length === 0)
    problems.push({
      path: 'spec.dns.nameservers',
      problem: 'is empty; name one to three servers that the pods reach, or leave out spec.dns',
    })
  const { length } = (dns?.searches ?? []).join(' ')
  if (length > maxSearchCharacters)
    problems.push({
      path: 'spec.dns.searches',
      problem: `has ${length} characters, a space between domains included; at most ${maxSearchCharacters} are possible`,
    })
  return problems
}

/** Whether one of the subnets is of IPv6, and the MTU less than that takes. */
export const lacksRoomForIPv6 = (mtu: number | undefined, subnets: Subnet[] = []): boolean =>
  mtu !== undefined && mtu < leastMtu[6] && subnets.some((s) => s.cidr.includes(':'))

const mtuProblems = ({ mtu, subnets }: Network['spec']): Problem[] =>
  lacksRoomForIPv6(mtu, subnets)
    ? [{ path: 'spec.mtu', problem: `${mtu} is too small for IPv6; use at least ${leastMtu[6]}` }]
    : []

function allowedProblems({ allowedNamespaces }: Network['spec']): Problem[] {
  const { from, selector } = allowedNamespaces ?? { from: 'Same' }
  const path = 'spec.allowedNamespaces.selector'
  if (from === 'Selector' && !selector)
    return [{ path, problem: 'is missing; say which namespaces, by labels' }]
  if (from !== 'Selector' && selector)
    return [{ path, problem: `is for from: Selector, not ${from}; change from, or leave it out` }]
  return selectorProblems(selector, path)
}
