import type { Pod } from '../../src/api/core.ts'

/** How pods of the bench get their networks: each way on a node of its own, all nodes on one kernel. */
export interface Way {
  title: string
  node: string
  namespace: string
  /** Of the networks beside the default one, all but the number that follows. */
  prefix: string
  /** What the node's label `bench` says, and with it which program makes pods' networks there. */
  side: Side
}

export type Side = 'bridge' | 'polynet' | 'multus'

/** A node each. */
export const nodes: Record<Side, string> = { bridge: 'n1', polynet: 'n2', multus: 'n3' }

/** Where their pods' peers are that are on another node. The bridge plugin is on Multus' node too, as the network of its pods. */
export const other = { bridge: 'n3', polynet: 'n4' }

const way = (side: Side, title: string, prefix = ''): Way => ({
  title,
  side,
  node: nodes[side],
  namespace: `bench-${side}`,
  prefix,
})

/** The reference plugins without a meta plugin: what every way costs at least. */
export const bare = way('bridge', 'bridge alone')
export const polynet = way('polynet', 'Polynet', 'net')
export const hostLocal = way('multus', 'Multus, host-local', 'local')
export const whereabouts = way('multus', 'Multus, Whereabouts', 'range')

/** How many networks there are beside the default one. */
export const moreNetworks = 7

/**
 * A pod on so many networks, the default one counted. `held`: its node knows
 * of it and starts nothing, because a folder is missing that it wants.
 */
export function podOf(way: Way, name: string, networks: number, held = false): Pod {
  const asked = Array.from({ length: networks - 1 }, (_, i) => `${way.prefix}${i + 1}`)
  const container = { name: 'main', image: pauseImage, imagePullPolicy: 'IfNotPresent' }
  const spec = {
    nodeName: way.node,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 1,
    containers: [held ? { ...container, volumeMounts: [{ name: 'never', mountPath: '/never' }] } : container],
    ...(held && { volumes: [{ name: 'never', hostPath: { path: '/never/there', type: 'Directory' } }] }),
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: way.namespace,
      ...(asked.length > 0 && { annotations: { 'k8s.v1.cni.cncf.io/networks': asked.join(',') } }),
    },
    spec,
  }
}

const pauseImage = 'registry.k8s.io/pause:3.10.2'
