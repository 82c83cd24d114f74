import { parseAddress } from '../../lib/ip.ts'
import { macOf } from '../../lib/mac.ts'
import { type Bench, type Datagram, datapathConformance, type RawFrame, type Seen } from '../conformance.ts'
import { type NodeName, nicAddress } from '../conformance-plan.ts'
import type { Datapath } from '../port.ts'
import { memoryDatapath } from './datapath.ts'
import { type Journey, MemoryFabric } from './fabric.ts'
import { namespaceLines } from './lines.ts'

datapathConformance('memory', async () => memoryBench())

function memoryBench(): Bench {
  const fabric = new MemoryFabric(() => 0)
  fabric.addSwitch('phy-net0')
  fabric.addSwitch('phy-net1')
  const datapaths = new Map<NodeName, Datapath>()
  for (const node of ['n1', 'n2'] as const) {
    const nic = (name: 'eth1' | 'eth2', wire: string) => {
      const address = nicAddress(node, name)
      const mac = macOf(parseAddress(address) as never).replace('0a:58', '02:00')
      return { name, mac, mtu: 1500, addresses: [`${address}/24`], switch: wire }
    }
    fabric.addNode(node, [nic('eth1', 'phy-net0'), nic('eth2', 'phy-net1')])
    datapaths.set(node, memoryDatapath(fabric, node))
  }
  let sport = 32767
  const seen = (journey: Journey): Seen => ({
    received: journey.delivered.map((d) => d.netns).sort(),
    crossed: journey.crossed,
  })
  return {
    datapath: (node) => datapaths.get(node) as Datapath,
    async restart(node) {
      await datapaths.get(node)?.close()
      datapaths.set(node, memoryDatapath(fabric, node))
    },
    async addPod(_node, name) {
      const path = `/run/netns/${name}`
      fabric.addPodNamespace(path)
      return path
    },
    removePod: async (path) => fabric.removePodNamespace(path),
    send: async (from, { to, source, size }: Datagram) =>
      seen(
        fabric.send(from, {
          ip: { daddr: to, ...(source ? { saddr: source } : {}) },
          l4proto: 'udp',
          // A socket of its own each time.
          sport: ++sport,
          dport: 20007,
          size: size ?? 100,
        }),
      ),
    async sendFrame(from, link, frame: RawFrame) {
      const ether = { saddr: frame.etherSource, daddr: frame.etherDestination }
      if ('arp' in frame) return seen(fabric.sendFrame(from, link, { ether, arp: frame.arp }))
      const ip = { saddr: frame.source, daddr: frame.to, ttl: 64 }
      return seen(fabric.sendFrame(from, link, { ether, ip, l4proto: 'udp', dport: 20007 }))
    },
    loseLink: async (where, link) => fabric.loseLink(where, link),
    loseAddress: async (where, link, address) => fabric.loseAddress(where, link, address),
    setNic: async (node, nic, state) => (state === 'up' ? fabric.up(node, nic) : fabric.down(node, nic)),
    addForeign: async (node) =>
      fabric.setForeign(node, {
        netns: 'host',
        sysctls: {},
        links: [{ kind: 'bridge', name: 'foreign0', mtu: 1500 }],
        addresses: [{ link: 'foreign0', address: '198.51.100.1/24' }],
        routes: [{ to: '203.0.113.0/24', link: 'foreign0' }],
        neighbours: [],
        forwarding: [],
        tables: [
          {
            family: 'inet',
            name: 'foreign',
            sets: [],
            chains: [
              {
                name: 'in',
                base: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' },
                rules: [],
              },
            ],
          },
        ],
      }),
    listen: async (node, port) => fabric.listen(node, { port, families: [4], name: 'dnsmasq (process 812)' }),
    foreign: async (node) => namespaceLines(fabric.node(node).foreign),
    namespaces: async (node) => [...fabric.node(node).namespaces.keys()].filter((n) => n !== 'host').sort(),
    close: async () => {},
  }
}
