import { familyOf, leastMtu } from '../../lib/ip.ts'
import type { PortPlan } from '../../plan/node-plan.ts'
import { addressLine, forwardingLine, neighbourLine, routeLine, ruleLine } from '../lines.ts'
import { move } from './links.ts'
import { Batch, refused } from './netlink.ts'
import type { Place } from './place.ts'
import * as rt from './route.ts'
import { addPortElements, addTables, hangsOnDevices } from './tables.ts'

/** Some of the ports, by a namespace that they share. */
interface Shared {
  netns: string
  place: Place
  ports: PortPlan[]
}

/**
 * Makes ports of which nothing is there yet, as nearly every attachment does:
 * nothing is looked at first, and what goes into one namespace goes in one
 * system call, as far as it can. Returns the MACs of the pods' interfaces.
 * Throws the first refusal, EEXIST where something is there after all; what
 * was done till then stays, and `made` has the ports whose links it created.
 */
export function makePorts(ports: PortPlan[], place: (netns: string) => Place, made: PortPlan[]): string[] {
  const [first] = ports
  if (!first) return []
  const nodes = shared(ports, (port) => port.netns, place)
  const pods = shared(ports, (port) => port.inside.netns, place)
  // What a port may send is said before there is a link.
  for (const { place, ports } of nodes) {
    const elements = ports.flatMap((port) => port.elements)
    if (elements.length > 0) addPortElements(place, elements)
  }
  for (const { place, ports } of pods)
    addTables(
      place,
      ports.flatMap(({ inside }) => inside.tables.filter((table) => !hangsOnDevices(table))),
    )
  // One message can make a pair whose ends are elsewhere, and one batch all of them.
  const senders = shared(ports, ({ netns, link }) => (link.kind === 'veth' ? first.netns : netns), place)
  startingWith(pods, () => {
    for (const sender of senders) createLinks(sender, place, made)
  })
  const macs = ports.map((port) => lookUp(port, place))
  for (const { place, ports } of pods)
    addTables(
      place,
      ports.flatMap(({ inside }) => inside.tables.filter(hangsOnDevices)),
    )
  for (const node of nodes) configureNode(node)
  for (const pod of pods) configurePod(pod)
  for (const { netns, link, inside } of ports) {
    if (link.kind === 'veth') place(netns).settle(link.name)
    if (link.kind === 'veth' || link.kind === 'host-device') place(inside.netns).settle(inside.name)
  }
  return macs
}

function shared(
  ports: PortPlan[],
  netnsOf: (port: PortPlan) => string,
  place: (netns: string) => Place,
): Shared[] {
  const all: Shared[] = []
  for (const port of ports) {
    const netns = netnsOf(port)
    const one = all.find((other) => other.netns === netns)
    if (one) one.ports.push(port)
    else all.push({ netns, place: place(netns), ports: [port] })
  }
  return all
}

/**
 * Settings that all of a pod's ports have in common are those that its links
 * start with: one that is written for each link is looked up among the links
 * of that name of all pods. The rest is written when the links are there.
 */
function startingWith(pods: Shared[], create: () => void): void {
  const [pod, ...others] = pods
  if (!pod) {
    create()
    return
  }
  const { common, single } = linkSettings(pod.ports)
  pod.place.startingWith(common, () => startingWith(others, create))
  pod.place.sysctls(single, 'all')
}

function linkSettings(ports: PortPlan[]): { common: [string, string][]; single: [string, string][] } {
  const [first, ...others] = ports.map(({ inside }) => ({ name: inside.name, settings: inside.sysctls }))
  const common = new Map<string, string>()
  for (const [setting, value] of Object.entries(first?.settings ?? {})) {
    const [before, after] = setting.split(`/conf/${first?.name}/`)
    if (after === undefined) continue
    const all = others.every(({ name, settings }) => settings[`${before}/conf/${name}/${after}`] === value)
    if (all) common.set(`${before}/conf/default/${after}`, value)
  }
  const single = ports.flatMap(({ inside }) =>
    Object.entries(inside.sysctls).filter(
      ([setting, value]) => common.get(setting.replace(`/conf/${inside.name}/`, '/conf/default/')) !== value,
    ),
  )
  return { common: [...common], single }
}

function createLinks(
  { place: sender, ports }: Shared,
  place: (netns: string) => Place,
  made: PortPlan[],
): void {
  const batch = new Batch()
  const asked: PortPlan[] = []
  for (const port of ports) {
    const { key, link, inside } = port
    const { name, mac, mtu } = inside
    const pod = place(inside.netns)
    const what = () => `${key}: create link ${name} in ${inside.netns}`
    const theirs = { name, mac, mtu, group: rt.portGroup, netns: pod.fd }
    if (link.kind === 'host-device') {
      move(sender, pod, link.device, name)
      continue
    }
    asked.push(port)
    // A veth carries nothing before its other end is up, too.
    if (link.kind === 'veth') {
      const ours = { name: link.name, mac: link.mac, mtu, noarp: link.noarp, netns: place(port.netns).fd }
      rt.newVeth(batch, what, { ...theirs, up: true }, ours)
    } else rt.newUpper(batch, what, { ...theirs, parent: sender.index(link.parent) }, link)
  }
  const { refusals } = sender.route.try(batch)
  made.push(...asked.filter((_, index) => !refusals.some((refusal) => refusal.index === index)))
  if (refusals[0]) throw refused(refusals[0])
}

/** Has the places know the port's links; the MAC of the pod's. */
function lookUp({ key, netns, link, inside }: PortPlan, place: (netns: string) => Place): string {
  if (link.kind === 'veth') place(netns).newIndex(link.name)
  const pod = place(inside.netns)
  if (link.kind === 'veth' && inside.mac !== undefined) {
    pod.newIndex(inside.name)
    return inside.mac
  }
  const { index, mac } = pod.link(inside.name, `${key}: find link ${inside.name} in ${inside.netns}`)
  pod.indexes.set(inside.name, index)
  return inside.mac ?? mac
}

/**
 * Links come up by a message of their own here: one that is made up and
 * without ARP at once has the kernel look at every IPv6 route of the namespace
 * (rt6_sync_down_dev). Those for IPv4 alone need no IPv6 address, which takes
 * the kernel longer than the message.
 */
function configureNode({ netns, place, ports }: Shared): void {
  const batch = new Batch()
  for (const { key, link, inside, forwarding, neighbours, routes } of ports) {
    if (link.kind === 'veth') {
      const what = () => `${key}: set link ${link.name} in ${netns}: up`
      const index = place.index(link.name)
      const master = link.bridge === undefined ? undefined : place.index(link.bridge)
      // Within one message the kernel would bring it up first.
      if (sparesIPv6(inside)) rt.setLink(batch, what, { index, noLinkLocal: true })
      rt.setLink(batch, what, { index, master, up: true })
      if (link.isolated)
        rt.setBridgePort(batch, () => `${key}: set bridge port ${link.name} in ${netns}`, index, true)
    }
    for (const f of forwarding)
      rt.newForwarding(batch, () => `${key}: add ${forwardingLine(netns, f)}`, place.index(f.link), f)
    addWays(batch, key, { netns, place }, { neighbours, routes })
  }
  place.route.send(batch)
}

/** Whether its links are for IPv4 alone. With an MTU too small for IPv6 the kernel has nothing to leave out, and refuses to. */
const sparesIPv6 = ({ addresses, mtu = leastMtu[6] }: PortPlan['inside']): boolean =>
  mtu >= leastMtu[6] && !addresses.some((address) => familyOf(address) === 6)

/** What leads to the port, or out of it, on one of its sides. */
function addWays(
  batch: Batch,
  key: string,
  { netns, place }: Pick<Shared, 'netns' | 'place'>,
  { neighbours, routes }: Pick<PortPlan, 'neighbours' | 'routes'>,
): void {
  for (const n of neighbours)
    rt.newNeighbour(batch, () => `${key}: add ${neighbourLine(netns, n)}`, place.index(n.link), n)
  for (const r of routes)
    rt.newRoute(batch, () => `${key}: add ${routeLine(netns, r)}`, place.index(r.link), r)
}

/** Links are up before anything leads to them. */
function configurePod({ netns, place, ports }: Shared): void {
  const batch = new Batch()
  for (const { key, link, inside } of ports) {
    // It came up when it was made.
    if (link.kind === 'veth') continue
    const { name, mac, mtu } = inside
    const what = () => `${key}: set link ${name} in ${netns}: up`
    // A NIC has settings of its own.
    const settings = link.kind === 'host-device' ? { mac, mtu } : {}
    rt.setLink(batch, what, { index: place.index(name), ...settings, up: true })
  }
  for (const { key, inside } of ports) {
    const index = place.index(inside.name)
    for (const address of inside.addresses)
      rt.newAddress(
        batch,
        () => `${key}: add ${addressLine(netns, { link: inside.name, address })}`,
        index,
        address,
      )
    addWays(batch, key, { netns, place }, inside)
    for (const rule of inside.rules ?? [])
      rt.newRule(batch, () => `${key}: add ${ruleLine(netns, rule)}`, rule)
  }
  place.route.send(batch)
}
