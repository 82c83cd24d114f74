import type { AddressBlock } from '../api/address-block.ts'
import type { Attachment } from '../api/attachment-slice.ts'
import type { Network } from '../api/network.ts'
import { blockName } from '../ipam/block.ts'
import { isBlock } from '../ipam/pool.ts'
import {
  type Address,
  contains,
  formatAddress,
  formatPrefix,
  linkLocal,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts'
import { isDerived, macOf, parseMac } from '../lib/mac.ts'
import type { Peer } from '../plan/view.ts'

/**
 * What of other nodes' words can be true. Who may write blocks and slices is
 * the API server's business; but what one of them says must harm no other
 * network, and the kernel must take it: it takes a plan as a whole.
 */

/**
 * The block's addresses, or undefined: it has not the name that the API server keeps for them alone, or no network like
 * this is leased in such blocks, as one that leads another node's packets elsewhere.
 */
export function cidrOf(block: AddressBlock, network: Network): string | undefined {
  const known = cidrs.get(block)
  if (known?.spec === network.spec) return known.cidr
  const cidr = cidrWithin(block, network)
  cidrs.set(block, { spec: network.spec, cidr })
  return cidr
}

/** Each block is looked at once, however often others come and go beside it. */
const cidrs = new WeakMap<AddressBlock, { spec: Network['spec']; cidr: string | undefined }>()

function cidrWithin(block: AddressBlock, network: Network): string | undefined {
  const prefix = parsePrefix(block.spec.cidr)
  if (!prefix || block.metadata.name !== blockName(block.spec.networkUID, prefix)) return undefined
  return isBlock(network, prefix) ? formatPrefix(prefix) : undefined
}

/** Where a tunnel from `own` may lead, or undefined: nowhere, to itself, to many, or to another family. */
export function endpointOf(text: string | undefined, own: string): string | undefined {
  const [there, here] = [parseAddress(text ?? ''), parseAddress(own)]
  if (!there || there.family !== here?.family || there.value === here.value) return undefined
  return nobodys.some((range) => contains(range, there)) ? undefined : formatAddress(there)
}

const nobodys: Prefix[] = [
  ...['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3', '::/127', 'ff00::/8'].map(
    (text) => parsePrefix(text) as Prefix,
  ),
  ...linkLocal,
]

/**
 * The peers that attachments behind one endpoint are: none twice, none with a MAC that is the network's own, or that
 * goes with an address outside of the `blocks` that are leased to that node.
 */
export function peersBehind(
  endpoint: string,
  attachments: Attachment[],
  known: Set<string>,
  blocks: Prefix[],
): Peer[] {
  const isTheirs = (address: Address) => blocks.some((block) => contains(block, address))
  return attachments.flatMap(({ mac, ips }) => {
    const first: Address | undefined = parseAddress(ips[0] ?? '')
    const is = mac === undefined ? first && macOf(first) : parseMac(mac)
    if (is === undefined || known.has(is)) return []
    if (isDerived(is) && !ips.some((ip) => hasMac(ip, is, isTheirs))) return []
    known.add(is)
    return [{ attachment: { ips, ...(mac === undefined ? {} : { mac: is }) }, endpoint }]
  })
}

const hasMac = (ip: string, mac: string, isTheirs: (address: Address) => boolean): boolean => {
  const address = parseAddress(ip)
  return address !== undefined && macOf(address) === mac && isTheirs(address)
}
