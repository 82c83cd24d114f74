import { apiVersionOf, type KubeObject, type Resource } from '../src/api/meta.ts'
import { resources } from '../src/api/resources.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Place } from './place.ts'
import { screenText } from './screen.ts'

/** The screen of a running cluster, with packets sent for it now. */
export async function screenOf(place: Place): Promise<string> {
  const [nodes, hosts, physicalNetworks, networks, pods, probes] = await Promise.all([
    listOf(place, resources.nodes),
    listOf(place, resources.hostPhysicalNetworks),
    listOf(place, resources.physicalNetworks),
    listOf(place, resources.networks),
    listOf(place, resources.pods),
    place.reach(),
  ])
  return screenText({ nodes, hosts, physicalNetworks, networks, pods, probes })
}

/** All objects of a kind, in all namespaces. */
async function listOf<T extends KubeObject>(place: Pick<Place, 'api'>, resource: Resource<T>): Promise<T[]> {
  const version = apiVersionOf(resource)
  const path = `/${resource.group === '' ? 'api' : 'apis'}/${version}/${resource.plural}`
  const answer = await place.api({ method: 'GET', path, headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Fault('unavailable', `list ${resource.plural}`, answer.body)
  return JSON.parse(answer.body).items
}

const withinMs = 10_000

/**
 * Waits until interfaces of one network reach each other: a pod is Ready
 * before all other nodes have heard of it. Gives up after `withinMs`.
 */
export async function settled(place: Place): Promise<void> {
  for (const until = performance.now() + withinMs; performance.now() < until; ) {
    const probes = await place.reach()
    if (probes.every(({ from, to, answeredBy }) => from.network !== to.network || answeredBy === to.pod))
      return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
