import {
  emptyNamespace,
  type Forwarding,
  type Link,
  type NamespacePlan,
  type Neighbour,
  type PortElement,
  type PortLink,
  type PortPlan,
  type Route,
  type SourceRule,
  type Vxlan,
} from '../../plan/node-plan.ts'
import type { Table } from '../../plan/ruleset.ts'

/**
 * What a plan wants in each network namespace, the pods' included: ports are
 * taken apart into their two sides. Namespaces of pods go by their path.
 */
export interface Want {
  netns: string
  sysctls: Record<string, string>
  links: WantedLink[]
  addresses: { link: string; address: string }[]
  routes: Route[]
  rules: SourceRule[]
  neighbours: Neighbour[]
  forwarding: Forwarding[]
  tables: Table[]
  elements: PortElement[]
}

export interface WantedLink {
  name: string
  origin: Origin
  /** Absent: whatever it has. */
  mac?: string
  mtu?: number
  bridge?: string
  noarp?: boolean
  isolated?: boolean
  /** Key of the port it belongs to. */
  port?: string
}

/** Where a link comes from. */
export type Origin =
  | { kind: 'existing' }
  | { kind: 'bridge' }
  | { kind: 'vxlan'; vxlan: Vxlan }
  | { kind: 'veth'; peer: { netns: string; name: string } }
  /** The other end of a veth of another namespace, which makes both. */
  | { kind: 'peer'; of: { netns: string; name: string } }
  /** Made on top of `parent`, a link of namespace `from`. */
  | { kind: 'upper'; from: string; parent: string; link: Exclude<PortLink, { kind: 'veth' | 'host-device' }> }
  /** Moved here from namespace `from`, where it is called `device`. */
  | { kind: 'moved'; from: string; device: string }

export function wantsOf(namespaces: NamespacePlan[], ports: PortPlan[]): Map<string, Want> {
  const wants = new Map<string, Want>()
  const want = (netns: string): Want => {
    let found = wants.get(netns)
    if (!found) {
      found = {
        ...emptyNamespace(netns),
        links: [],
        rules: [],
        elements: [],
      }
      wants.set(netns, found)
    }
    return found
  }
  for (const plan of namespaces) {
    const here = want(plan.netns)
    Object.assign(here.sysctls, plan.sysctls)
    here.addresses.push(...plan.addresses)
    here.routes.push(...plan.routes)
    here.neighbours.push(...plan.neighbours)
    here.forwarding.push(...plan.forwarding)
    here.tables.push(...plan.tables)
    for (const link of plan.links) {
      here.links.push(wantedLink(link, here.links))
      if (link.kind !== 'veth') continue
      const { netns, name, mac } = link.peer
      const there = want(netns).links
      const origin = { kind: 'peer', of: { netns: plan.netns, name: link.name } } as const
      // The peer's own namespace may list it as there anyway, to give it a place among its links.
      const at = there.findIndex((other) => other.name === name)
      const peer = { name, origin, mac, mtu: link.mtu }
      if (at < 0) there.push(peer)
      else there[at] = peer
    }
  }
  for (const port of ports) addPort(port, want)
  return wants
}

function wantedLink(link: Link, before: WantedLink[]): WantedLink {
  if (link.kind === 'existing') {
    const peer = before.findIndex((other) => other.name === link.name)
    if (peer >= 0) return before.splice(peer, 1)[0]!
    return { name: link.name, origin: { kind: 'existing' } }
  }
  const { name, mac, mtu } = link
  if (link.kind === 'bridge') return { name, mac, mtu, origin: { kind: 'bridge' } }
  if (link.kind === 'vxlan')
    return { name, mac, mtu, bridge: link.bridge, origin: { kind: 'vxlan', vxlan: link } }
  return { name, mac, mtu, bridge: link.bridge, origin: { kind: 'veth', peer: link.peer } }
}

function addPort(port: PortPlan, want: (netns: string) => Want): void {
  const { link, inside } = port
  const here = want(port.netns)
  here.routes.push(...port.routes)
  here.neighbours.push(...port.neighbours)
  here.forwarding.push(...port.forwarding)
  here.elements.push(...port.elements)
  const there = want(inside.netns)
  Object.assign(there.sysctls, inside.sysctls)
  there.addresses.push(...inside.addresses.map((address) => ({ link: inside.name, address })))
  there.routes.push(...inside.routes)
  there.rules.push(...(inside.rules ?? []))
  there.neighbours.push(...inside.neighbours)
  there.tables.push(...inside.tables)
  const { name, mac, mtu } = inside
  const ends = { name, mac, mtu, port: port.key }
  if (link.kind === 'veth') {
    const { mac, noarp, bridge, isolated } = link
    const peer = { netns: inside.netns, name }
    here.links.push({
      name: link.name,
      mac,
      mtu,
      noarp,
      bridge,
      isolated: isolated === true,
      port: port.key,
      origin: { kind: 'veth', peer },
    })
    there.links.push({ ...ends, origin: { kind: 'peer', of: { netns: port.netns, name: link.name } } })
  } else if (link.kind === 'host-device')
    there.links.push({ ...ends, origin: { kind: 'moved', from: port.netns, device: link.device } })
  else there.links.push({ ...ends, origin: { kind: 'upper', from: port.netns, parent: link.parent, link } })
}
