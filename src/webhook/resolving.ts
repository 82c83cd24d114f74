import type { Pod } from '../api/core.ts'
import { isDefaultNetwork, isRendered, type Network } from '../api/network.ts'

/** On the API server's picture of a pod that a node's files made: what is written into it changes nothing. */
const mirrorKey = 'kubernetes.io/config.mirror'

/** Whether the kubelet gives the pod the cluster's name servers, because the pod says nothing else. */
export const asksCluster = ({ metadata, spec }: Pick<Pod, 'metadata' | 'spec'>): boolean =>
  (spec?.dnsPolicy || 'ClusterFirst') === 'ClusterFirst' &&
  !spec?.dnsConfig &&
  metadata.annotations?.[mirrorKey] === undefined

/**
 * Pure: the pod, with the name servers of the Network that is its eth0.
 * Runtimes take none from a CNI result: the kubelet writes `resolv.conf`, by
 * the pod's spec. The same pod where the Network names none, or where the pod
 * says itself how it resolves names.
 */
export function resolving(pod: Pod, eth0: Network | undefined): Pod {
  const { nameservers, searches, options } = eth0?.spec.dns ?? {}
  if (!nameservers?.length || !asksCluster(pod)) return pod
  const dnsConfig = {
    nameservers,
    ...(searches?.length && { searches }),
    ...(options?.length && { options: options.map(optionOf) }),
  }
  return { ...pod, spec: { ...pod.spec, dnsPolicy: 'None', dnsConfig } }
}

/** `ndots:2` in the words of a pod; an option without a name is none that the API server takes. */
function optionOf(text: string): { name: string; value?: string } {
  const colon = text.indexOf(':')
  return colon > 0 && colon < text.length - 1
    ? { name: text.slice(0, colon), value: text.slice(colon + 1) }
    : { name: text }
}

/**
 * What is to be told of a pod that would ask the cluster's name servers, and
 * cannot: its eth0 names no others, and what leaves it by default goes into a
 * network (`way`) that Services are not reached from.
 */
export function unresolved(eth0: Network | undefined, way: Network | undefined): string[] {
  if (!eth0 || eth0.spec.dns || !isClosed(eth0) || !isClosed(way)) return []
  const { namespace, name } = eth0.metadata
  return [
    `eth0: Network ${namespace}/${name} does not reach the cluster's DNS, so the pod resolves no names; ` +
      'set spec.dns of the Network, or dnsPolicy of the pod',
  ]
}

const isClosed = (network: Network | undefined): boolean =>
  network !== undefined && isRendered(network) && !isDefaultNetwork(network)
