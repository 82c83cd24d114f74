import type { Topology } from '../../src/api/network.ts'
import { resources } from '../../src/api/resources.ts'
import { type Place, until } from './place.ts'
import { polynet, type Way } from './ways.ts'

/** The overlays that Polynet has, by the number that a network of `overlays` bears. */
export const topologies: Topology[] = ['Layer3', 'Layer2']

/** A network of each kind, `<prefix>1` and so on, that the cluster knows; the way by which pods ask for them. */
export async function overlays(
  { kube }: Place,
  prefix: string,
): Promise<{ way: Way; remove(): Promise<void> }> {
  const { namespace } = polynet
  const names = topologies.map((_, i) => ({ namespace, name: `${prefix}${i + 1}` }))
  for (const [i, topology] of topologies.entries())
    await kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: names[i]!,
      spec: { topology, subnets: [{ cidr: `10.${154 + i}.0.0/16` }] },
    })
  const known = async () =>
    (await Promise.all(names.map((name) => kube.get(resources.networks, name)))).every(
      ({ status }) => status?.mtu !== undefined && status.vni !== undefined,
    )
  await until('Polynet’s networks to be known', known)
  return {
    way: { ...polynet, prefix },
    async remove() {
      for (const name of names) await kube.delete(resources.networks, name)
    },
  }
}
