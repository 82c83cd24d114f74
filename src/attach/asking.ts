import type { NetworkAttachmentDefinition } from '../api/core.ts'
import { defaultNetwork, type Network, systemNamespace } from '../api/network.ts'
import type { ConfName } from './plugin-name.ts'

/** Everything that decides what a pod asks for. */
export interface Asking {
  pod: { namespace: string; name: string; annotations?: Record<string, string>; hostNetwork?: boolean }
  /** The pod's namespace; absent while nobody has seen it, and then nothing follows from its labels. */
  namespace?: { labels?: Record<string, string>; annotations?: Record<string, string> }
  /** The node's annotations. */
  node?: { annotations?: Record<string, string> }
  network(namespace: string, name: string): Network | undefined
  definition(namespace: string, name: string): NetworkAttachmentDefinition | undefined
  /** The confs on the node, in lexical order of file name, Polynet's own left out. Absent: no node is chosen yet, and any plugin may be there. */
  confs?: readonly ConfName[]
  /**
   * What the network's subnets overlap (`Network red/data`, `the service
   * range`), or undefined. Of two networks that overlap, the younger one should
   * be told, so that nobody takes eth0 from others by a later network.
   */
  overlap?(network: Network): string | undefined
  /**
   * The namespaces whose NetworkAttachmentDefinitions are everybody's, `*` for
   * all; absent: `default`, `kube-system` and Polynet's own.
   */
  sharedNamespaces?: readonly string[]
}

/** Polynet's own default network. */
export const ownDefault = { kind: 'Network', ...defaultNetwork } as const

export const sharedByDefault: readonly string[] = ['default', 'kube-system', systemNamespace]
