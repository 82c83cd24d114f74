import {
  type Address,
  formatAddress,
  formatPrefix,
  hostPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  withoutLength,
} from '../lib/ip.ts'
import { gatewayMac, macOf, tunnelMac } from '../lib/mac.ts'
import {
  emptyNamespace,
  type NamespacePlan,
  type NodePlan,
  type PortElement,
  type PortPlan,
} from '../plan/node-plan.ts'
import type { Rule, Table } from '../plan/ruleset.ts'

/**
 * Whole plans as values, for the conformance suite: the renderings of
 * ARCHITECTURE.md at their smallest, two nodes, one /24 and one /112 of each
 * network per node. Written apart from `plan/`, so that a datapath is held to
 * the plan's language and not to what one planner happens to say in it.
 */
export type NodeName = 'n1' | 'n2'

export interface TestNetwork {
  name: string
  topology: 'Layer3' | 'Layer2'
  /** `host`, or the network's own namespace. */
  netns: string
  vni: number
  nic: 'eth1' | 'eth2'
  /** First two bytes and first three groups that its addresses begin with. */
  ipv4: string
  ipv6: string
}

export const blue: TestNetwork = {
  name: 'blue',
  topology: 'Layer3',
  netns: 'pn-blue',
  vni: 101,
  nic: 'eth1',
  ipv4: '10.1',
  ipv6: 'fd00:10:1',
}
export const red: TestNetwork = {
  name: 'red',
  topology: 'Layer3',
  netns: 'pn-red',
  vni: 102,
  nic: 'eth2',
  ipv4: '10.2',
  ipv6: 'fd00:10:2',
}
/** The same addresses as blue. */
export const green: TestNetwork = { ...blue, name: 'green', netns: 'pn-green', vni: 103, nic: 'eth2' }
/** One broadcast domain. */
export const flat: TestNetwork = {
  ...red,
  name: 'flat',
  topology: 'Layer2',
  netns: 'pn-flat',
  vni: 104,
  nic: 'eth1',
}
/** The default network. */
export const home: TestNetwork = {
  ...blue,
  name: 'home',
  netns: 'host',
  vni: 100,
  ipv4: '10.244',
  ipv6: 'fd00:10:244',
}

export const tunnelPort = 5789
const digit = (node: NodeName): number => (node === 'n1' ? 1 : 2)
const other = (node: NodeName): NodeName => (node === 'n1' ? 'n2' : 'n1')

/** The node's address on the wire behind `nic`; it is there when the bench is. */
export const nicAddress = (node: NodeName, nic: 'eth1' | 'eth2'): string =>
  `192.168.${nic === 'eth1' ? 10 : 20}.${digit(node) + 10}`

/** The addresses of the `n`th pod that `node` has in `network`. */
export const podAddresses = (network: TestNetwork, node: NodeName, n: number): [string, string] => [
  `${network.ipv4}.${digit(node)}.${n}`,
  `${network.ipv6}::${digit(node)}:${n.toString(16)}`,
]

export const podMac = (network: TestNetwork, node: NodeName, n: number): string =>
  macOf(address(podAddresses(network, node, n)[0]))

/** The plan of a node that has these networks and ports. */
export function plan(node: NodeName, networks: TestNetwork[], ports: PortPlan[] = []): NodePlan {
  const host = networks.find((n) => n.netns === 'host')
  const own = networks.filter((n) => n !== host).sort((a, b) => (a.netns < b.netns ? -1 : 1))
  return {
    namespaces: [host ? layer3(host, node) : emptyNamespace('host'), ...own.map((n) => namespace(n, node))],
    ports: [...ports].sort((a, b) => (a.key < b.key ? -1 : 1)),
  }
}

const namespace = (network: TestNetwork, node: NodeName): NamespacePlan =>
  network.topology === 'Layer3' ? layer3(network, node) : layer2(network, node)

function layer3(network: TestNetwork, node: NodeName): NamespacePlan {
  const peer = other(node)
  const link = tunnelOf(network)
  const via = `fe80::${digit(peer)}`
  const endpoint = nicAddress(peer, network.nic)
  const mac = tunnelMac(address(endpoint))
  return {
    netns: network.netns,
    sysctls: { 'ipv4/ip_forward': '1', 'ipv6/conf/all/forwarding': '1' },
    links: [{ kind: 'existing', name: 'lo' }, vxlan(network, node)],
    addresses: [],
    routes: [
      { to: `${network.ipv4}.${digit(peer)}.0/24`, link, via },
      { to: `${network.ipv6}::${digit(peer)}:0/112`, link, via },
    ],
    neighbours: [{ link, address: via, mac }],
    forwarding: [{ link, mac, endpoint }],
    tables: [ports('inet')],
  }
}

function layer2(network: TestNetwork, node: NodeName): NamespacePlan {
  const endpoint = nicAddress(other(node), network.nic)
  return {
    netns: network.netns,
    sysctls: {},
    links: [
      { kind: 'existing', name: 'lo' },
      { kind: 'bridge', name: 'pnbr', mac: gatewayMac, mtu: 1450 },
      { ...vxlan(network, node), bridge: 'pnbr' },
    ],
    addresses: [],
    routes: [],
    neighbours: [],
    forwarding: [{ link: tunnelOf(network), mac: '00:00:00:00:00:00', endpoint }],
    tables: [ports('bridge')],
  }
}

/** The plan where tunnels cannot be made: what is left of it. */
export function withoutTunnels({ namespaces, ports }: NodePlan): NodePlan {
  const isTunnel = (name: string) => name === 'pnvx' || name === 'pn0'
  const beside = <T extends { link: string }>(all: T[]) => all.filter(({ link }) => !isTunnel(link))
  return {
    namespaces: namespaces.map((n) => ({
      ...n,
      links: n.links.filter(({ name }) => !isTunnel(name)),
      addresses: beside(n.addresses),
      routes: beside(n.routes),
      neighbours: beside(n.neighbours),
      forwarding: beside(n.forwarding),
    })),
    ports,
  }
}

const tunnelOf = (network: TestNetwork): string => (network.netns === 'host' ? 'pn0' : 'pnvx')

const vxlan = (network: TestNetwork, node: NodeName) => ({
  kind: 'vxlan' as const,
  name: tunnelOf(network),
  vni: network.vni,
  port: tunnelPort,
  local: nicAddress(node, network.nic),
  underlay: network.nic,
  mac: tunnelMac(address(nicAddress(node, network.nic))),
  mtu: 1450,
})

/** What a port may send, and nothing else from a port. */
function ports(family: 'inet' | 'bridge'): Table {
  const arp: Rule[] = [
    {
      do: [
        { lookup: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'], in: 'arps' },
        { verdict: 'accept' },
      ],
    },
    // Solicitations come from link-local addresses too.
    {
      do: [
        { match: 'icmpv6 type', is: ['nd-neighbor-solicit', 'nd-neighbor-advert'] },
        { verdict: 'accept' },
      ],
    },
  ]
  return {
    family,
    name: 'polynet',
    sets: [
      { name: 'links', key: ['iifname'], elements: [] },
      { name: 'ports', key: ['iifname', 'ether saddr', 'ip saddr'], elements: [] },
      { name: 'ports6', key: ['iifname', 'ether saddr', 'ip6 saddr'], elements: [] },
      ...(family === 'bridge'
        ? [
            {
              name: 'arps',
              key: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'] as const,
              elements: [],
            },
          ].map((s) => ({ ...s, key: [...s.key] }))
        : []),
    ],
    chains: [
      {
        name: 'from-ports',
        base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
        rules: [
          { do: [{ lookup: ['iifname'], notIn: 'links' }, { verdict: 'accept' }] },
          { do: [{ lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' }, { verdict: 'accept' }] },
          { do: [{ lookup: ['iifname', 'ether saddr', 'ip6 saddr'], in: 'ports6' }, { verdict: 'accept' }] },
          ...(family === 'bridge' ? arp : []),
          { comment: 'not its MAC and address', do: [{ counter: true }, { verdict: 'drop' }] },
        ],
      },
    ],
  }
}

/** The `n`th port of `node` in `network`, as `name` inside the pod's namespace. */
export function port(network: TestNetwork, node: NodeName, n: number, pod: string, name = 'eth0'): PortPlan {
  const key = `${network.name}${digit(node)}c${n}/${name}`
  const link = `pn${network.name}${n}`
  const mac = podMac(network, node, n)
  const [ipv4, ipv6] = podAddresses(network, node, n)
  const routed = network.topology === 'Layer3'
  const family = routed ? 'inet' : 'bridge'
  const addresses = [ipv4, ipv6].map(address)
  const host = (a: Address): string => formatPrefix(hostPrefix(a))
  const gateways = ['169.254.1.1', 'fe80::1']
  const subnets = [`${network.ipv4}.0.0/16`, `${network.ipv6}::/64`]
  const elements: PortElement[] = [
    { family, set: 'links', key: [link] },
    { family, set: 'ports', key: [link, mac, ipv4] },
    { family, set: 'ports6', key: [link, mac, ipv6] },
  ]
  if (!routed) elements.push({ family, set: 'arps', key: [link, mac, mac, ipv4] })
  return {
    key,
    network: `default/${network.name}`,
    pod: `default/${key.split('/')[0]}`,
    netns: network.netns,
    link: { kind: 'veth', name: link, mac: gatewayMac, noarp: routed, ...(routed ? {} : { bridge: 'pnbr' }) },
    inside: {
      netns: pod,
      name,
      mac,
      mtu: 1450,
      addresses: routed ? addresses.map(host) : [`${ipv4}/16`, `${ipv6}/64`],
      routes: routed
        ? subnets.map((to, i) => ({
            to: i === 0 && network.netns === 'host' ? '0.0.0.0/0' : to,
            link: name,
            via: gateways[i] as string,
          }))
        : [],
      neighbours: routed ? gateways.map((g) => ({ link: name, address: g, mac: gatewayMac })) : [],
      sysctls: {},
      tables: [],
    },
    routes: routed ? addresses.map((a) => ({ to: host(a), link })) : [],
    neighbours: routed ? addresses.map((a) => ({ link, address: formatAddress(a), mac })) : [],
    forwarding: [],
    elements,
  }
}

/**
 * The port as one that its pod has beside others: what has its addresses finds
 * its routes, the default route to `gateways` among them, in a table of its own.
 */
export function beside(plan: PortPlan, table: number, gateways: string[] = []): PortPlan {
  const { inside } = plan
  const { name: link, addresses } = inside
  const onLink = addresses.filter((a) => !/\/(32|128)$/.test(a)).map((a) => prefixText(a))
  return {
    ...plan,
    inside: {
      ...inside,
      routes: [
        ...inside.routes.map((route) => ({ ...route, metric: table })),
        ...inside.routes.map((route) => ({ ...route, table })),
        ...onLink.map((to) => ({ to, link, table })),
        ...gateways.map((via) => ({ to: via.includes(':') ? '::/0' : '0.0.0.0/0', via, link, table })),
      ],
      rules: addresses.map(withoutLength).flatMap((from) => [
        { priority: table, from, table, exceptDefault: true },
        { priority: table + 100, from, exceptDefault: true },
        { priority: table + 200, from, table },
      ]),
    },
  }
}

const prefixText = (a: string): string => formatPrefix(parsePrefix(a) as Prefix)

/** A pod on the wire itself, as a macvlan of the NIC. */
export function direct(node: NodeName, n: number, pod: string, nic: 'eth1' | 'eth2'): PortPlan {
  const ipv4 = `192.168.${nic === 'eth1' ? 10 : 20}.${100 + 10 * digit(node) + n}`
  return {
    key: `direct${digit(node)}c${n}/eth0`,
    network: `default/${nic}`,
    pod: `default/direct${digit(node)}c${n}`,
    netns: 'host',
    link: { kind: 'macvlan', parent: nic, mode: 'bridge' },
    inside: {
      netns: pod,
      name: 'eth0',
      mac: macOf(address(ipv4)),
      mtu: 1500,
      addresses: [`${ipv4}/24`],
      routes: [],
      neighbours: [],
      sysctls: {},
      tables: [],
    },
    routes: [],
    neighbours: [],
    forwarding: [],
    elements: [],
  }
}

const address = (text: string): Address => parseAddress(text) as Address
