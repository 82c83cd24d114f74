import { familyOf } from '../../lib/ip.ts'
import type { ForeignTunnel } from '../../plan/foreign-tunnel.ts'
import type { Datapath } from '../port.ts'
import type { MemoryFabric } from './fabric.ts'

/** The datapath of one node of a fabric. A second one for the same node finds what the first one made. */
export function memoryDatapath(fabric: MemoryFabric, nodeName: string): Datapath {
  const node = fabric.node(nodeName)
  const listeners = new Set<() => void>()
  return {
    replace: async (plan) => node.replace(plan),
    attach: async (ports) => node.attach(ports),
    detach: async (ports) => node.detach(ports),
    check: async (ports) => node.check(ports),
    describe: async () => node.describe(),
    nics: async () =>
      [...node.nics.values()]
        .filter((nic) => nic.plugged && !node.nicHolder(nic.name))
        .map(({ name, mac, mtu, up, driver, pciAddress, addresses }) => ({
          name,
          mac,
          mtu,
          up,
          ...(driver === undefined ? {} : { driver }),
          ...(pciAddress === undefined ? {} : { pciAddress }),
          addresses: [...addresses].sort((a, b) => familyOf(a) - familyOf(b)),
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    tunnels: async () =>
      node.foreign.links
        .flatMap((link) => (link.kind === 'vxlan' ? [link] : []))
        .map(
          ({ name, port, vni, local }): ForeignTunnel => ({
            name,
            port,
            vni,
            families: [familyOf(local)],
            plain: true,
          }),
        )
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    programsOn: async (ports) =>
      [...node.programs].filter(({ port }) => ports.includes(port)).sort((a, b) => a.port - b.port),
    onNics(changed) {
      const listener = () => changed()
      listeners.add(listener)
      node.nicListeners.add(listener)
      return () => {
        listeners.delete(listener)
        node.nicListeners.delete(listener)
      }
    },
    close: async () => {
      for (const listener of listeners) node.nicListeners.delete(listener)
      listeners.clear()
    },
  }
}
