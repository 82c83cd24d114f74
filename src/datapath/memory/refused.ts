import { Fault } from '../../lib/fault.ts'
import { familyOf, leastMtu } from '../../lib/ip.ts'
import type { Link, NamespacePlan, Neighbour, NodePlan, PortPlan, Route } from '../../plan/node-plan.ts'
import type { MemoryNode, Surroundings } from './node.ts'

/** What a kernel would not take, and whose it is: the namespace's, or that of the network at the other end of an uplink. */
export interface Refusal {
  netns: string
  why: Fault
}

/** What a kernel would say to this namespace's objects, made one after another; undefined when it takes them all. */
export function refusedNamespace(
  plan: NamespacePlan,
  whole: NodePlan,
  node: MemoryNode,
): Refusal | undefined {
  const no = (what: string, why: string): Refusal => ({
    netns: plan.netns,
    why: new Fault('kernel', `make ${what} in ${plan.netns}`, why),
  })
  const noLink = (link: Link, why: string): Refusal => ({
    ...no(`link ${link.name}`, why),
    ...(link.kind === 'veth' ? { netns: link.peer.netns } : {}),
  })
  const names = new Set(plan.netns === 'host' ? hostLinks(node) : ['lo'])
  for (const link of plan.links)
    if (link.kind === 'veth' || link.kind === 'bridge' || link.kind === 'vxlan') {
      const foreign = names.has(link.name)
      if (foreign) return noLink(link, 'EEXIST; a link of that name is there and is not ours')
      if (!isName(link.name)) return noLink(link, 'EINVAL; a name has 1 to 15 bytes')
      names.add(link.name)
    }
  for (const other of whole.namespaces)
    for (const link of other.links)
      if (link.kind === 'veth' && link.peer.netns === plan.netns) names.add(link.peer.name)
  for (const link of plan.links) {
    if (link.kind === 'existing') {
      if (!names.has(link.name)) return noLink(link, 'ENODEV; there is no such link')
      continue
    }
    if (link.kind === 'vxlan') {
      if (!node.nics.get(link.underlay)?.plugged || node.nicHolder(link.underlay))
        return noLink(link, `ENODEV; the host has no ${link.underlay}`)
      const family = familyOf(link.local)
      if ([...node.programs].some((p) => p.port === link.port && p.families.includes(family)))
        return noLink(link, `EADDRINUSE; another program has UDP port ${link.port}`)
      const isTwin = (l: Link) => l.kind === 'vxlan' && l.vni === link.vni && l.port === link.port
      const hasTwin = (n?: NamespacePlan) => n?.links.some(isTwin) ?? false
      const at = whole.namespaces.findIndex((n) => n.netns === plan.netns)
      const isFirst = (n: NamespacePlan, index: number) =>
        index < at || (index > at && hasTwin(node.namespaces.get(n.netns)))
      if ([...whole.namespaces.filter(isFirst), node.foreign].some(hasTwin))
        return noLink(link, `EEXIST; VNI ${link.vni} on port ${link.port} is taken`)
    }
    const bridge = link.kind === 'bridge' ? undefined : link.bridge
    if (bridge !== undefined && !names.has(bridge))
      return noLink(link, `ENODEV; there is no bridge ${bridge}`)
  }
  for (const list of [plan.addresses, plan.routes, plan.neighbours, plan.forwarding])
    for (const { link, ...rest } of list)
      if (!names.has(link)) return no(`${Object.values(rest).join(' ')}`, `ENODEV; there is no link ${link}`)
  for (const link of plan.links) {
    if (link.kind === 'existing' || link.mtu >= leastMtu[6]) continue
    const on = <T extends { link: string }>(all: T[]) => all.filter((one) => one.link === link.name)
    const said = [
      ...on(plan.addresses).map(({ address }) => address),
      ...saidOf(on(plan.routes), on(plan.neighbours)),
    ]
    if (said.some(isIPv6)) return noLink(link, noIPv6)
  }
  return undefined
}

const noIPv6 = 'EINVAL; its MTU is too small for IPv6'
const saidOf = (routes: Route[], neighbours: Neighbour[]): string[] => [
  ...routes.flatMap(({ to, via }) => [to, via ?? '']),
  ...neighbours.map(({ address }) => address),
]

const isIPv6 = (text: string): boolean => familyOf(text) === 6

/** The same for a port; whether its pod's namespace exists has been asked before. */
export function refusedPort(port: PortPlan, node: MemoryNode, around: Surroundings): Fault | undefined {
  const no = (why: string) => new Fault('kernel', `attach ${port.key} of ${port.pod}`, why)
  const { link, inside } = port
  const place = node.namespaces.get(port.netns)
  if (!place) return no(`ENOENT; the namespace ${port.netns} is not there`)
  if (!isName(inside.name)) return no(`EINVAL; ${inside.name} is no link name, which has 1 to 15 bytes`)
  for (const other of around.portsIn(inside.netns))
    if (other.key !== port.key && other.inside.name === inside.name)
      return no(`EEXIST; ${inside.netns} has ${inside.name} already, from ${other.key}`)
  if (link.kind === 'veth') {
    const taken = [...node.ports.values()].some(
      (p) =>
        p.key !== port.key && p.link.kind === 'veth' && p.netns === port.netns && p.link.name === link.name,
    )
    const planned = place.links.some((l) => l.name === link.name)
    if (taken || planned) return no(`EEXIST; ${port.netns} has ${link.name} already`)
    if (link.bridge !== undefined && !place.links.some((l) => l.kind === 'bridge' && l.name === link.bridge))
      return no(`ENODEV; ${port.netns} has no bridge ${link.bridge}`)
  } else {
    const nic = link.kind === 'host-device' ? link.device : link.parent
    const holder = node.nicHolder(nic)
    if (!node.nics.get(nic)?.plugged || (holder && holder.key !== port.key))
      return no(`ENODEV; the host has no ${nic}`)
  }
  if (inside.mtu < leastMtu[6]) {
    const said = [...inside.addresses, ...saidOf(inside.routes, inside.neighbours)]
    const onNode = link.kind === 'veth' ? saidOf(port.routes, port.neighbours) : []
    if ([...said, ...onNode].some(isIPv6)) return no(noIPv6)
  }
  for (const { family, set } of port.elements)
    if (!place.tables.some((t) => t.family === family && t.sets.some((s) => s.name === set)))
      return no(`ENOENT; ${port.netns} has no set ${set} in table ${family} polynet`)
  const nodeSide = link.kind === 'veth' ? link.name : undefined
  for (const entry of [...port.routes, ...port.neighbours, ...port.forwarding])
    if (entry.link !== nodeSide && !place.links.some((l) => l.name === entry.link))
      return no(`ENODEV; ${port.netns} has no link ${entry.link}`)
  return undefined
}

const isName = (name: string): boolean => /^[^/\s]{1,15}$/.test(name)

function hostLinks(node: MemoryNode): string[] {
  const nics = [...node.nics.values()].filter((n) => n.plugged && !node.nicHolder(n.name)).map((n) => n.name)
  return ['lo', ...nics, ...node.foreign.links.map((l) => l.name)]
}
