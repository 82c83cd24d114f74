import type { Parsed } from '../lib/fault.ts'
import { ageColumn, type Kind, parseAs } from './crd.ts'
import { formats } from './format.ts'
import type { KubeObject } from './meta.ts'
import { resources } from './resources.ts'
import type { Rule } from './schema.ts'

/**
 * A block of a network's addresses leased to one node, or a single address
 * leased for one owner. Its name is made of the network's UID, the first
 * address in hex and the prefix length, so that the API server itself forbids
 * two owners (`blockName` in ipam).
 */
export interface AddressBlock extends KubeObject {
  spec: {
    network: string
    networkUID: string
    cidr: string
    node: string
    /** A node that comes back under another UID does not own its blocks any more. */
    nodeUID: string
    /** The node's tunnel address on the network's wire; what peers send this block's packets to. */
    endpoint?: string
    /** Set for a single sticky or asked-for address: who it is kept for (`pod ns/name`, `claim ns/name`). */
    holder?: string
  }
}

const never: Rule[] = [{ rule: 'self == oldSelf', message: 'cannot be changed; make another AddressBlock' }]

export const addressBlockKind: Kind<AddressBlock> = {
  resource: resources.addressBlocks,
  shortNames: ['ab'],
  categories: ['polynet'],
  internal: true,
  columns: [
    { name: 'Network', type: 'string', jsonPath: '.spec.network', description: 'The network.' },
    { name: 'CIDR', type: 'string', jsonPath: '.spec.cidr', description: 'The addresses.' },
    { name: 'Node', type: 'string', jsonPath: '.spec.node', description: 'Who leases them.' },
    {
      name: 'Endpoint',
      type: 'string',
      jsonPath: '.spec.endpoint',
      description: 'Where packets to them go.',
    },
    { name: 'Holder', type: 'string', jsonPath: '.spec.holder', description: 'Who an address is kept for.' },
    ageColumn,
  ],
  schema: {
    type: 'object',
    description:
      "A block of a network's addresses leased to one node, or one address leased for one owner. Written by Polynet; delete it only when its node is gone for good.",
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'Which addresses, and who leases them.',
        fields: {
          network: {
            type: 'string',
            required: true,
            description: 'Name of the Network, in the namespace of the block.',
            format: formats.label,
            rules: never,
          },
          networkUID: {
            type: 'string',
            required: true,
            description: 'UID of the Network: another of the same name has other blocks.',
            maxLength: 64,
            rules: never,
          },
          cidr: {
            type: 'string',
            required: true,
            description: 'The addresses, as a prefix.',
            format: formats.prefix,
            rules: never,
          },
          node: {
            type: 'string',
            required: true,
            description: 'Name of the Node.',
            format: formats.subdomain,
          },
          nodeUID: {
            type: 'string',
            required: true,
            description: 'UID of the Node: another of the same name has to lease anew.',
            maxLength: 64,
          },
          endpoint: {
            type: 'string',
            description: "The node's tunnel address on the network's wire. Absent: it has none.",
            format: formats.address,
          },
          holder: {
            type: 'string',
            description:
              'Who a single address is kept for, such as `pod ns/name`. Absent: the node hands out.',
            maxLength: 512,
          },
        },
      },
    },
  },
}

/** The AddressBlock that `input` is, or every problem with it. */
export const parseAddressBlock = (input: unknown): Parsed<AddressBlock> => parseAs(addressBlockKind, input)
