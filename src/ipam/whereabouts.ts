import { createHash } from 'node:crypto'
import { type Subnet, systemNamespace } from '../api/network.ts'
import { inAscii } from '../lib/ascii.ts'
import type { Parsed, Problem } from '../lib/fault.ts'
import {
  type Address,
  bitsOf,
  contains,
  type Family,
  formatAddress,
  formatPrefix,
  lastOf,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts'
import { isObject } from '../lib/json.ts'
import type { ForeignPool } from './pool.ts'

/** What the `ipam` section of another plugin's configuration asks for, in our terms. */
export interface ForeignIpam {
  /** A Network to take the addresses from; else `pools`. */
  network?: { namespace: string; name: string }
  /** One address of each, in this order. */
  pools: ForeignPool[]
  /** Addresses the interface has beside: nobody else's business. */
  addresses: { address: string; gateway?: string }[]
  routes: { to: string; via?: string }[]
  dns?: { nameservers?: string[]; domain?: string; search?: string[]; options?: string[] }
}

type Section = Record<string, unknown>

/** An interface has an address of each pool, and each may take a block that all nodes hear of. */
const mostPools = 16

/** Keys that say nothing about addresses: Whereabouts' own business, and what our section may carry. */
const known = new Set([
  ...[
    'type',
    'name',
    'network',
    'subnets',
    'blockSize',
    'routes',
    'dns',
    'addresses',
    'range',
    'range_start',
  ],
  ...['range_end', 'exclude', 'ipRanges', 'gateway', 'network_name', 'node_slice_size', 'exclude_gateway'],
  ...['enable_overlapping_ranges', 'datastore', 'kubernetes', 'configuration_path', 'log_file', 'log_level'],
  ...['sleep_for_race', 'leader_lease_duration', 'leader_renew_deadline', 'leader_retry_period'],
  ...['reconciler_cron_expression', 'fast_ipam', 'optimistic_ipam', 'etcd_host', 'etcd_username'],
  ...['etcd_password', 'etcd_key_file', 'etcd_cert_file', 'etcd_ca_cert_file'],
])

/**
 * Reads the `ipam` section of a configuration named `name`: ours (`network`
 * or `subnets`) or Whereabouts'. Pools are in Polynet's own namespace. All
 * problems are named, keys that nobody knows among them.
 */
export function parseIpam(name: string, ipam: unknown): Parsed<ForeignIpam> {
  const reader = new Reader()
  if (!isObject(ipam))
    return {
      ok: false,
      problems: [{ path: 'ipam', problem: 'is missing; write {"type": "polynet-ipam", …}' }],
    }
  for (const key of Object.keys(ipam))
    if (!known.has(key)) reader.say(key.slice(0, 64), 'is not known; correct it, or leave it out')
  const value: ForeignIpam = {
    pools: [],
    addresses: reader.addresses(ipam),
    routes: reader.routes(ipam),
    ...(isObject(ipam.dns) ? { dns: ipam.dns } : {}),
  }
  if (ipam.network !== undefined) value.network = reader.network(ipam)
  else if (ipam.subnets !== undefined) value.pools = reader.inline(name, ipam)
  else if (isGiven(ipam.range) || ipam.ipRanges !== undefined) value.pools = reader.ranges(ipam)
  else if (value.addresses.length === 0)
    reader.say('', 'names no addresses; write "network": "namespace/name", "subnets" or "range"')
  return reader.problems.length > 0 ? { ok: false, problems: reader.problems } : { ok: true, value }
}

class Reader {
  readonly problems: Problem[] = []

  say(path: string, problem: string): undefined {
    this.problems.push({ path: path ? `ipam.${path}` : 'ipam', problem })
    return undefined
  }

  network({ network }: Section): ForeignIpam['network'] {
    const parts = typeof network === 'string' ? /^([a-z0-9-]{1,63})\/([a-z0-9-]{1,63})$/.exec(network) : null
    if (parts?.[1] && parts[2]) return { namespace: parts[1], name: parts[2] }
    return this.say('network', `${shown(network)} is no Network; write "namespace/name"`)
  }

  routes({ routes }: Section): ForeignIpam['routes'] {
    return this.#list('routes', routes).flatMap((route, i) => {
      const at = `routes[${i}]`
      const { dst, gw } = isObject(route) ? route : {}
      const to = this.#prefix(`${at}.dst`, dst)
      const via = gw === undefined || gw === '' ? undefined : this.#address(`${at}.gw`, gw)
      return to ? [{ to: formatPrefix(to), ...(via ? { via: formatAddress(via) } : {}) }] : []
    })
  }

  addresses({ addresses }: Section): ForeignIpam['addresses'] {
    return this.#list('addresses', addresses).flatMap((entry, i) => {
      const at = `addresses[${i}]`
      const { address, gateway } = isObject(entry) ? entry : {}
      const prefix = this.#prefix(`${at}.address`, address)
      const via = gateway === undefined ? undefined : this.#address(`${at}.gateway`, gateway)
      return prefix ? [{ address: String(address), ...(via ? { gateway: formatAddress(via) } : {}) }] : []
    })
  }

  /** Our own inline form: `subnets` as in a Network, one address of each. */
  inline(name: string, ipam: Section): ForeignPool[] {
    const sizes = isObject(ipam.blockSize) ? ipam.blockSize : {}
    return this.#list('subnets', ipam.subnets, mostPools).flatMap((entry, i) => {
      const section = isObject(entry) ? entry : {}
      const at = `subnets[${i}]`
      const cidr = this.#prefix(`${at}.cidr`, section.cidr)
      if (!cidr) return []
      const subnet: Subnet = { cidr: formatPrefix(cidr) }
      const gateway =
        section.gateway === undefined ? undefined : this.#within(`${at}.gateway`, section.gateway, cidr)
      if (gateway) subnet.gateway = formatAddress(gateway)
      const ranges = this.#list(`${at}.ranges`, section.ranges).flatMap((range, j) => {
        const { start, end } = isObject(range) ? range : {}
        return this.#range(`${at}.ranges[${j}]`, start, end, cidr)
      })
      if (ranges.length > 0) subnet.ranges = ranges
      const exclude = this.#exclude(`${at}.exclude`, section.exclude, cidr)
      if (exclude.length > 0) subnet.exclude = exclude
      const size = this.#blockSize('blockSize', sizes[cidr.family === 4 ? 'ipv4' : 'ipv6'], cidr)
      return [pool('inline', [name, subnet.cidr], subnet, cidr.family, size)]
    })
  }

  /** Whereabouts' keys: `range` first, then each of `ipRanges`. */
  ranges(ipam: Section): ForeignPool[] {
    const own = isGiven(ipam.range) ? [{ at: '', section: ipam }] : []
    const more = this.#list('ipRanges', ipam.ipRanges, mostPools).map((entry, i) => ({
      at: `ipRanges[${i}].`,
      section: isObject(entry) ? entry : {},
    }))
    const apart = ipam.enable_overlapping_ranges === false || isGiven(ipam.node_slice_size)
    const name = typeof ipam.network_name === 'string' ? ipam.network_name : ''
    const used: Prefix[] = []
    const pools = [...own, ...more].flatMap(({ at, section }) => {
      const found = this.#whereaboutsRange(at, section)
      if (!found) return []
      const { cidr, subnet } = found
      if (used.some((other) => overlaps(other, cidr)))
        this.say(`${at}range`, `${subnet.cidr} overlaps another range of the same configuration; keep one`)
      used.push(cidr)
      const exclude = [
        ...this.#exclude(`${at}exclude`, section.exclude, cidr),
        // The outer list is for all ranges: what lies in another one says nothing here.
        ...(section === ipam
          ? []
          : this.#list('exclude', ipam.exclude)
              .filter((e) => liesIn(e, cidr))
              .map(String)),
      ]
      if (exclude.length > 0) subnet.exclude = exclude
      const gateway = parseAddress(String(ipam.gateway ?? ''))
      if (gateway && contains(cidr, gateway)) subnet.gateway = formatAddress(gateway)
      const size = this.#blockSize('node_slice_size', ipam.node_slice_size, cidr)
      if (apart) return [pool('range', [name, subnet.cidr], subnet, cidr.family, size)]
      const single = pool('range', [name, subnet.cidr], subnet, cidr.family, bitsOf(cidr.family))
      return [{ ...single, addressGroup: identifier('overlap', [name]) }]
    })
    this.#gateway(ipam.gateway, used)
    return pools
  }

  /** `10.1.0.0/16`, `10.1.0.9/16` (host bits mean nothing), `10.1.0.10-10.1.0.20/16`. */
  #whereaboutsRange(at: string, section: Section): { cidr: Prefix; subnet: Subnet } | undefined {
    const text = typeof section.range === 'string' ? section.range : ''
    const dash = text.indexOf('-')
    const [from, to] =
      dash < 0 ? [undefined, text] : [text.slice(0, dash).trim(), text.slice(dash + 1).trim()]
    const cidr = parsePrefix(to)
    if (!cidr)
      return this.say(
        `${at}range`,
        `${shown(section.range)} is no range; write "10.1.0.0/16" or "10.1.0.10-10.1.0.20/16"`,
      )
    const subnet: Subnet = { cidr: formatPrefix(cidr) }
    const start = from ?? section.range_start
    const end = from === undefined ? section.range_end : to.slice(0, to.indexOf('/'))
    if (isGiven(start) || isGiven(end)) {
      const all = { start: formatAddress(cidr), end: formatAddress(lastOf(cidr)) }
      const [first, last] = [isGiven(start) ? start : all.start, isGiven(end) ? end : all.end]
      const range = this.#range(`${at}range`, first, last, cidr)
      if (range.length > 0) subnet.ranges = range
    }
    return { cidr, subnet }
  }

  #gateway(gateway: unknown, ranges: Prefix[]): void {
    if (!isGiven(gateway)) return
    const address = this.#address('gateway', gateway)
    if (address && ranges.length > 0 && !ranges.some((r) => contains(r, address)))
      this.say('gateway', `${formatAddress(address)} is in none of the ranges; correct one of them`)
  }

  #range(at: string, start: unknown, end: unknown, cidr: Prefix): { start: string; end: string }[] {
    const first = this.#within(`${at}.start`, start, cidr)
    const last = this.#within(`${at}.end`, end, cidr)
    if (!first || !last) return []
    if (first.value > last.value) {
      this.say(at, `start ${formatAddress(first)} is above end ${formatAddress(last)}; exchange them`)
      return []
    }
    return [{ start: formatAddress(first), end: formatAddress(last) }]
  }

  #exclude(at: string, list: unknown, cidr: Prefix): string[] {
    return this.#list(at, list).flatMap((entry, i) => {
      const hole = typeof entry === 'string' ? (parsePrefix(entry) ?? parseAddress(entry)) : undefined
      if (!hole) {
        this.say(`${at}[${i}]`, `${shown(entry)} is neither an address nor a prefix`)
        return []
      }
      return liesIn(entry, cidr) ? [String(entry)] : []
    })
  }

  #blockSize(at: string, value: unknown, cidr: Prefix): number | undefined {
    if (!isGiven(value)) return undefined
    const size = Number(String(value).replace(/^\//, ''))
    if (Number.isInteger(size) && size >= cidr.length && size <= bitsOf(cidr.family)) return size
    return this.say(
      at,
      `${shown(value)} is no prefix length for ${formatPrefix(cidr)}; write one between ${cidr.length} and ${bitsOf(cidr.family)}`,
    )
  }

  #list(at: string, value: unknown, most = 256): unknown[] {
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) this.say(at, 'is no list')
    else if (value.length > most) this.say(at, `has ${value.length} entries; write at most ${most}`)
    else return value
    return []
  }

  #prefix(at: string, value: unknown): Prefix | undefined {
    const prefix = typeof value === 'string' ? parsePrefix(value) : undefined
    return prefix ?? this.say(at, `${shown(value)} is no prefix; write one like "10.1.0.0/16"`)
  }

  #address(at: string, value: unknown): Address | undefined {
    const address = typeof value === 'string' ? parseAddress(value) : undefined
    return address ?? this.say(at, `${shown(value)} is no address`)
  }

  #within(at: string, value: unknown, cidr: Prefix): Address | undefined {
    const address = this.#address(at, value)
    if (!address || contains(cidr, address)) return address
    return this.say(at, `${formatAddress(address)} is not within ${formatPrefix(cidr)}; correct one of them`)
  }
}

function pool(
  kind: string,
  identity: string[],
  subnet: Subnet,
  family: Family,
  size: number | undefined,
): ForeignPool {
  const uid = identifier(kind, identity)
  return {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: systemNamespace, name: uid, uid },
    spec: {
      subnets: [subnet],
      ...(size === undefined ? {} : { blockSize: family === 4 ? { ipv4: size } : { ipv6: size } }),
    },
  }
}

/** The same for the same pool wherever it is named; a valid label, and never the form of a Kubernetes UID. */
const identifier = (kind: string, identity: string[]): string =>
  `${kind}-${createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 32)}`

function liesIn(entry: unknown, cidr: Prefix): boolean {
  const text = String(entry)
  const hole = parsePrefix(text) ?? parsePrefix(`${text}/${bitsOf(cidr.family)}`)
  return hole !== undefined && overlaps(cidr, hole)
}

/** Templates leave what is not wanted empty, and Whereabouts takes it so. */
const isGiven = (value: unknown): boolean => value !== undefined && value !== null && value !== ''

const shown = (value: unknown): string =>
  value === undefined ? 'nothing' : inAscii(JSON.stringify(value)).slice(0, 64)
