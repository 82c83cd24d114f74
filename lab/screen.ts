import type { Node, Pod } from '../src/api/core.ts'
import type { HostPhysicalNetwork } from '../src/api/host-physical-network.ts'
import type { Condition } from '../src/api/meta.ts'
import type { Network } from '../src/api/network.ts'
import type { PhysicalNetwork } from '../src/api/physical-network.ts'
import { type Endpoint, endpointsOf, type Probe, wordFor } from './reach.ts'
import { tableText } from './table.ts'

/** What the screen shows, as the API server has it, and what packets said. */
export interface Shown {
  nodes: Node[]
  hosts: HostPhysicalNetwork[]
  physicalNetworks: PhysicalNetwork[]
  networks: Network[]
  pods: Pod[]
  probes: Probe[]
}

/** The cluster on one screen: nodes with their NICs, physical and logical networks, pods, and who reaches whom. */
export const screenText = (shown: Shown): string =>
  [
    `NODES\n${nodesText(shown.nodes, shown.hosts)}`,
    `PHYSICAL NETWORKS\n${physicalNetworksText(shown.physicalNetworks)}`,
    `NETWORKS\n${networksText(shown.networks)}`,
    `PODS\n${podsText(shown.pods)}`,
    `WHO REACHES WHOM\n${reachText(shown.pods.flatMap(endpointsOf), shown.probes)}`,
  ].join('\n\n')

/** Each NIC on a line of its own, behind its node's name. */
export function nodesText(nodes: Node[], hosts: HostPhysicalNetwork[]): string {
  const rows = byName(nodes).flatMap((node) => {
    const status = hosts.find((host) => host.metadata.name === node.metadata.name)?.status
    const head = [node.metadata.name, conditionText(node.status?.conditions)]
    const nics = (status?.nics ?? []).map((nic) => {
      const mappings = (status?.mappings ?? []).filter((mapping) => mapping.nic === nic.name)
      const reaches = mappings.map(
        (mapping) => mapping.physicalNetwork + (mapping.usable ? '' : ' (unusable)'),
      )
      const addresses = nic.addresses?.filter((address) => !address.startsWith('fe80:'))
      return [nic.name, list(addresses), String(nic.mtu), nic.up ? 'up' : 'down', list(reaches)]
    })
    return nics.length > 0 ? grouped(head, nics) : [head]
  })
  return tableText(['NAME', 'STATUS', 'NIC', 'ADDRESS', 'MTU', 'LINK', 'PHYSICAL NETWORK'], rows)
}

const physicalNetworksText = (items: PhysicalNetwork[]): string =>
  tableText(
    ['NAME', 'DESCRIPTION', 'NODES', 'MTU', 'TUNNEL PORT', 'READY'],
    byName(items).map(({ metadata, spec, status }) => [
      metadata.name,
      spec.description ?? '',
      String(status?.nodes ?? 0),
      spec.mtu === undefined ? '' : String(spec.mtu),
      String(status?.tunnelPort ?? spec.tunnelPort ?? ''),
      readyText(status?.conditions),
    ]),
  )

const networksText = (items: Network[]): string =>
  tableText(
    ['NAMESPACE', 'NAME', 'PHYSICAL NETWORK', 'PLUGIN', 'TOPOLOGY', 'SUBNETS', 'MTU', 'READY'],
    byName(items).map(({ metadata, spec, status }) => [
      metadata.namespace ?? '',
      metadata.name,
      spec.physicalNetwork ?? '',
      spec.plugin ?? 'polynet',
      spec.topology ?? 'Layer3',
      list(spec.subnets?.map((subnet) => subnet.cidr)),
      String(status?.mtu ?? spec.mtu ?? ''),
      readyText(status?.conditions),
    ]),
  )

/** Each interface on a line of its own, behind its pod's name. */
export function podsText(pods: Pod[]): string {
  const rows = byName(pods).flatMap((pod) => {
    const { metadata, spec, status } = pod
    const head = [metadata.namespace ?? '', metadata.name, spec.nodeName ?? '', status?.phase ?? '']
    const endpoints = endpointsOf(pod).map((each) => [
      each.interface,
      each.network,
      list(each.addresses),
      each.mac ?? '',
    ])
    return endpoints.length > 0 ? grouped(head, endpoints) : [head]
  })
  return tableText(['NAMESPACE', 'NAME', 'NODE', 'PHASE', 'INTERFACE', 'NETWORK', 'ADDRESS', 'MAC'], rows)
}

/**
 * A line per interface that sends, a column per interface that is sent to.
 * A cell is what `wordFor` says of the packets, one word when all of a pair's
 * addresses agree, blank where nothing was sent.
 */
export function reachText(endpoints: Endpoint[], probes: Probe[]): string {
  const key = (endpoint: Endpoint) => `${endpoint.pod} ${endpoint.interface}`
  const sorted = [...endpoints].sort((a, b) => (key(a) < key(b) ? -1 : 1))
  const words = new Map<string, Set<string>>()
  for (const probe of probes) {
    const pair = `${key(probe.from)} > ${key(probe.to)}`
    words.set(pair, (words.get(pair) ?? new Set()).add(wordFor(probe)))
  }
  const rows = sorted.map((from, i) => [
    String(i + 1),
    from.pod,
    from.interface,
    from.node,
    ...sorted.map((to) => [...(words.get(`${key(from)} > ${key(to)}`) ?? [])].join(' ')),
  ])
  const legend = 'eth1: answered, by the switch behind eth1. node: answered, on the node. -: no answer.'
  return `${tableText(['', 'FROM', 'INTERFACE', 'NODE', ...sorted.map((_, i) => `TO ${i + 1}`)], rows)}\n${legend}`
}

const list = (items: string[] | undefined): string => (items ?? []).join(', ')

/** `head` before the first of `lines`, blanks before the others. */
const grouped = (head: string[], lines: string[][]): string[][] =>
  lines.map((line, i) => [...(i === 0 ? head : head.map(() => '')), ...line])

const byName = <T extends { metadata: { namespace?: string; name: string } }>(items: T[]): T[] => {
  const key = (item: T) => `${item.metadata.namespace ?? ''}/${item.metadata.name}`
  return [...items].sort((a, b) => (key(a) < key(b) ? -1 : 1))
}

const conditionText = (conditions: { type: string; status: string }[] | undefined): string => {
  const ready = conditions?.find((condition) => condition.type === 'Ready')
  return ready ? (ready.status === 'True' ? 'Ready' : 'NotReady') : 'Unknown'
}

const readyText = (conditions: Condition[] | undefined): string => {
  const ready = conditions?.find((condition) => condition.type === 'Ready')
  if (!ready) return ''
  return ready.status === 'True' ? 'True' : `${ready.status}: ${ready.reason}`
}
