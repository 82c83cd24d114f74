import type { Parsed, Problem } from '../lib/fault.ts'
import { bitsOf, contains, type Family, parseAddress, parsePrefix } from '../lib/ip.ts'
import { configProblems } from './cni-config.ts'
import { ageColumn, fixed, type Kind, parseAs, readyColumn, whyColumn } from './crd.ts'
import { formats } from './format.ts'
import {
  type Condition,
  conditions,
  type KubeObject,
  type LabelSelector,
  labelSelector,
  selectorProblems,
} from './meta.ts'
import { resources } from './resources.ts'
import type { Rule, Struct } from './schema.ts'
import { subnetProblems } from './subnet.ts'

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
    dns?: { nameservers?: string[]; searches?: string[]; options?: string[] }
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
  topology: isOurs(spec) ? (spec.topology ?? 'Layer3') : undefined,
  subnets: spec.subnets?.map((s) => s.cidr).join(','),
})

const isOurs = (spec: Network['spec']): boolean => (spec.plugin ?? 'polynet') === 'polynet'

const ours = "(!has(self.plugin) || self.plugin == 'polynet')"
const direct = "(has(self.topology) && self.topology == 'Direct')"
const remake = 'make another Network and move the pods'

const maxSubnets = 16

const specRules: Rule[] = [
  fixed('plugin', remake, "'polynet'"),
  fixed('topology', remake, "'Layer3'"),
  fixed('physicalNetwork', remake),
  fixed('blockSize', remake),
  fixed('vlan', remake),
  fixed('direct', remake),
  fixed('mtu', remake),
  {
    // Compared place by place: of whatever is joined or mapped the API server cannot tell the cost.
    rule: `!has(oldSelf.subnets) || [${Array.from({ length: maxSubnets }, (_, i) => i)}].all(i, i >= oldSelf.subnets.size() || (has(self.subnets) && i < self.subnets.size() && self.subnets[i].cidr == oldSelf.subnets[i].cidr))`,
    message: 'the cidr of a subnet cannot be changed, moved or taken away; append another subnet instead',
  },
  {
    rule: `!${ours} || (has(self.subnets) && self.subnets.size() > 0)`,
    message: 'subnets are missing; give at least one cidr',
  },
  {
    rule: `!has(self.topology) || ${ours}`,
    message: 'topology is for plugin polynet; another plugin has its own, so leave it out',
  },
  {
    rule: `!has(self.config) || !${ours}`,
    message: 'config is for another plugin than polynet; name it in plugin, or leave config out',
  },
  {
    rule: `!has(self.vlan) || ${direct}`,
    message: 'vlan is for topology Direct; set that, or leave vlan out',
  },
  {
    rule: `!has(self.direct) || ${direct}`,
    message: 'direct is for topology Direct; set that, or leave direct out',
  },
]

const cidr: Struct<Subnet>['fields']['cidr'] = {
  type: 'string',
  required: true,
  description: 'The addresses, as a prefix. Cannot be changed later; another subnet can be appended.',
  format: formats.prefix,
}

const subnet: Struct<Subnet> = {
  type: 'object',
  description: 'A prefix of either family.',
  fields: {
    cidr,
    gateway: {
      type: 'string',
      description: 'The gateway. Absent: Layer3 networks need none, others take the first address.',
      format: formats.address,
    },
    ranges: {
      type: 'array',
      description: 'The addresses that pods may get. Absent: all of the cidr.',
      maxItems: 32,
      items: {
        type: 'object',
        description: 'From the first to the last address.',
        fields: {
          start: {
            type: 'string',
            required: true,
            description: 'The first address.',
            format: formats.address,
          },
          end: { type: 'string', required: true, description: 'The last address.', format: formats.address },
        },
      },
    },
    exclude: {
      type: 'array',
      description: 'Addresses and prefixes that pods never get.',
      maxItems: 256,
      items: { type: 'string', description: 'An address or a prefix.', format: formats.addressOrPrefix },
    },
  },
}

export const networkKind: Kind<Network> = {
  resource: resources.networks,
  shortNames: ['pn'],
  categories: ['polynet'],
  labelNames: true,
  status: true,
  columns: [
    {
      name: 'Physical',
      type: 'string',
      jsonPath: '.spec.physicalNetwork',
      description: 'The wire it runs over.',
    },
    { name: 'Plugin', type: 'string', jsonPath: '.spec.plugin', description: 'What makes its interfaces.' },
    { name: 'Topology', type: 'string', jsonPath: '.status.topology', description: 'How pods are joined.' },
    { name: 'Subnets', type: 'string', jsonPath: '.status.subnets', description: 'Its prefixes.' },
    { name: 'VNI', type: 'integer', jsonPath: '.status.vni', description: 'Its VXLAN network identifier.' },
    {
      name: 'Addresses',
      type: 'string',
      jsonPath: '.status.addresses',
      description: 'Addresses leased to nodes, of all.',
    },
    { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes', description: 'Nodes that hold a block.' },
    readyColumn,
    ageColumn,
    { name: 'MTU', type: 'integer', jsonPath: '.status.mtu', description: 'Largest packet.', wide: true },
    whyColumn,
  ],
  schema: {
    type: 'object',
    description: 'A logical network that pods of its namespace, and of others it allows, can attach to.',
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'What the network is.',
        rules: specRules,
        fields: {
          physicalNetwork: {
            type: 'string',
            description:
              "Name of the PhysicalNetwork it runs over. Absent: the wire that carries the nodes' own addresses. Cannot be changed later.",
            format: formats.label,
          },
          plugin: {
            type: 'string',
            description:
              'What makes the interfaces of pods: polynet, or the type or name of any CNI plugin installed on the nodes. Cannot be changed later.',
            format: formats.plugin,
            default: 'polynet',
          },
          topology: {
            type: 'string',
            description:
              'How pods are joined: Layer3 (routed, the default), Layer2 (one broadcast domain) or Direct (on the physical network itself). For plugin polynet only. Cannot be changed later.',
            enum: ['Layer3', 'Layer2', 'Direct'],
          },
          subnets: {
            type: 'array',
            description:
              'Where the addresses of pods come from; a pod gets one of each family. More can be appended later. Plugin polynet needs at least one.',
            maxItems: maxSubnets,
            keys: ['cidr'],
            items: subnet,
          },
          blockSize: {
            type: 'object',
            description:
              'How large the blocks are that nodes lease. Absent: /26 (IPv6: /122) where the first subnet of the family is a /20 (/116) or larger, else a 64th of it. Cannot be changed later.',
            fields: {
              ipv4: {
                type: 'integer',
                description: 'Prefix length of IPv4 blocks; 32 leases single addresses.',
                minimum: 16,
                maximum: 32,
              },
              ipv6: {
                type: 'integer',
                description: 'Prefix length of IPv6 blocks; 128 leases single addresses.',
                minimum: 112,
                maximum: 128,
              },
            },
          },
          vlan: {
            type: 'integer',
            description: 'VLAN on the physical network, for topology Direct. Cannot be changed later.',
            minimum: 1,
            maximum: 4094,
          },
          direct: {
            type: 'object',
            description: 'How a pod gets onto the wire, for topology Direct. Cannot be changed later.',
            fields: {
              mode: {
                type: 'string',
                required: true,
                description:
                  'One of macvlan (the default): a MAC of its own on the NIC. ipvlan: the MAC of the NIC. vlan: a VLAN interface of the NIC. host-device: the NIC itself, for one pod.',
                enum: ['macvlan', 'ipvlan', 'vlan', 'host-device'],
              },
            },
          },
          routes: {
            type: 'array',
            description: 'Destinations beside its own subnets that pods reach through it.',
            maxItems: 64,
            keys: ['to'],
            items: {
              type: 'object',
              description: 'One destination.',
              fields: {
                to: {
                  type: 'string',
                  required: true,
                  description: 'The destination.',
                  format: formats.prefix,
                },
                via: {
                  type: 'string',
                  description: "The next hop, within a subnet of the network. Absent: the network's gateway.",
                  format: formats.address,
                },
              },
            },
          },
          dns: {
            type: 'object',
            description: 'How pods resolve names, where this network is their default.',
            fields: {
              nameservers: {
                type: 'array',
                description: 'Servers to ask.',
                maxItems: 8,
                set: true,
                items: { type: 'string', description: 'Address of a server.', format: formats.address },
              },
              searches: {
                type: 'array',
                description: 'Domains to look short names up in.',
                maxItems: 32,
                set: true,
                items: { type: 'string', description: 'A domain.', format: formats.subdomain },
              },
              options: {
                type: 'array',
                description: 'Options of resolv.conf(5), such as ndots:2.',
                maxItems: 16,
                set: true,
                items: { type: 'string', description: 'An option.', format: formats.word },
              },
            },
          },
          mtu: {
            type: 'integer',
            description:
              'Largest packet, in bytes. Absent: what the wires of all nodes carry, less the tunnel. Cannot be changed later.',
            minimum: 576,
            maximum: 65535,
          },
          primary: {
            type: 'boolean',
            description: "Whether it takes the pod's default route also when it is not eth0. Absent: no.",
          },
          allowedNamespaces: {
            type: 'object',
            description: 'Whose pods may attach, beside those of its own namespace.',
            default: { from: 'Same' },
            rules: [
              {
                rule: "(self.from == 'Selector') == has(self.selector)",
                message: 'selector belongs to from: Selector; give both or neither',
              },
            ],
            fields: {
              from: {
                type: 'string',
                required: true,
                description:
                  'Same: no others. Tenant: those of the same tenant. Selector: those that selector selects. All: every namespace.',
                enum: ['Same', 'Tenant', 'Selector', 'All'],
              },
              selector: labelSelector('Namespaces, by their labels; for from: Selector.'),
            },
          },
          config: {
            type: 'string',
            description:
              "For another plugin than polynet: its CNI configuration (a conf or a conflist), as JSON. Absent: the conf in the node's conf directory.",
            maxLength: 65536,
          },
        },
      },
      status: {
        type: 'object',
        description: 'What became of it; written by Polynet.',
        fields: {
          vni: {
            type: 'integer',
            description: 'VXLAN network identifier, unique on its wire.',
            minimum: 1,
            maximum: 2 ** 24 - 1,
          },
          mtu: { type: 'integer', description: 'Largest packet, in bytes.', minimum: 0, maximum: 65535 },
          nodes: {
            type: 'integer',
            description: 'Nodes that hold a block of it.',
            minimum: 0,
            maximum: 2 ** 31 - 1,
          },
          addresses: {
            type: 'string',
            description: 'Addresses leased to nodes, of all there are.',
            maxLength: 128,
          },
          topology: {
            type: 'string',
            description: 'The topology in effect.',
            enum: ['Layer3', 'Layer2', 'Direct'],
          },
          subnets: { type: 'string', description: 'The prefixes, for people.', maxLength: 1024 },
          conditions,
        },
      },
    },
  },
}

/** The Network that `input` is, with defaults filled in, or every problem with it. */
export function parseNetwork(input: unknown): Parsed<Network> {
  const parsed = parseAs(networkKind, input, problemsOf)
  if (!parsed.ok) return parsed
  const { spec } = parsed.value
  if (isOurs(spec)) spec.topology ??= 'Layer3'
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
  ...mtuProblems(network.spec),
  ...allowedProblems(network.spec),
]

function pluginProblems(spec: Network['spec']): Problem[] {
  // The plugin has a default: it is absent only where what was given is refused already.
  if (spec.plugin === undefined) return []
  if (!isOurs(spec))
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

const mtuProblems = ({ mtu, subnets = [] }: Network['spec']): Problem[] =>
  mtu !== undefined && mtu < 1280 && subnets.some((s) => s.cidr.includes(':'))
    ? [{ path: 'spec.mtu', problem: `${mtu} is too small for IPv6; use at least 1280` }]
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
