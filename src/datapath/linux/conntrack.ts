import { isFault } from '../../lib/fault.ts'
import { ipBytes, ipText } from './bytes.ts'
import { attribute, attributes, Batch, DUMP, type Message, type Netlink } from './netlink.ts'
import { AF_INET, AF_INET6 } from './route.ts'

const AF_UNSPEC = 0

/**
 * What the kernel remembers of connections, by the address that one of their
 * ends has of its own, before any translation
 * (linux/netfilter/nfnetlink_conntrack.h).
 */

const CONNTRACK = 1 << 8
const GET = CONNTRACK | 1
const DELETE = CONNTRACK | 2
const GET_STATS = CONNTRACK | 5
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12, ZONE: 18, FILTER: 25 } as const
const TUPLE_IP = 1
const [IP_V4_SRC, IP_V6_SRC] = [1, 3]
const GLOBAL_ENTRIES = 1
/** In CTA_FILTER: which of the tuple's fields count. */
const BY_SOURCE = 1

/** Who began a connection is the source of the first, who answers that of the second. CTA_FILTER has the same numbers. */
const tuples = [CTA.TUPLE_ORIG, CTA.TUPLE_REPLY] as const

/** Up to so many entries are read in one go: the kernel's own search goes through its table twice for each address. */
const fewEntries = 5000
const manyAddresses = 20

/**
 * Forgets the connections of these addresses in the namespace of the socket,
 * which nobody else may use meanwhile. Where there are many, the kernel finds
 * those of IPv4 by itself from Linux 6.12 on; else all are read. None, and a
 * kernel that tells nobody of connections: nothing happens.
 */
export async function forgetConnections(
  socket: Netlink,
  addresses: string[],
  few = fewEntries,
): Promise<void> {
  const { messages } = await socket.tryAsync(message(new Batch(), GET_STATS, 0, 0, 'count connections'))
  const [stats] = messages.map(({ payload }) => attribute(payload, GLOBAL_ENTRIES, 4)?.readUInt32BE(0))
  if (stats === 0) return
  const ipv4 = addresses.filter((address) => !address.includes(':'))
  if ((stats ?? 0) <= few || ipv4.length > manyAddresses) return forgetListed(socket, AF_UNSPEC, addresses)
  const batch = new Batch()
  for (const address of ipv4) for (const tuple of tuples) deleteBySource(batch, address, tuple)
  const { refusals } = await socket.tryAsync(batch)
  if (refusals.length > 0) await forgetListed(socket, AF_INET, ipv4)
  // The kernel's own filter takes every other address of IPv6 than the one it is told (Linux 5.8 to 6.18 at least).
  if (ipv4.length < addresses.length) await forgetListed(socket, AF_INET6, addresses)
}

/** A kernel that does not know the filter takes this for one connection that is said in part, and refuses it. */
function deleteBySource(batch: Batch, address: string, tuple: (typeof tuples)[number]): void {
  message(batch, DELETE, 0, AF_INET, `forget connections of ${address}`)
  batch.nest(tuple, () => batch.nest(TUPLE_IP, () => batch.attribute(IP_V4_SRC, ipBytes(address))))
  batch.nest(CTA.FILTER, () => batch.attribute32(tuple, BY_SOURCE))
}

/** The same by a look at all connections of the family, or of both. */
async function forgetListed(socket: Netlink, family: number, addresses: string[]): Promise<void> {
  const gone = new Set(addresses.map((address) => ipText(ipBytes(address))))
  const question = () => message(new Batch(), GET, DUMP, family, 'list connections')
  let listed: Message[]
  try {
    listed = await socket.dumpAsync(question)
  } catch (error) {
    if (isFault(error, 'kernel')) return
    throw error
  }
  const batch = new Batch()
  for (const { payload } of listed) {
    const entry = attributes(payload, 4)
    if (!tuples.some((tuple) => gone.has(sourceOf(entry.get(tuple))))) continue
    message(batch, DELETE, 0, payload[0] ?? family, 'forget a connection')
    for (const type of [CTA.TUPLE_ORIG, CTA.ZONE, CTA.ID]) {
      const value = entry.get(type)
      if (value) batch.attribute(type, value)
    }
  }
  await socket.tryAsync(batch)
}

const message = (batch: Batch, type: number, flags: number, family: number, what: string): Batch =>
  batch.message(type, flags, what).u8(family).u8(0).u16(0)

function sourceOf(tuple: Buffer | undefined): string {
  const ip = tuple && attribute(tuple, TUPLE_IP)
  const parts = ip && attributes(ip)
  const source = parts?.get(IP_V4_SRC) ?? parts?.get(IP_V6_SRC)
  return source ? ipText(source) : ''
}
