import { emptyNamespace, type Link, type NamespacePlan } from '../src/plan/node-plan.ts'

/** What a lab is made of, before anything runs on it. */
export interface Wiring {
  nodes: string[]
  /** Beside `eth0`: one switch behind each. */
  nics: string[]
  mtu?: number
}

/** A NIC of a node, and the switch behind it. */
export interface Wire {
  nic: string
  /** The switch's namespace. */
  switch: string
  /** `192.168.10`: the node's address ends in `nodeNumber`. */
  subnet: string
}

/**
 * `eth0` is the management network, where the machine's own addresses and the
 * outside world are; each other NIC is a wire of its own.
 */
export const wiresOf = ({ nics }: Wiring): Wire[] => [
  { nic: 'eth0', switch: 'switch-eth0', subnet: '192.168.1' },
  ...nics.map((nic, i) => ({ nic, switch: `switch-${nic}`, subnet: `192.168.${10 * (i + 1)}` })),
]

/** n1 has .11, n2 .12: what people expect to see. */
export const addressOf = (wire: Wire, node: number): string => `${wire.subnet}.${node + 11}`

/** Beyond the management network's router: somewhere that is neither node nor pod. */
export const outsideAddress = '203.0.113.1'

/** The management network's router, every machine's way to the outside world. */
export const routerAddress = '192.168.1.1'

/** Everything that is plugged together: a bridge per switch, a cable per node and NIC. The nodes' namespaces and routes are theirs. */
export function wiringPlan(wiring: Wiring): NamespacePlan[] {
  const wires = wiresOf(wiring)
  const mtu = wiring.mtu ?? 1500
  const switches = wires.map((wire): NamespacePlan => {
    const cables = wiring.nodes.map(
      (node, i): Link => ({
        kind: 'veth',
        name: node,
        mtu,
        bridge: 'switch',
        peer: { netns: node, name: wire.nic, mac: macOf(wires.indexOf(wire), i) },
      }),
    )
    const management = wire.nic === 'eth0'
    return {
      ...emptyNamespace(wire.switch),
      links: [{ kind: 'existing', name: 'lo' }, { kind: 'bridge', name: 'switch', mtu }, ...cables],
      addresses: management
        ? [
            { link: 'switch', address: `${routerAddress}/24` },
            { link: 'lo', address: `${outsideAddress}/32` },
          ]
        : [],
    }
  })
  const nodes = wiring.nodes.map(
    (node, i): NamespacePlan => ({
      ...emptyNamespace(node),
      links: [
        { kind: 'existing', name: 'lo' },
        ...wires.map((w): Link => ({ kind: 'existing', name: w.nic })),
      ],
      addresses: wires.map((wire) => ({ link: wire.nic, address: `${addressOf(wire, i)}/24` })),
    }),
  )
  return [...switches, ...nodes]
}

/** Says which NIC of which node it is. */
export const macOf = (nic: number, node: number): string =>
  `0a:00:00:00:${nic.toString(16).padStart(2, '0')}:${(node + 1).toString(16).padStart(2, '0')}`
