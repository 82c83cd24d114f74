import type * as core from './core.ts'
import { ageColumn, type Kind } from './crd.ts'
import { conditions } from './meta.ts'
import { resources } from './resources.ts'

/** Kinds of the Network Plumbing Working Group (specification v1.3) that Polynet reads, for clusters that lack them. */
export const networkAttachmentDefinitionKind: Kind<core.NetworkAttachmentDefinition> = {
  resource: resources.networkAttachmentDefinitions,
  shortNames: ['net-attach-def'],
  columns: [ageColumn],
  schema: {
    type: 'object',
    description: 'A network that another CNI plugin makes (NPWG specification, section 3).',
    fields: {
      spec: {
        type: 'object',
        description: 'What the network is. Absent: the node has a conf of the same name.',
        fields: {
          config: {
            type: 'string',
            description:
              'CNI configuration (a conf or a conflist), as JSON. Absent: the node has a conf of the same name.',
          },
        },
      },
    },
  },
}

export const ipamClaimKind: Kind<core.IPAMClaim> = {
  resource: resources.ipamClaims,
  shortNames: [],
  status: true,
  columns: [
    { name: 'Network', type: 'string', jsonPath: '.spec.network', description: 'The network.' },
    { name: 'Interface', type: 'string', jsonPath: '.spec.interface', description: 'The interface.' },
    { name: 'IPs', type: 'string', jsonPath: '.status.ips', description: 'The addresses kept.' },
    { name: 'Owner', type: 'string', jsonPath: '.status.ownerPod.name', description: 'Who has them now.' },
    ageColumn,
  ],
  schema: {
    type: 'object',
    description: 'Addresses that are kept beyond the pod (NPWG specification, section 8).',
    fields: {
      spec: {
        type: 'object',
        required: true,
        description: 'What the addresses are for.',
        rules: [{ rule: 'self == oldSelf', message: 'cannot be changed; make another claim' }],
        fields: {
          network: { type: 'string', required: true, description: 'Name of the network.', maxLength: 253 },
          interface: {
            type: 'string',
            required: true,
            description: 'Name of the interface in the pod.',
            maxLength: 15,
          },
        },
      },
      status: {
        type: 'object',
        description: 'What is kept; written by whoever gives addresses.',
        fields: {
          ips: {
            type: 'array',
            description: 'The addresses kept, with prefix length.',
            maxItems: 32,
            items: { type: 'string', description: 'An address.', maxLength: 49 },
          },
          ownerPod: {
            type: 'object',
            description: 'The pod that has them now. Absent: none.',
            fields: {
              name: { type: 'string', required: true, description: 'Name of the pod.', maxLength: 253 },
            },
          },
          conditions,
        },
      },
    },
  },
}
