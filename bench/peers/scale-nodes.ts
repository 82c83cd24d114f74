import type { Node } from '../../src/api/core.ts'
import type { Network } from '../../src/api/network.ts'
import { resources } from '../../src/api/resources.ts'
import { type Place, until } from './place.ts'
import { polynet } from './ways.ts'

/** How many nodes' allocators there are; each gives one address after another. */
export const nodeCount = 10

export const nodeName = (i: number): string => `scale-${i}`

/** Each node's pods one after another, all nodes at once; how long all of it took. */
export async function onAllNodes(
  count: number,
  act: (node: number, pod: number) => Promise<void>,
): Promise<number> {
  const began = performance.now()
  await Promise.all(
    Array.from({ length: nodeCount }, async (_, node) => {
      for (let pod = node; pod < count; pod += nodeCount) await act(node, pod)
    }),
  )
  return performance.now() - began
}

/** Nodes that nothing runs on, and a network of theirs that the cluster knows. */
export async function makeNodes(
  place: Place,
  name: string,
  spec: Network['spec'],
): Promise<{ network: Network; uids: string[]; remove(): Promise<void> }> {
  const { namespace } = polynet
  await place.kube.create(resources.networks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { name, namespace },
    spec,
  })
  const find = () => place.kube.get(resources.networks, { namespace, name })
  await until('the network to be known', async () => (await find()).status?.mtu !== undefined)
  const uids: string[] = []
  for (let i = 0; i < nodeCount; i++) {
    const node: Node = { apiVersion: 'v1', kind: 'Node', metadata: { name: nodeName(i) }, spec: {} }
    uids.push((await place.kube.create(resources.nodes, node)).metadata.uid ?? '')
  }
  return {
    network: await find(),
    uids,
    async remove() {
      for (let i = 0; i < nodeCount; i++) await place.kube.delete(resources.nodes, { name: nodeName(i) })
      await place.kube.delete(resources.networks, { namespace, name })
    },
  }
}
