import type { KubeObject } from './meta.ts'

/** Who is where: one network's attachments on one node. Written by that node's agent only, in batches. */
export interface AttachmentSlice extends KubeObject {
  network: string
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
