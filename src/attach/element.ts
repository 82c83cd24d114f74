import type { Problem } from '../lib/fault.ts'
import {
  bitsOf,
  contains,
  formatAddress,
  linkLocal,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../lib/ip.ts'
import { isObject } from '../lib/json.ts'
import { parseMac } from '../lib/mac.ts'
import { interfaceNameProblem } from './interface-name.ts'
import type { Wishes } from './request.ts'
import type { Selection } from './selection.ts'
import { isSubdomain, shown, shownValue } from './text.ts'
import { nameProblem } from './words.ts'

/** Where a value stands, and where what is wrong with it goes. */
interface At {
  path: string
  problems: Problem[]
}

const bad = (at: At, problem: string): undefined => void at.problems.push({ path: at.path, problem })
const below = (at: At, key: string | number): At => ({
  path: typeof key === 'number' ? `${at.path}[${key}]` : `${at.path}.${key}`,
  problems: at.problems,
})

/** The keys of a NetworkSelectionElement (NPWG v1.3 section 4.1.2.1), and what each becomes. */
const readers: Record<string, (value: unknown, at: At) => Wishes> = {
  ips: (value, at) => ({ ips: listOf(value, at, 16, askedAddress) }),
  mac: (value, at) => ({ mac: macOf(value, at) }),
  'infiniband-guid': (value, at) => ({ infinibandGuid: guidOf(value, at) }),
  portMappings: (value, at) => ({ portMappings: listOf(value, at, 64, portMapping) }),
  bandwidth: (value, at) => ({ bandwidth: bandwidthOf(value, at) }),
  'cni-args': (value, at) => ({ cniArgs: argsOf(value, at) }),
  'default-route': (value, at) => ({ defaultRoute: listOf(value, at, 2, gateway) }),
  'ipam-claim-reference': (value, at) => ({ ipamClaim: claimOf(value, at) }),
  deviceID: (value, at) => ({ deviceID: deviceOf(value, at) }),
}

/**
 * The network that one JSON object asks for, or undefined when it names none.
 * Everything wrong with it goes to `problems`. Keys with a reverse-domain
 * prefix are other programs' and passed over; other unknown keys are errors.
 */
export function selectionOfElement(
  element: unknown,
  path: string,
  source: string,
  problems: Problem[],
): Selection | undefined {
  const at = { path, problems }
  if (!isObject(element))
    return bad(at, `${shownValue(element)} is not an object; write it like {"name": "blue"}`)
  const wishes: Wishes = {}
  for (const [key, value] of Object.entries(element)) {
    if (Object.hasOwn(readers, key)) Object.assign(wishes, readers[key]!(value, below(at, key)))
    else if (!identity.has(key) && !isForeign(key))
      bad(at, `has the unknown key ${shown(key)}; remove it, or write your own with a domain in front`)
  }
  if (wishes.ips && wishes.ipamClaim !== undefined) bad(at, 'has both ips and ipam-claim-reference; keep one')
  return selectedBy(element, at, source, wishes)
}

const identity = new Set(['name', 'namespace', 'interface', 'interfaceRequest'])

const label = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'
/** Every dot is read in one way alone: the keys of one annotation would take 13 ms otherwise. */
const foreign = new RegExp(`^${label}(\\.${label}(\\.[\\w.-]+)?|(\\.${label})+/[\\w.-]+)$`, 'i')

/** Reverse-domain notation, with a name behind it or not: `com.example.foo`, `example.com/foo`. */
const isForeign = (key: string): boolean => key.length <= 253 && foreign.test(key)

function selectedBy(
  element: Record<string, unknown>,
  at: At,
  source: string,
  wishes: Wishes,
): Selection | undefined {
  const { name, namespace, interface: asked = element.interfaceRequest } = element
  if (typeof name !== 'string' || name === '')
    return bad(below(at, 'name'), 'is missing or no text; name the network')
  if (namespace !== undefined && typeof namespace !== 'string')
    return bad(below(at, 'namespace'), `${shownValue(namespace)} is no text; name a namespace`)
  const problem = nameProblem(namespace || undefined, name)
  if (problem) return bad(below(at, 'name'), problem)
  const ifname = interfaceOf(asked, below(at, 'interface'))
  if (element.interfaceRequest !== undefined && element.interfaceRequest !== asked)
    bad(at, 'has interface and interfaceRequest with different values; keep interface')
  return { path: at.path, source, namespace: namespace || undefined, name, interface: ifname, ...wishes }
}

function interfaceOf(value: unknown, at: At): string | undefined {
  if (value === undefined || value === '') return undefined
  if (typeof value !== 'string') return bad(at, `${shownValue(value)} is no text; write an interface name`)
  const problem = interfaceNameProblem(value)
  return problem ? bad(at, problem) : value
}

function askedAddress(value: unknown, at: At): string | undefined {
  const text = typeof value === 'string' ? value : ''
  const prefix = parsePrefix(text)
  const address = parseAddress(prefix ? text.slice(0, text.indexOf('/')) : text)
  if (!address)
    return bad(
      at,
      `${shownValue(value)} is not an IP address; write it as a.b.c.d or x::y, or with a prefix length`,
    )
  // Gateways and metadata services are link-local.
  if ([...nobodys, ...linkLocal].some((p) => contains(p, address)))
    return bad(at, `${text} is an address no pod can hold (loopback, link-local, multicast); ask for another`)
  const length = prefix && prefix.length < bitsOf(prefix.family) ? `/${prefix.length}` : ''
  return `${formatAddress(address)}${length}`
}

const prefixes = (...texts: string[]): Prefix[] => texts.map((text) => parsePrefix(text)!)

const nobodys = prefixes('0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/3', '::/127', 'ff00::/8', '::ffff:0:0/96')

function gateway(value: unknown, at: At): string | undefined {
  const address = typeof value === 'string' ? parseAddress(value) : undefined
  if (!address || nobodys.some((p) => contains(p, address)))
    return bad(at, `${shownValue(value)} is not the IP address of a gateway; write it as a.b.c.d or x::y`)
  return formatAddress(address)
}

function macOf(value: unknown, at: At): string | undefined {
  const mac = typeof value === 'string' ? parseMac(value) : undefined
  return mac ?? bad(at, `${shownValue(value)} is not a unicast MAC address; write it like 02:00:00:00:00:01`)
}

function guidOf(value: unknown, at: At): string | undefined {
  if (typeof value === 'string' && /^([0-9a-f]{2}:){7}[0-9a-f]{2}$/i.test(value) && /[1-9a-f]/i.test(value))
    return value.toLowerCase()
  return bad(
    at,
    `${shownValue(value)} is not an InfiniBand GUID; write eight bytes like 24:8a:07:03:00:8d:ae:2e`,
  )
}

function portMapping(value: unknown, at: At) {
  const fields = objectWith(value, at, ['hostPort', 'containerPort', 'protocol', 'hostIP'])
  if (!fields) return undefined
  const hostPort = portOf(fields.hostPort, below(at, 'hostPort'))
  const containerPort = portOf(fields.containerPort, below(at, 'containerPort'))
  const protocol =
    fields.protocol === undefined ? undefined : protocolOf(fields.protocol, below(at, 'protocol'))
  const hostIP = fields.hostIP === undefined ? undefined : addressOf(fields.hostIP, below(at, 'hostIP'))
  if (hostPort === undefined || containerPort === undefined) return undefined
  return { hostPort, containerPort, ...(protocol && { protocol }), ...(hostIP && { hostIP }) }
}

function portOf(value: unknown, at: At): number | undefined {
  if (Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535) return Number(value)
  return bad(at, `${shownValue(value)} is not a port; write a number from 1 to 65535`)
}

function protocolOf(value: unknown, at: At): string | undefined {
  const protocol = typeof value === 'string' ? value.toLowerCase() : ''
  if (['tcp', 'udp', 'sctp'].includes(protocol)) return protocol
  return bad(at, `${shownValue(value)} is not a protocol; write tcp, udp or sctp`)
}

function addressOf(value: unknown, at: At): string | undefined {
  const address = typeof value === 'string' ? parseAddress(value) : undefined
  if (address) return formatAddress(address)
  return bad(at, `${shownValue(value)} is not an IP address; write it as a.b.c.d or x::y`)
}

function bandwidthOf(value: unknown, at: At): Wishes['bandwidth'] {
  const keys = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst']
  const fields = objectWith(value, at, keys)
  if (!fields) return undefined
  for (const [key, rate] of Object.entries(fields))
    if (!Number.isSafeInteger(rate) || Number(rate) < 0)
      bad(below(at, key), `${shownValue(rate)} is not a rate; write a whole number of bits per second`)
  return fields as Wishes['bandwidth']
}

function argsOf(value: unknown, at: At): Record<string, unknown> | undefined {
  if (!isObject(value))
    return bad(at, `${shownValue(value)} is not an object; write it like {"key": "value"}`)
  const problem = treeProblem(value, 8)
  return problem ? bad(at, problem) : value
}

/** Attackers' JSON goes to other programs, and is merged into their configuration: neither deep nor with prototypes. */
function treeProblem(value: unknown, depth: number): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (depth === 0) return 'is nested more than 8 deep; flatten it'
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__' || key === 'constructor' || key === 'prototype')
      return `has the key ${key}, which no plugin takes; remove it`
    const problem = treeProblem(inner, depth - 1)
    if (problem) return problem
  }
  return undefined
}

function claimOf(value: unknown, at: At): string | undefined {
  if (typeof value === 'string' && isSubdomain(value)) return value
  return bad(at, `${shownValue(value)} is not the name of an IPAMClaim; name one in the pod's namespace`)
}

function deviceOf(value: unknown, at: At): string | undefined {
  if (typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$/.test(value)) return value
  return bad(at, `${shownValue(value)} is not a device; write it like 0000:81:00.1`)
}

function listOf<T>(
  value: unknown,
  at: At,
  most: number,
  item: (value: unknown, at: At) => T | undefined,
): T[] | undefined {
  if (!Array.isArray(value)) return bad(at, `${shownValue(value)} is not a list; put it in [ ]`)
  if (value.length > most) return bad(at, `has ${value.length} entries; write at most ${most}`)
  const items = value.map((inner, i) => item(inner, below(at, i)))
  return items.filter((inner) => inner !== undefined)
}

function objectWith(value: unknown, at: At, keys: string[]): Record<string, unknown> | undefined {
  if (!isObject(value))
    return bad(at, `${shownValue(value)} is not an object; use the keys ${keys.join(', ')}`)
  for (const key of Object.keys(value))
    if (!keys.includes(key)) bad(at, `has the unknown key ${shown(key)}; use ${keys.join(', ')}`)
  return value
}
