import type { Parsed, Problem } from '../lib/fault.ts'
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
import type { Struct } from './schema.ts'

/** Which NIC of a host is meant; all fields that are given must match. */
export interface NicMatch {
  /** Interface name; `*` and `?` are wildcards. */
  name?: string
  driver?: string
  pciAddress?: string
  mac?: string
}

/** A wire that some hosts share. */
export interface PhysicalNetwork extends KubeObject {
  spec: {
    description?: string
    /** Largest packet the wire carries, in bytes; absent: what the NICs say. */
    mtu?: number
    /** VLAN identifiers that networks on this wire may use. */
    vlanRange?: { min: number; max: number }
    /** UDP port of the tunnels over this wire; absent: given by the controller, one per physical network. */
    tunnelPort?: number
    /** Which NIC reaches it, for many nodes at once. The first rule that matches a node counts. */
    nics?: { nodeSelector?: LabelSelector; match: NicMatch }[]
    /** Tenants that may use it; absent or empty: all. */
    tenants?: string[]
  }
  status?: {
    tunnelPort?: number
    /** Nodes whose mapping is usable. */
    nodes?: number
    conditions?: Condition[]
  }
}

/** The schema of a NIC match that says `description`. */
export const nicMatch: Struct<NicMatch> & { required: true } = {
  type: 'object',
  required: true,
  description: 'Which NIC is meant; all that is given must hold.',
  rules: [
    {
      rule: 'has(self.name) || has(self.driver) || has(self.pciAddress) || has(self.mac)',
      message: 'matches every NIC; give at least one of name, driver, pciAddress, mac',
    },
  ],
  fields: {
    name: {
      type: 'string',
      description: 'Name of the interface; * and ? are wildcards.',
      format: formats.interfaceGlob,
    },
    driver: {
      type: 'string',
      description: 'Kernel driver, as `ethtool -i` names it.',
      format: formats.driver,
    },
    pciAddress: { type: 'string', description: 'Address on the PCI bus.', format: formats.pciAddress },
    mac: { type: 'string', description: 'Hardware address.', format: formats.mac },
  },
}

/** What is wrong with a match beyond its shape. */
export const matchProblems = (match: NicMatch, path: string): Problem[] =>
  Object.keys(match).length > 0
    ? []
    : [{ path, problem: 'matches every NIC; give at least one of name, driver, pciAddress, mac' }]

/** The kernel hands a tunnel port's packets to one owner: VXLAN's own and Linux's old default are other plugins'. */
const othersPorts = [4789, 8472]
const othersPort = 'other network plugins use ports 4789 and 8472; choose another, or none'

export const physicalNetworkKind: Kind<PhysicalNetwork> = {
  resource: resources.physicalNetworks,
  shortNames: ['pnet'],
  categories: ['polynet'],
  labelNames: true,
  status: true,
  columns: [
    { name: 'MTU', type: 'integer', jsonPath: '.spec.mtu', description: 'Largest packet the wire carries.' },
    {
      name: 'Port',
      type: 'integer',
      jsonPath: '.status.tunnelPort',
      description: 'UDP port of its tunnels.',
    },
    { name: 'Nodes', type: 'integer', jsonPath: '.status.nodes', description: 'Nodes that reach it.' },
    readyColumn,
    ageColumn,
    {
      name: 'Description',
      type: 'string',
      jsonPath: '.spec.description',
      description: 'What it is.',
      wide: true,
    },
    whyColumn,
  ],
  schema: {
    type: 'object',
    description: 'A wire that some hosts share: which of their NICs reach it, and who may use it.',
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'What the wire is.',
        rules: [
          fixed('tunnelPort', 'nodes would not hear each other meanwhile: make another PhysicalNetwork'),
        ],
        fields: {
          description: { type: 'string', description: 'What it is, for people.', maxLength: 1024 },
          mtu: {
            type: 'integer',
            description: 'Largest packet the wire carries, in bytes. Absent: what the NICs say.',
            minimum: 576,
            maximum: 65535,
          },
          vlanRange: {
            type: 'object',
            description: 'VLANs that networks on this wire may use. Absent: all.',
            rules: [{ rule: 'self.min <= self.max', message: 'min is above max; exchange them' }],
            fields: {
              min: {
                type: 'integer',
                required: true,
                description: 'The first VLAN.',
                minimum: 1,
                maximum: 4094,
              },
              max: {
                type: 'integer',
                required: true,
                description: 'The last VLAN.',
                minimum: 1,
                maximum: 4094,
              },
            },
          },
          tunnelPort: {
            type: 'integer',
            description:
              'UDP port of the tunnels over this wire; no two wires may share one. Absent: Polynet chooses, see status.tunnelPort.',
            minimum: 1024,
            maximum: 65535,
            rules: [{ rule: 'self != 4789 && self != 8472', message: othersPort }],
          },
          nics: {
            type: 'array',
            description:
              'Which NIC reaches the wire, for many nodes at once. The first rule that selects a node counts there; a mapping in the HostPhysicalNetwork of the node wins over all of them.',
            maxItems: 64,
            items: {
              type: 'object',
              description: 'A rule for some nodes.',
              fields: {
                nodeSelector: labelSelector('Nodes it is for, by their labels. Absent: all.'),
                match: nicMatch,
              },
            },
          },
          tenants: {
            type: 'array',
            set: true,
            description: 'Tenants that may use it. Absent or empty: all.',
            maxItems: 256,
            items: { type: 'string', description: 'Name of a Tenant.', format: formats.label },
          },
        },
      },
      status: {
        type: 'object',
        description: 'What became of it; written by Polynet.',
        fields: {
          tunnelPort: {
            type: 'integer',
            description: 'UDP port of the tunnels over this wire.',
            minimum: 1,
            maximum: 65535,
          },
          nodes: {
            type: 'integer',
            description: 'Nodes whose mapping is usable.',
            minimum: 0,
            maximum: 2 ** 31 - 1,
          },
          conditions,
        },
      },
    },
  },
}

/** The PhysicalNetwork that `input` is, or every problem with it. */
export const parsePhysicalNetwork = (input: unknown): Parsed<PhysicalNetwork> =>
  parseAs(physicalNetworkKind, input, ({ spec: { vlanRange, tunnelPort, nics = [] } }) => [
    ...(tunnelPort !== undefined && othersPorts.includes(tunnelPort)
      ? [{ path: 'spec.tunnelPort', problem: othersPort }]
      : []),
    ...(vlanRange && vlanRange.min > vlanRange.max
      ? [
          {
            path: 'spec.vlanRange',
            problem: `min ${vlanRange.min} is above max ${vlanRange.max}; exchange them`,
          },
        ]
      : []),
    ...nics.flatMap(({ nodeSelector, match }, i) => [
      ...selectorProblems(nodeSelector, `spec.nics[${i}].nodeSelector`),
      ...matchProblems(match, `spec.nics[${i}].match`),
    ]),
  ])
