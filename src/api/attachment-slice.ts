import type { Parsed } from '../lib/fault.ts'
import { ageColumn, type Kind, parseAs } from './crd.ts'
import { formats } from './format.ts'
import type { KubeObject } from './meta.ts'
import { resources } from './resources.ts'

/** Who is where: one network's attachments on one node. Written by that node's agent only, in batches. */
export interface AttachmentSlice extends KubeObject {
  network: string
  networkUID: string
  node: string
  nodeUID: string
  attachments: Attachment[]
}

export interface Attachment {
  pod: string
  podNamespace: string
  podUID: string
  containerID: string
  interface: string
  mac?: string
  /** Without prefix length, IPv4 first. */
  ips: string[]
}

export const attachmentSliceKind: Kind<AttachmentSlice> = {
  resource: resources.attachmentSlices,
  shortNames: ['as'],
  categories: ['polynet'],
  internal: true,
  columns: [
    { name: 'Network', type: 'string', jsonPath: '.network', description: 'The network.' },
    { name: 'Node', type: 'string', jsonPath: '.node', description: 'The node.' },
    {
      name: 'First pod',
      type: 'string',
      jsonPath: '.attachments[0].pod',
      description: 'The first of the pods; `kubectl describe` shows all.',
      wide: true,
    },
    ageColumn,
  ],
  schema: {
    type: 'object',
    description: "Who is where: one network's attachments on one node. Written by the node's agent only.",
    fields: {
      network: {
        type: 'string',
        required: true,
        description: 'Name of the Network, in the namespace of the slice.',
        format: formats.label,
        rules: [{ rule: 'self == oldSelf', message: 'cannot be changed; make another AttachmentSlice' }],
      },
      networkUID: { type: 'string', required: true, description: 'UID of the Network.', maxLength: 64 },
      node: { type: 'string', required: true, description: 'Name of the Node.', format: formats.subdomain },
      nodeUID: { type: 'string', required: true, description: 'UID of the Node.', maxLength: 64 },
      attachments: {
        type: 'array',
        required: true,
        description: 'The interfaces of pods, sorted by pod.',
        maxItems: 1024,
        items: {
          type: 'object',
          description: 'One interface of one pod.',
          fields: {
            pod: {
              type: 'string',
              required: true,
              description: 'Name of the Pod.',
              format: formats.subdomain,
            },
            podNamespace: {
              type: 'string',
              required: true,
              description: 'Namespace of the Pod, which need not be that of the network.',
              format: formats.label,
            },
            podUID: { type: 'string', required: true, description: 'UID of the Pod.', maxLength: 64 },
            containerID: {
              type: 'string',
              required: true,
              description: 'The sandbox, as the container runtime names it.',
              maxLength: 256,
            },
            interface: {
              type: 'string',
              required: true,
              description: 'Name of the interface in the pod.',
              format: formats.interface,
            },
            mac: {
              type: 'string',
              description: 'Its hardware address, where it does not follow from the first address.',
              format: formats.mac,
            },
            ips: {
              type: 'array',
              required: true,
              set: true,
              description: 'Its addresses without prefix length, IPv4 first.',
              maxItems: 32,
              items: { type: 'string', description: 'An address.', format: formats.address },
            },
          },
        },
      },
    },
  },
}

/** The AttachmentSlice that `input` is, or every problem with it. */
export const parseAttachmentSlice = (input: unknown): Parsed<AttachmentSlice> =>
  parseAs(attachmentSliceKind, input)
