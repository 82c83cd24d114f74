import type { Network } from '../api/network.ts'
import { selects } from '../lib/selector.ts'
import { ownDefault } from './asking.ts'

/**
 * Whether pods of `namespace` may attach to `network`. Pods of the network's
 * own namespace always may. `labels` are the namespace's, undefined while
 * nobody has seen it.
 */
export function admits(
  network: Network,
  namespace: string,
  labels: Record<string, string> | undefined,
): boolean {
  const { name, namespace: home } = network.metadata
  if (namespace === home) return true
  // Everybody gets it who asks for nothing.
  if (home === ownDefault.namespace && name === ownDefault.name) return true
  const { from = 'Same', selector } = network.spec.allowedNamespaces ?? {}
  if (from === 'All') return true
  return from === 'Selector' && !!selector && !!labels && selects(selector, labels)
}

/**
 * What a pod is told of a Network of another namespace that it does not get:
 * the same whether there is one or not, because who is not admitted may not
 * learn what others have.
 */
export const noneFor = (network: string, pods: string): string =>
  `there is no Network ${network} that admits pods of namespace ${pods}; ask its owner to create it, or to widen spec.allowedNamespaces`
