import type { Pod } from '../src/api/core.ts'
import { Fault } from '../src/lib/fault.ts'

/** One interface of one pod, as someone who sends it packets sees it. */
export interface Endpoint {
  /** `<namespace>/<pod>`. */
  pod: string
  node: string
  interface: string
  /** `<namespace>/<network>`, or the name of what made it. */
  network: string
  /** Without prefix length, IPv4 first. */
  addresses: string[]
  mac?: string
}

/** What a socket is bound to: an interface (SO_BINDTODEVICE), or an address, as programs do. */
export type Bound = 'interface' | 'address'

/** What came of one packet that was really sent, from one interface to one address. */
export interface Probe {
  from: Endpoint
  to: Endpoint
  /** The address of `to` that it was sent to. */
  address: string
  /** Who answered: `<namespace>/<pod>`; not always `to`, where networks have the same subnets. */
  answeredBy?: string
  /** The NICs (`eth1`) behind whose switches the packet was seen, there or back. */
  switches: string[]
}

/** The one of that pod and name; a `missing` fault where there is none. */
export function endpointNamed(endpoints: Endpoint[], named: { pod: string; interface: string }): Endpoint {
  const found = endpoints.find((each) => each.pod === named.pod && each.interface === named.interface)
  if (found) return found
  throw new Fault(
    'missing',
    `find ${named.interface} of pod ${named.pod}`,
    'its network-status has none of that name',
  )
}

interface StatusEntry {
  name?: string
  interface?: string
  ips?: string[]
  mac?: string
}

const statusKey = 'k8s.v1.cni.cncf.io/network-status'

/** The interfaces that the pod's status reports; none while it has no address. */
export function endpointsOf(pod: Pod): Endpoint[] {
  const base = { pod: `${pod.metadata.namespace}/${pod.metadata.name}`, node: pod.spec.nodeName ?? '' }
  const entries = statusEntries(pod.metadata.annotations?.[statusKey])
  if (entries.length > 0)
    return entries.map((entry) => ({
      ...base,
      interface: entry.interface ?? '',
      network: entry.name ?? '',
      addresses: entry.ips ?? [],
      mac: entry.mac,
    }))
  const addresses = (pod.status?.podIPs ?? []).map((each) => each.ip)
  return addresses.length > 0 ? [{ ...base, interface: 'eth0', network: '', addresses }] : []
}

function statusEntries(text: string | undefined): StatusEntry[] {
  if (!text) return []
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) ? value : []
  } catch {
    return []
  }
}

/** Which probes answer the question who reaches whom: from every interface to every address of every other pod. */
export const questionsFor = (endpoints: Endpoint[]): Omit<Probe, 'switches'>[] =>
  endpoints.flatMap((from) =>
    endpoints
      .filter((to) => to.pod !== from.pod)
      .flatMap((to) => to.addresses.map((address) => ({ from, to, address }))),
  )

/**
 * What a probe came to, in a word: the NIC whose switch carried it, `node`
 * when it did not leave the node, `-` for no answer, and `!` with a name when
 * somebody else answered.
 */
export function wordFor(probe: Probe): string {
  if (probe.answeredBy === undefined) return '-'
  if (probe.answeredBy !== probe.to.pod) return `!${probe.answeredBy}`
  return probe.switches.length === 0 ? 'node' : probe.switches.join('+')
}
