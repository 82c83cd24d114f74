import type { Parsed } from '../lib/fault.ts'
import { ageColumn, type Kind, parseAs, readyColumn, whyColumn } from './crd.ts'
import { formats } from './format.ts'
import { type Condition, conditions, type KubeObject } from './meta.ts'
import { matchProblems, type NicMatch, nicMatch } from './physical-network.ts'
import { resources } from './resources.ts'

/** Which NIC of one host (its name is the node's) reaches which physical network. */
export interface HostPhysicalNetwork extends KubeObject {
  spec: {
    /** Explicit mappings; each wins over the PhysicalNetwork's own rule. */
    mappings?: { physicalNetwork: string; match: NicMatch }[]
  }
  status?: {
    /** The node's NICs, as its agent found them. */
    nics?: Nic[]
    /** What each physical network came to on this node. */
    mappings?: NicMapping[]
    /** The same two for people: `eth0,eth1` and `phy-net0=eth1,phy-net1=none`. */
    nicNames?: string
    mapped?: string
    conditions?: Condition[]
  }
}

export interface Nic {
  name: string
  mac: string
  mtu: number
  up: boolean
  driver?: string
  pciAddress?: string
  /** With prefix length, IPv4 first. */
  addresses?: string[]
}

export interface NicMapping {
  physicalNetwork: string
  /** Absent where no NIC matches. */
  nic?: string
  /** The NIC's address that tunnels start from, without prefix length. */
  address?: string
  mtu?: number
  usable: boolean
  /** Why it is not usable and what to do; empty when it is. */
  message?: string
}

const mtu = { type: 'integer', minimum: 0, maximum: 2 ** 31 - 1 } as const

export const hostPhysicalNetworkKind: Kind<HostPhysicalNetwork> = {
  resource: resources.hostPhysicalNetworks,
  shortNames: ['hpn'],
  categories: ['polynet'],
  status: true,
  columns: [
    { name: 'NICs', type: 'string', jsonPath: '.status.nicNames', description: 'NICs of the node.' },
    {
      name: 'Mappings',
      type: 'string',
      jsonPath: '.status.mapped',
      description: 'Which NIC reaches which physical network.',
    },
    readyColumn,
    ageColumn,
    whyColumn,
  ],
  schema: {
    type: 'object',
    description:
      'Which NIC of one host reaches which physical network. Named after the node, whose agent makes it and keeps its status.',
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'What is particular to this host. Empty: the rules of the PhysicalNetworks hold.',
        fields: {
          mappings: {
            type: 'array',
            description: 'Explicit mappings; each wins over the rules of its PhysicalNetwork.',
            maxItems: 64,
            keys: ['physicalNetwork'],
            items: {
              type: 'object',
              description: 'Which NIC reaches one physical network.',
              fields: {
                physicalNetwork: {
                  type: 'string',
                  required: true,
                  description: 'Name of the PhysicalNetwork.',
                  format: formats.label,
                },
                match: nicMatch,
              },
            },
          },
        },
      },
      status: {
        type: 'object',
        description: 'What was found on the host; written by its agent.',
        fields: {
          nics: {
            type: 'array',
            description: 'The NICs of the host, sorted by name.',
            maxItems: 512,
            keys: ['name'],
            items: {
              type: 'object',
              description: 'One NIC.',
              fields: {
                name: {
                  type: 'string',
                  required: true,
                  description: 'Name of the interface.',
                  maxLength: 15,
                },
                mac: { type: 'string', required: true, description: 'Hardware address.', maxLength: 64 },
                mtu: { ...mtu, required: true, description: 'Largest packet it sends, in bytes.' },
                up: { type: 'boolean', required: true, description: 'Whether it is up and has a carrier.' },
                driver: { type: 'string', description: 'Kernel driver.', maxLength: 64 },
                pciAddress: { type: 'string', description: 'Address on the PCI bus.', maxLength: 64 },
                addresses: {
                  type: 'array',
                  description: 'Its addresses with their prefix length, IPv4 first.',
                  maxItems: 64,
                  items: { type: 'string', description: 'An address.', maxLength: 49 },
                },
              },
            },
          },
          mappings: {
            type: 'array',
            description: 'What each physical network came to on this host.',
            maxItems: 256,
            keys: ['physicalNetwork'],
            items: {
              type: 'object',
              description: 'One physical network.',
              fields: {
                physicalNetwork: {
                  type: 'string',
                  required: true,
                  description: 'Name of the PhysicalNetwork.',
                  maxLength: 63,
                },
                nic: { type: 'string', description: 'The NIC that reaches it. Absent: none.', maxLength: 15 },
                address: {
                  type: 'string',
                  description: 'The address of the NIC that tunnels start from.',
                  maxLength: 45,
                },
                mtu: { ...mtu, description: 'Largest packet that goes through, in bytes.' },
                usable: { type: 'boolean', required: true, description: 'Whether networks can use it.' },
                message: {
                  type: 'string',
                  description: 'Why it is not usable and what to do. Empty: it is.',
                  maxLength: 1024,
                },
              },
            },
          },
          nicNames: { type: 'string', description: 'The NICs in a word, for people.', maxLength: 8192 },
          mapped: { type: 'string', description: 'The mappings in a word, for people.', maxLength: 32768 },
          conditions,
        },
      },
    },
  },
}

/** The HostPhysicalNetwork that `input` is, or every problem with it. */
export const parseHostPhysicalNetwork = (input: unknown): Parsed<HostPhysicalNetwork> =>
  parseAs(hostPhysicalNetworkKind, input, ({ spec: { mappings = [] } }) =>
    mappings.flatMap(({ match }, i) => matchProblems(match, `spec.mappings[${i}].match`)),
  )
