import { gatewayOf } from '../ipam/pool.ts'
import { familyOf, formatAddress, parseAddress, parsePrefix } from '../lib/ip.ts'
import { gatewayMac, macBytes, macOf } from '../lib/mac.ts'
import { ceiling } from './ceiling.ts'
import { bridgeName, portName, tunnelName } from './names.ts'
import type { Forwarding, NamespacePlan, PortElement, PortPlan } from './node-plan.ts'
import { leasedGateway, macOfPort, podPort, podRouting } from './pod-port.ts'
import type { Table } from './ruleset.ts'
import { mtuOf, netnsOf, routable, tunnelOf } from './tunnel.ts'
import { uplinkWithin } from './uplink.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/**
 * One broadcast domain over VXLAN: a bridge on every node with the tunnel as
 * one of its ports. Where a MAC is follows from AttachmentSlices; broadcast
 * goes to every node that holds addresses of the network. Every node has the
 * gateway, under the same MAC, which never crosses the tunnel.
 */
export function planLayer2(view: NetworkView): NamespacePlan {
  const up = uplinkWithin(view)
  const endpoints = [...new Set(routable(view).map((r) => r.endpoint))].sort()
  const forwarding: Forwarding[] = endpoints.map((endpoint) => ({
    link: tunnelName,
    mac: '00:00:00:00:00:00',
    endpoint,
  }))
  for (const { attachment, endpoint } of view.severed ? [] : view.peers) {
    const first = parseAddress(attachment.ips[0] ?? '')
    const mac = attachment.mac ?? (first ? macOf(first) : undefined)
    if (mac) forwarding.push({ link: tunnelName, mac, endpoint })
  }
  forwarding.sort((a, b) => (`${a.mac} ${a.endpoint}` < `${b.mac} ${b.endpoint}` ? -1 : 1))
  return {
    netns: netnsOf(view),
    sysctls: {
      'ipv4/ip_forward': '1',
      'ipv6/conf/all/forwarding': '1',
      'ipv4/conf/all/send_redirects': '0',
      'ipv4/conf/default/send_redirects': '0',
      // Its frames pass the bridge's own rules; they need not pass those of a router too, and its table of connections.
      'bridge/bridge-nf-call-iptables': '0',
      'bridge/bridge-nf-call-ip6tables': '0',
      'bridge/bridge-nf-call-arptables': '0',
    },
    links: [
      { kind: 'existing', name: 'lo' },
      { kind: 'bridge', name: bridgeName, mac: gatewayMac, mtu: mtuOf(view.network) },
      ...tunnelOf(view, bridgeName),
      ...up.links,
    ],
    addresses: [
      ...(view.network.spec.subnets ?? []).flatMap((subnet) => {
        const cidr = parsePrefix(subnet.cidr)
        const gateway = cidr && gatewayOf(view.network, subnet, cidr)
        return gateway ? [{ link: bridgeName, address: `${formatAddress(gateway)}/${cidr.length}` }] : []
      }),
      ...up.addresses,
    ],
    routes: up.routes,
    neighbours: [],
    forwarding,
    tables: [bridgeTable, ...(up.chains.length > 0 ? [upTable(up)] : [])],
  }
}

/** Pods come to the inet family through the bridge, so their MACs tell them apart; the bridge's table has checked those. */
function upTable(up: Pick<Table, 'sets' | 'chains'>): Table {
  const limit = ceiling([{ match: 'iifname', is: bridgeName }], 'ether saddr')
  return {
    family: 'inet',
    name: 'polynet',
    sets: [...up.sets, ...limit.sets],
    chains: [...up.chains, ...limit.chains],
  }
}

export function planLayer2Port(view: NetworkView, held: HeldAttachment): PortPlan {
  const { head, addresses, sources, families, sysctls } = podPort(view, held)
  const link = portName(head.key)
  const mac = macOfPort(held, addresses)
  const elements: PortElement[] = [{ family: 'bridge', set: 'links', key: [link] }]
  for (const address of sources) {
    if (familyOf(address) === 4) {
      elements.push({ family: 'bridge', set: 'ports', key: [link, mac, address] })
      elements.push({ family: 'bridge', set: 'arps', key: [link, mac, mac, address] })
    } else elements.push({ family: 'bridge', set: 'ports6', key: [link, mac, address] })
  }
  if (families.has(6)) {
    elements.push({ family: 'bridge', set: 'ports6', key: [link, mac, eui64LinkLocal(mac)] })
    // Duplicate address detection speaks from the unspecified address (RFC 4862 section 5.4.2).
    elements.push({ family: 'bridge', set: 'ports6', key: [link, mac, '::'] })
  }
  return {
    ...head,
    netns: netnsOf(view),
    link: { kind: 'veth', name: link, mac: gatewayMac, noarp: false, bridge: bridgeName },
    inside: {
      netns: held.netns,
      name: held.interface,
      mac,
      mtu: mtuOf(view.network),
      addresses: held.addresses.map((a) => a.address),
      ...podRouting(view.network, held, families, (family) => leasedGateway(held, family), 'on-link'),
      neighbours: [],
      sysctls,
      tables: [],
    },
    routes: [],
    neighbours: [],
    forwarding: [],
    elements,
  }
}

/** The link-local address the kernel gives an interface of this MAC (RFC 4291 appendix A). */
function eui64LinkLocal(mac: string): string {
  const bytes = macBytes(mac)
  const id = [(bytes[0] ?? 0) ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]]
  let value = 0xfe80n << 112n
  let low = 0n
  for (const byte of id) low = (low << 8n) | BigInt(byte ?? 0)
  value |= low
  return formatAddress({ family: 6, value })
}

/**
 * What a port may send into the broadcast domain: frames of its own MAC that
 * carry its own addresses, ARP that speaks of itself, no router
 * advertisements, no DHCP answers, nothing that is neither IP nor ARP.
 */
const bridgeTable: Table = {
  family: 'bridge',
  name: 'polynet',
  sets: [
    { name: 'links', key: ['iifname'], elements: [] },
    { name: 'ports', key: ['iifname', 'ether saddr', 'ip saddr'], elements: [] },
    { name: 'ports6', key: ['iifname', 'ether saddr', 'ip6 saddr'], elements: [] },
    { name: 'arps', key: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'], elements: [] },
  ],
  chains: [
    {
      name: 'from-ports',
      base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
      rules: [
        { do: [{ match: 'iifname', is: tunnelName }, { verdict: 'accept' }] },
        {
          do: [
            { match: 'ether type', is: 'ip' },
            { lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' },
            { verdict: { goto: 'own-packet' } },
          ],
        },
        { do: [{ lookup: ['iifname'], notIn: 'links' }, { verdict: 'accept' }] },
        {
          do: [
            { match: 'ether type', is: 'arp' },
            { lookup: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'], in: 'arps' },
            { verdict: 'accept' },
          ],
        },
        {
          comment: 'only the network advertises routers',
          do: [
            { match: 'ether type', is: 'ip6' },
            { match: 'icmpv6 type', is: ['nd-router-advert', 'nd-redirect'] },
            { counter: true },
            { verdict: 'drop' },
          ],
        },
        {
          comment: "who answers for another's address takes its packets",
          do: [
            { match: 'ether type', is: 'ip6' },
            { match: 'icmpv6 type', is: 'nd-neighbor-advert' },
            { lookup: ['iifname', 'ether saddr', 'icmpv6 taddr'], notIn: 'ports6' },
            { counter: true },
            { verdict: 'drop' },
          ],
        },
        {
          do: [
            { match: 'ether type', is: 'ip6' },
            { lookup: ['iifname', 'ether saddr', 'ip6 saddr'], in: 'ports6' },
            { verdict: { goto: 'own-packet' } },
          ],
        },
        { comment: 'not its MAC and address', do: [{ counter: true }, { verdict: 'drop' }] },
      ],
    },
    {
      name: 'own-packet',
      rules: [
        {
          comment: 'only the network answers DHCP',
          do: [
            { match: 'meta l4proto', is: 'udp' },
            { match: 'th sport', is: [67, 547] },
            { counter: true },
            { verdict: 'drop' },
          ],
        },
      ],
    },
    {
      name: 'to-tunnel',
      base: { type: 'filter', hook: 'postrouting', priority: -300, policy: 'accept' },
      rules: [
        {
          comment: 'every node has the gateway itself',
          do: [
            { match: 'oifname', is: tunnelName },
            { match: 'ether saddr', is: gatewayMac },
            { verdict: 'drop' },
          ],
        },
      ],
    },
  ],
}
