import type { Place } from '../lab/place.ts'
import { endpointsOf } from '../lab/reach.ts'
import type { Pod } from '../src/api/core.ts'

interface Held {
  /** `namespace/name interface address`, without prefix length. */
  by: string
  /** Of which pool. */
  pool: string
  address: string
}

/**
 * Whether what the nodes leased for one interface of all pods is what the pods
 * show: `net1: 2 pods, 2 addresses`, and a line for each lease of a pod that
 * does not have the address (stale), each address without a lease (missing),
 * and each that is leased twice. For pages where Polynet gives all addresses.
 */
export async function poolsText(place: Place, name: string): Promise<string> {
  const [shown, leased] = await Promise.all([shownOn(place, name), leasedFor(place, name)])
  const times = Map.groupBy(leased, ({ pool, address }) => `${pool} ${address}`)
  const held = new Set(leased.map(({ by }) => by))
  return [
    `${name}: ${new Set(shown.map(({ pod }) => pod)).size} pods, ${shown.length} addresses`,
    ...leased.filter(({ by }) => !shown.some((one) => one.by === by)).map(({ by }) => `stale: ${by}`),
    ...shown.filter(({ by }) => !held.has(by)).map(({ by }) => `missing: ${by}`),
    ...[...times].filter(([, all]) => all.length > 1).map(([key]) => `twice: ${key}`),
  ].join('\n')
}

async function shownOn(place: Place, name: string): Promise<{ pod: string; by: string }[]> {
  const { body } = await place.api({ method: 'GET', path: '/api/v1/pods' })
  return (JSON.parse(body).items as Pod[])
    .flatMap(endpointsOf)
    .filter((endpoint) => endpoint.interface === name)
    .flatMap(({ pod, addresses }) => addresses.map((address) => ({ pod, by: `${pod} ${name} ${address}` })))
}

async function leasedFor(place: Place, name: string): Promise<Held[]> {
  const lines = await Promise.all((await place.nodes()).map((node) => place.leftovers(node, 'journal')))
  return lines.flat().flatMap((line): Held[] => {
    const found = /^journal address (\S+?)(?:\/\d+)? of (\S+) \S+ (\S+) (\S+)$/.exec(line)
    if (!found || found[3] !== name) return []
    const [, address = '', pool = '', , pod] = found
    return [{ by: `${pod} ${name} ${address}`, pool, address }]
  })
}
