import type { Network } from '../api/network.ts'
import { selects } from '../lib/selector.ts'
import { ownDefault } from './asking.ts'

/**
 * Why pods of `namespace` may not attach to `network`, and the remedy;
 * undefined when they may. Pods of the network's own namespace always may.
 * `labels` are the namespace's, undefined while nobody has seen it.
 */
export function refusal(
  network: Network,
  namespace: string,
  labels: Record<string, string> | undefined,
): string | undefined {
  const { name, namespace: home } = network.metadata
  if (namespace === home) return undefined
  // Everybody gets it who asks for nothing.
  if (home === ownDefault.namespace && name === ownDefault.name) return undefined
  const { from = 'Same', selector } = network.spec.allowedNamespaces ?? {}
  if (from === 'All') return undefined
  if (from === 'Selector' && selector && labels && selects(selector, labels)) return undefined
  const why = {
    Same: 'it admits its own namespace only',
    Tenant: 'Tenant admits its own namespace only, until there are tenants',
    Selector: `its selector does not match the labels of namespace ${namespace}`,
  }[from]
  return `Network ${home}/${name} does not admit pods of namespace ${namespace}: ${
    why ?? `it says ${from}`
  }; ask its owner to widen spec.allowedNamespaces`
}
