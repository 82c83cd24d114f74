import { isRendered } from '../api/network.ts'
import { parseAddress, withoutLength } from '../lib/ip.ts'
import { isDerived, macOf } from '../lib/mac.ts'
import type { Placed } from './default-network.ts'
import type { Wishes } from './request.ts'

/** What only other plugins can give, by the key that the pod wrote. */
const foreign: [wish: keyof Wishes, key: string][] = [
  ['portMappings', 'portMappings'],
  ['bandwidth', 'bandwidth'],
  ['infinibandGuid', 'infiniband-guid'],
  ['deviceID', 'deviceID'],
]

/**
 * What a pod asks of a network that Polynet itself renders and does not get,
 * with the remedy. Empty for attachments that another plugin makes.
 */
export function renderedProblems({ request, network }: Placed): string[] {
  if (!network || !isRendered(network)) return []
  const where = `Network ${network.metadata.namespace}/${network.metadata.name}`
  const lacking = foreign
    .filter(([wish]) => request[wish] !== undefined)
    .map(([, key]) => `${where} has no ${key}; leave it out, or use a plugin that has`)
  const mac = request.mac !== undefined && isDerived(request.mac) && !own(request.mac, request.ips ?? [])
  if (!mac) return lacking
  return [
    ...lacking,
    `mac ${request.mac} is one that ${where} gives by address; ask for the address, or another mac`,
  ]
}

const own = (mac: string, ips: string[]): boolean =>
  ips.some((ip) => {
    const address = parseAddress(withoutLength(ip))
    return address !== undefined && macOf(address) === mac
  })
