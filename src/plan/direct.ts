import { familyOf } from '../lib/ip.ts'
import type { PortLink, PortPlan } from './node-plan.ts'
import { leasedGateway, macOfPort, podPort, podRouting } from './pod-port.ts'
import type { Element, Table } from './ruleset.ts'
import { mtuOf } from './tunnel.ts'
import type { HeldAttachment, NetworkView } from './view.ts'

/**
 * A pod on the physical network itself. There is no node side that its
 * packets pass, so what it may send is checked inside its own namespace, where
 * a pod with NET_ADMIN can undo it; the network's conditions say so.
 */
export function planDirectPort(view: NetworkView, held: HeldAttachment): PortPlan {
  const { head, addresses, families, sysctls } = podPort(view, held)
  const link = linkOf(view)
  // ipvlan and host devices have the MAC that they have.
  const mac = link.kind === 'macvlan' && addresses.length > 0 ? macOfPort(held, addresses) : held.mac
  return {
    ...head,
    netns: 'host',
    link,
    inside: {
      netns: held.netns,
      name: held.interface,
      ...(mac ? { mac } : {}),
      mtu: mtuOf(view.network),
      addresses: held.addresses.map((a) => a.address),
      ...podRouting(view.network, held, families, (family) => leasedGateway(held, family), 'on-link'),
      neighbours: [],
      sysctls,
      tables: [ownAddressesOnly(held.interface, mac, addresses)],
    },
    routes: [],
    neighbours: [],
    forwarding: [],
    elements: [],
  }
}

function linkOf(view: NetworkView): PortLink {
  const { direct, vlan } = view.network.spec
  switch (direct?.mode) {
    case 'ipvlan':
      return { kind: 'ipvlan', parent: view.wire.nic, mode: 'l2' }
    case 'vlan':
      return { kind: 'vlan', parent: view.wire.nic, id: vlan ?? 1 }
    case 'host-device':
      return { kind: 'host-device', device: view.wire.nic }
    default:
      return { kind: 'macvlan', parent: view.wire.nic, mode: 'bridge' }
  }
}

function ownAddressesOnly(device: string, mac: string | undefined, addresses: string[]): Table {
  const keys = (family: 4 | 6): Element[] =>
    addresses.filter((a) => familyOf(a) === family).map((a) => ({ key: [a] }))
  return {
    family: 'netdev',
    name: `polynet-${device}`,
    sets: [
      { name: 'own', key: ['ip saddr'], elements: keys(4) },
      { name: 'own-arp', key: ['arp saddr ip'], elements: keys(4) },
      { name: 'own6', key: ['ip6 saddr'], elements: keys(6) },
    ],
    chains: [
      {
        name: 'leaving',
        base: { type: 'filter', hook: 'egress', priority: 0, policy: 'drop', devices: [device] },
        rules: [
          ...(mac
            ? [{ do: [{ match: 'ether saddr' as const, not: mac }, { verdict: 'drop' as const }] }]
            : []),
          {
            do: [
              { match: 'ether type', is: 'ip' },
              { lookup: ['ip saddr'], in: 'own' },
              { verdict: 'accept' },
            ],
          },
          {
            do: [
              { match: 'ether type', is: 'arp' },
              { lookup: ['arp saddr ip'], in: 'own-arp' },
              { verdict: 'accept' },
            ],
          },
          {
            comment: 'neighbour discovery from link-local addresses',
            do: [
              { match: 'ether type', is: 'ip6' },
              { match: 'icmpv6 type', is: ['nd-neighbor-solicit', 'nd-neighbor-advert'] },
              { verdict: 'accept' },
            ],
          },
          {
            do: [
              { match: 'ether type', is: 'ip6' },
              { lookup: ['ip6 saddr'], in: 'own6' },
              { verdict: 'accept' },
            ],
          },
        ],
      },
    ],
  }
}
