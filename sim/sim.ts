import { apiAt } from '../lab/control.ts'
import { found } from '../lab/founding.ts'
import { heldLines } from '../lab/held.ts'
import { allReady, type Kubelet, sayLost, startKubelet } from '../lab/kubelet.ts'
import type { Place, Sent } from '../lab/place.ts'
import { type Endpoint, endpointNamed, endpointsOf, type Probe, questionsFor } from '../lab/reach.ts'
import { startScheduler } from '../lab/schedule.ts'
import { addressOf, macOf, outsideAddress, routerAddress, type Wiring, wiresOf } from '../lab/wires.ts'
import { resources } from '../src/api/resources.ts'
import { startController } from '../src/controller/start.ts'
import { memoryDatapath } from '../src/datapath/memory/datapath.ts'
import { type Journey, MemoryFabric } from '../src/datapath/memory/fabric.ts'
import { serve } from '../src/kube/memory/http.ts'
import { MemoryKube } from '../src/kube/memory/store.ts'
import { type Clock, realClock } from '../src/lib/clock.ts'
import { Fault } from '../src/lib/fault.ts'
import { type Log, silentLog } from '../src/lib/log.ts'
import { gatewayMac } from '../src/lib/mac.ts'
import { emptyNamespace } from '../src/plan/node-plan.ts'
import { inProcess } from '../src/webhook/in-process.ts'
import { Machine } from './machine.ts'
import { type Asked, heard } from './rights.ts'
import { clockThrough, cord, kubeThrough, Outage } from './severed.ts'

/** Those with a service account of their own. */
export type Program = 'agent' | 'controller' | 'webhook'

export interface Simulated extends Place {
  /** What kubectl needs to find its API server. */
  kubeconfig: string
}

/**
 * A whole cluster in this process, all nodes Ready: the same agents,
 * controller, scheduler and kubelets as the lab's, on an API server and
 * kernels in memory. A packet walks the plans that the agents made. With
 * `admission`, the webhook has its say about what comes by kubectl. `hear`
 * is told of each request that a program of Polynet's makes.
 */
export async function startSim(
  wiring: Wiring,
  log: Log = silentLog,
  clock: Clock = realClock,
  { admission = false, hear }: { admission?: boolean; hear?: (program: Program, asked: Asked) => void } = {},
): Promise<Simulated> {
  const kube = new MemoryKube({ clock })
  const kubeOf = (program: Program) => (hear ? heard(kube, (asked) => hear(program, asked)) : kube)
  const outage = new Outage()
  await found(kube)
  const fabric = new MemoryFabric(() => clock.now())
  const wires = wiresOf(wiring)
  for (const wire of wires) fabric.addSwitch(wire.nic)
  const outside = { name: 'eth0', mac: '0a:00:00:00:00:ff', mtu: wiring.mtu ?? 1500, switch: 'eth0' }
  fabric.addNode('outside', [{ ...outside, addresses: [`${routerAddress}/24`, `${outsideAddress}/32`] }])
  const life = cord()
  const machines = new Map<string, Machine>()
  const kubelets = new Map<string, Kubelet>()

  const plugIn = (node: string) => {
    const i = wiring.nodes.indexOf(node)
    const nics = wires.map((wire, nic) => ({
      name: wire.nic,
      mac: macOf(nic, i),
      mtu: wiring.mtu ?? 1500,
      addresses: [`${addressOf(wire, i)}/24`],
      switch: wire.nic,
      driver: 'veth',
    }))
    fabric.addNode(node, nics)
    const routes = [{ to: '0.0.0.0/0', link: 'eth0', via: routerAddress }]
    fabric.setForeign(node, { ...emptyNamespace('host'), routes })
  }
  const switchOn = (node: string) => {
    const addresses = [addressOf(wires[0]!, wiring.nodes.indexOf(node))]
    const known = machines.get(node)
    const machine =
      known ?? new Machine({ node, addresses, fabric, kube: kubeOf('agent'), outage, clock, log })
    machines.set(node, machine)
    machine.startAgent()
    kubelets.set(node, startKubelet({ node, addresses, kube, runtime: machine, clock, log }))
  }
  const machineOf = (node: string): Machine => {
    const machine = machines.get(node)
    if (!machine) throw new Fault('missing', `find node ${node}`, `there are ${wiring.nodes.join(', ')}`)
    return machine
  }

  const controllerKube = kubeThrough(kubeOf('controller'), life, outage)
  const controller = await startController({ kube: controllerKube, clock: clockThrough(clock, life), log })
  const scheduler = startScheduler({ kube, clock, log })
  for (const node of wiring.nodes) {
    plugIn(node)
    switchOn(node)
  }

  const webhook = admission ? inProcess({ kube: kubeOf('webhook'), clock, log }) : undefined
  const served = await serve(kube, { logs: async () => '', admission: webhook?.admission })
  const place: Simulated = {
    kind: 'sim',
    api: (request) => apiAt(served, request),
    kubeconfig: served.kubeconfig,
    nodes: async () => wiring.nodes,
    async reach(only) {
      const { items } = await kube.list(resources.pods)
      const sandboxes = [...machines.values()].flatMap((machine) => machine.sandboxes())
      const netnsOf = new Map(sandboxes.map((each) => [`${each.pod.namespace}/${each.pod.name}`, each.netns]))
      const endpoints = items
        .filter((pod) => pod.status?.phase === 'Running')
        .flatMap(endpointsOf)
        .filter((each) => netnsOf.get(each.pod) && (only === undefined || only.includes(each.pod)))
      return questionsFor(endpoints).map((question) => walked(fabric, netnsOf, question))
    },
    async send(sent) {
      const { items } = await kube.list(resources.pods)
      const from = endpointNamed(items.flatMap(endpointsOf), sent)
      const names = new Map(
        [...machines.values()]
          .flatMap((machine) => machine.sandboxes())
          .map((each) => [each.netns, `${each.pod.namespace}/${each.pod.name}`]),
      )
      const netns = [...names].find(([, name]) => name === sent.pod)?.[0] ?? ''
      const { delivered } = sentOn(fabric, netns, from, sent)
      // Nobody lives in a network's own namespace.
      const heard = delivered.filter((each) => !/^node:[^/]+\//.test(each.netns))
      const got = heard.map((each) => names.get(each.netns) ?? nameOf(each.netns))
      return [...new Set(got)].filter((name) => name !== sent.pod).sort()
    },
    async exec(pod) {
      return { exit: 127, output: `exec ${pod}: nothing runs in a simulation; use a lab` }
    },
    async kill(node, what, at) {
      const machine = machineOf(node)
      if (what === 'agent') {
        machine.killAgent()
        if (at !== undefined) machine.startAgent(at)
        return
      }
      kubelets.get(node)?.close()
      kubelets.delete(node)
      machine.powerOff()
      fabric.removeNode(node)
      await sayLost(kube, node, clock)
    },
    async start(node) {
      if (kubelets.has(node)) return machineOf(node).startAgent()
      plugIn(node)
      switchOn(node)
    },
    async plug(node, nic, plugged) {
      if (plugged) fabric.plug(node, nic)
      else fabric.unplug(node, nic)
    },
    cni: (node, asked) => machineOf(node).ask(asked),
    outage: async (on) => outage.set(on),
    leftovers: async (node) => [
      ...(await memoryDatapath(fabric, node).describe()),
      ...heldLines(machineOf(node).journal),
    ],
    ready: () => allReady(kube, clock, () => [...kubelets.keys()]),
    async close() {
      scheduler.close()
      for (const kubelet of kubelets.values()) kubelet.close()
      for (const machine of machines.values()) machine.killAgent()
      life.cut()
      void controller.close()
      webhook?.close()
      await served.close()
    },
  }
  await place.ready()
  return place
}

/** `node:n1` as people say it. */
const nameOf = (netns: string): string => (netns === 'node:outside' ? 'outside' : netns.replace(':', ' '))

function sentOn(fabric: MemoryFabric, netns: string, from: Endpoint, sent: Sent): Journey {
  const own = from.addresses.find((each) => each.includes(':') === sent.to.includes(':'))
  const udp = { l4proto: 'udp', sport: 20778, dport: 20778 } as const
  const ip = { saddr: sent.source ?? own ?? '', daddr: sent.to, ttl: 64 }
  if (!(sent.source ?? sent.mac ?? sent.toMac)) return fabric.send(netns, { ...udp, ip })
  const ether = { saddr: sent.mac ?? from.mac ?? gatewayMac, daddr: sent.toMac ?? gatewayMac }
  return fabric.sendFrame(netns, from.interface, { ...udp, ether, ip })
}

type Question = ReturnType<typeof questionsFor>[number]

/** The question as a packet with the sender's own address, and whoever gets it answers. */
function walked(fabric: MemoryFabric, netnsOf: Map<string, string>, question: Question): Probe {
  const probe: Probe = { ...question, switches: [] }
  const family = (address: string) => address.includes(':')
  const source = probe.from.addresses.find((each) => family(each) === family(probe.address))
  if (source === undefined) return probe
  const udp = { l4proto: 'udp', sport: 20777, dport: 20777 } as const
  const sent = netnsOf.get(probe.from.pod)!
  const there = fabric.send(sent, { ...udp, ip: { saddr: source, daddr: probe.address } })
  const crossed = [...there.crossed]
  for (const { netns, packet } of there.delivered) {
    const pod = [...netnsOf].find(([, path]) => path === netns)?.[0]
    if (pod === undefined || !packet.ip) continue
    const back = fabric.send(netns, { ...udp, ip: { saddr: packet.ip.daddr, daddr: packet.ip.saddr } })
    crossed.push(...back.crossed)
    if (back.delivered.some((each) => each.netns === sent)) probe.answeredBy = pod
  }
  // A switch is named after the NICs behind it; `n1/eth1` is the NIC.
  probe.switches = [...new Set(crossed.filter((each) => !each.includes('/')))].sort()
  return probe
}
