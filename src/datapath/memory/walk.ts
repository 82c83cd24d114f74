import { type Address, parseAddress } from '../../lib/ip.ts'
import type { Route } from '../../plan/node-plan.ts'
import { type Hook, type Packet, trace } from '../../plan/trace.ts'
import { everyone, type Frame, frameText, isGroup, type Journey } from './frame.ts'
import type { FabricNic } from './node.ts'
import { castOf, type Device, isUp, type Memory, type Stack } from './stack.ts'

/** The world around a walk. */
export interface Streets {
  stack(id: string): Stack | undefined
  /** The stacks and devices that sit on a NIC: its holder first, then pods' interfaces made on it. */
  onNic(nic: FabricNic): { stack: Stack; device: Device }[]
  /** Where a frame that leaves by `nic` arrives, by the switch's knowledge; the switch learns from it. */
  across(nic: FabricNic, frame: Frame): FabricNic[]
  /** The namespace behind a tunnel packet that arrived at a node. */
  tunnelEnd(stack: Stack, vni: number, port: number): { stack: Stack; device: Device } | undefined
}

export class Walk {
  readonly journey: Journey = { delivered: [], dropped: [], crossed: [], path: [] }
  readonly #streets: Streets
  #left = 10_000
  #depth = 0
  /** While addresses are resolved, drops are reasons for no answer, not ends of the packet. */
  #asking: string[] | undefined

  constructor(streets: Streets) {
    this.#streets = streets
  }

  /** A local process sends; headers below IP are made here. */
  output(stack: Stack, sent: Frame, by?: string, crossed: string[] = []): void {
    const daddr = sent.ip?.daddr ?? ''
    const to = parseAddress(daddr)
    if (!sent.ip || !to) {
      this.#drop(stack, `${daddr} is no address`)
      return
    }
    const cast = castOf(stack, daddr)
    const route = cast === 'local' ? { link: 'lo' } : this.#route(stack, to, sent.ip.saddr, by)
    if (!route) {
      this.#drop(stack, `no route to ${daddr}${by === undefined ? '' : ` by ${by}`}`)
      return
    }
    if ('blackhole' in route && route.blackhole) {
      this.#drop(stack, `${daddr} is nobody's`)
      return
    }
    const device = stack.devices.get(route.link) as Device
    const saddr =
      sent.ip.saddr || sourceFor(stack, device.name, to, 'source' in route ? route.source : undefined)
    if (cast === 'local' && !sent.ip.saddr) sent.ip.saddr = daddr
    else if (!saddr) {
      this.#drop(stack, `no address to reach ${daddr} from`)
      return
    }
    const frame: Frame = { ...sent, ip: { ttl: 64, ...sent.ip, saddr: saddr as string }, daddrType: cast }
    const known = this.#track(stack, frame)
    const asked = this.#ask(stack, { ...known, oifname: device.name }, { family: 'inet', hook: 'output' })
    if (asked) this.#leave(stack, device, asked, ('via' in route ? route.via : undefined) ?? daddr, crossed)
  }

  /** A frame as it is leaves by a device, whatever is in it. */
  transmit(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    if (this.#left-- < 0 || this.#depth > 200) {
      this.#drop(stack, 'it goes in circles')
      return
    }
    if (!isUp(device)) {
      this.#drop(stack, `${device.name} is down`)
      return
    }
    const checked = this.#ask(
      stack,
      { ...frame, oifname: device.name },
      { family: 'netdev', hook: 'egress', device: device.name },
    )
    if (!checked) return
    this.journey.path.push(`${stack.label} ${device.name}: out ${frameText(frame)}`)
    this.#depth++
    const { iifname: _i, oifname: _o, mark: _m, ...bare } = checked
    switch (device.kind) {
      case 'lo':
        this.receive(stack, device, bare, crossed)
        break
      case 'veth': {
        const peer = device.peer && this.#streets.stack(device.peer.id)
        const end = peer?.devices.get(device.peer?.name ?? '')
        if (!peer || !end) this.#drop(stack, `${device.name} has no other end`)
        else if (bare.size > end.mtu)
          this.#drop(peer, `${bare.size} bytes are more than ${end.name}'s MTU of ${end.mtu}`)
        else this.receive(peer, end, bare, crossed)
        break
      }
      case 'bridge':
        this.#bridgeOut(stack, device, bare, crossed)
        break
      case 'vxlan':
        this.#encapsulate(stack, device, bare, crossed)
        break
      case 'nic':
        this.#wire(device.nic as FabricNic, bare, crossed)
        break
      case 'macvlan':
      case 'ipvlan':
      case 'vlan':
        this.#onParent(device, bare, crossed)
        break
    }
    this.#depth--
  }

  receive(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    if (!isUp(device)) return
    const arrived = this.#ask(
      stack,
      { ...frame, iifname: device.name },
      { family: 'netdev', hook: 'ingress', device: device.name },
    )
    if (!arrived) return
    if (device.bridge !== undefined) {
      this.#bridgeIn(stack, device, arrived, crossed)
      return
    }
    const to = arrived.ether?.daddr
    const mine =
      to === undefined || isGroup(to) || to === device.mac || device.kind === 'lo' || device.kind === 'ipvlan'
    if (!mine) return
    if (arrived.arp) this.#arp(stack, device, arrived, crossed)
    else if (arrived.ip) this.#ip(stack, device, arrived, crossed)
  }

  #ip(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    const ip = frame.ip as NonNullable<Packet['ip']>
    const to = parseAddress(ip.daddr)
    const from = parseAddress(ip.saddr)
    if (!to || !from) {
      this.#drop(stack, 'not an IP packet')
      return
    }
    const cast = castOf(stack, ip.daddr)
    const known = this.#track(stack, { ...frame, daddrType: cast })
    const taken = this.#ask(stack, known, { family: 'inet', hook: 'prerouting' })
    if (!taken) return
    const martian = from.family === 4 && device.kind !== 'lo' && stack.addresses.has(ip.saddr)
    if (martian) {
      this.#drop(stack, `${ip.saddr} is an address of its own, from ${device.name}`)
      return
    }
    if (from.family === 4 && stack.sysctls['ipv4/conf/all/rp_filter'] === '1' && device.kind !== 'lo')
      if (stack.routing.lookup(from, ip.daddr)?.route.link !== device.name) {
        this.#drop(stack, `the way back to ${ip.saddr} is not by ${device.name}`)
        return
      }
    const packet = stack.tracks ? stack.memory.connections.untranslate(taken) : taken
    const target = packet.ip?.daddr as string
    if (castOf(stack, target) !== 'unicast') {
      this.#input(stack, device, packet, crossed)
      return
    }
    this.#forward(stack, packet, target, crossed)
  }

  #input(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    const packet = this.#ask(stack, frame, { family: 'inet', hook: 'input' })
    if (!packet) return
    this.#confirm(stack, packet)
    if (packet.target !== undefined) {
      this.#discovery(stack, device, packet, crossed)
      return
    }
    const { tunnelled, dport = 0 } = packet
    const end = tunnelled && this.#streets.tunnelEnd(stack, tunnelled.vni, dport)
    if (end && tunnelled?.frame.ether?.saddr === end.device.mac)
      this.#drop(end.stack, 'a frame of its own came back by the tunnel')
    else if (end && tunnelled) this.receive(end.stack, end.device, tunnelled.frame, crossed)
    else if (tunnelled && stack.id.startsWith('node:'))
      this.#drop(stack, `no tunnel has VNI ${tunnelled.vni} on port ${dport}`)
    else this.#deliver(stack, device, packet, crossed)
  }

  #deliver(stack: Stack, device: Device, packet: Frame, crossed: string[]): void {
    if (this.#asking) return
    this.journey.path.push(`${stack.label} ${device.name}: delivered ${frameText(packet)}`)
    this.journey.delivered.push({ netns: stack.id, link: device.name, packet, crossed })
  }

  #forward(stack: Stack, frame: Frame, daddr: string, crossed: string[]): void {
    const ip = frame.ip as NonNullable<Packet['ip']>
    const to = parseAddress(daddr) as Address
    const setting = to.family === 4 ? 'ipv4/ip_forward' : 'ipv6/conf/all/forwarding'
    if (stack.sysctls[setting] !== '1') {
      this.#drop(stack, `${daddr} is not here, and ${setting} is off`)
      return
    }
    const route = this.#route(stack, to, ip.saddr)
    if (!route) {
      this.#drop(stack, `no route to ${daddr}`)
      return
    }
    if (route.blackhole) {
      this.#drop(stack, `${daddr} is nobody's`)
      return
    }
    const ttl = (ip.ttl ?? 64) - 1
    if (ttl <= 0) {
      this.#drop(stack, 'its time to live is over')
      return
    }
    const device = stack.devices.get(route.link) as Device
    const packet = this.#ask(
      stack,
      { ...frame, ip: { ...ip, ttl }, oifname: device.name },
      { family: 'inet', hook: 'forward' },
    )
    if (packet) this.#leave(stack, device, packet, route.via ?? daddr, crossed)
  }

  #route(stack: Stack, to: Address, from: string, by?: string): Route | undefined {
    const found = stack.routing.lookup(to, from, by)
    if (found?.rule && !this.#asking)
      this.journey.path.push(
        `${stack.label}: from ${from}, so table ${found.rule.table ?? 'main'} sends it by ${found.route.link}`,
      )
    return found?.route
  }

  /** After routing: translation, size, neighbour, and out. */
  #leave(stack: Stack, device: Device, frame: Frame, hop: string, crossed: string[]): void {
    const asked = { ...frame, oifname: device.name }
    const passed = this.#ask(stack, asked, { family: 'inet', hook: 'postrouting' })
    if (!passed) return
    const to = passed.masquerade ? parseAddress(passed.ip?.daddr ?? '') : undefined
    const packet = stack.tracks
      ? stack.memory.connections.translate(passed, to && sourceFor(stack, device.name, to))
      : passed
    this.#confirm(stack, passed)
    if (packet.size > device.mtu && !packet.tunnelled) {
      this.#drop(stack, `${packet.size} bytes are more than ${device.name}'s MTU of ${device.mtu}`)
      return
    }
    if (packet.size > device.mtu) this.journey.path.push(`${stack.label}: fragmented for ${device.name}`)
    if (device.kind === 'lo') {
      this.receive(stack, device, packet, crossed)
      return
    }
    const daddr = this.#macOf(stack, device, hop)
    if (daddr === undefined) return
    const { daddrType: _, ctState: _s, masquerade: _m, ...bare } = packet
    this.transmit(stack, device, { ...bare, ether: { saddr: device.mac, daddr } }, crossed)
  }

  #macOf(stack: Stack, device: Device, hop: string): string | undefined {
    const cast = castOf(stack, hop)
    if (cast === 'broadcast' || cast === 'multicast') return everyone
    const key = `${device.name} ${hop}`
    const known = stack.neighbours.get(key) ?? stack.memory.neighbours.get(key)
    if (known) return known
    if (known === '' || device.noarp || device.kind === 'lo') {
      this.#drop(stack, `${device.name} has no neighbour entry for ${hop}`)
      return undefined
    }
    const outer = this.#asking
    const reasons: string[] = []
    this.#asking = reasons
    stack.memory.neighbours.set(key, '')
    this.transmit(stack, device, question(stack, device, hop), [])
    const answer = stack.memory.neighbours.get(key)
    if (!answer) stack.memory.neighbours.delete(key)
    this.#asking = outer
    if (answer) return answer
    this.#drop(stack, [`nobody on ${device.name} answers for ${hop}`, ...new Set(reasons)].join('; '))
    return undefined
  }

  #arp(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    const arp = frame.arp as NonNullable<Packet['arp']>
    if (device.noarp || !this.#ask(stack, frame, { family: 'arp', hook: 'input' })) return
    learn(stack.memory, device, arp.senderIp, arp.senderMac)
    if (arp.operation === 'reply' || !stack.addresses.has(arp.targetIp)) return
    this.transmit(
      stack,
      device,
      {
        size: 28,
        ether: { saddr: device.mac, daddr: arp.senderMac },
        arp: {
          operation: 'reply',
          senderMac: device.mac,
          senderIp: arp.targetIp,
          targetMac: arp.senderMac,
          targetIp: arp.senderIp,
        },
      },
      crossed,
    )
  }

  #discovery(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    const { ether, ip, target } = frame
    if (!ether || !ip || target === undefined) return
    if (frame.icmpType === 'nd-neighbor-advert') {
      learn(stack.memory, device, target, ether.saddr)
      return
    }
    learn(stack.memory, device, ip.saddr, ether.saddr)
    if (!stack.addresses.has(target)) return
    this.transmit(
      stack,
      device,
      {
        size: 72,
        ether: { saddr: device.mac, daddr: ether.saddr },
        ip: { saddr: target, daddr: ip.saddr, ttl: 255 },
        l4proto: 'icmpv6',
        icmpType: 'nd-neighbor-advert',
        target,
      },
      crossed,
    )
  }

  #bridgeIn(stack: Stack, port: Device, frame: Frame, crossed: string[]): void {
    const bridge = port.bridge as string
    const taken = this.#ask(stack, frame, { family: 'bridge', hook: 'prerouting' })
    const ether = taken?.ether
    if (!taken || !ether) return
    stack.memory.ports.set(`${bridge} ${ether.saddr}`, port.name)
    const device = stack.devices.get(bridge)
    const ports = [...stack.devices.values()].filter((d) => d.bridge === bridge)
    const own = ether.daddr === device?.mac || ports.some((p) => p.mac === ether.daddr)
    if (!own)
      for (const out of this.#bridgePorts(stack, bridge, ether.daddr)) {
        if (out === port || (out.isolated && port.isolated)) continue
        const passed = this.#ask(
          stack,
          { ...taken, oifname: out.name },
          { family: 'bridge', hook: 'forward' },
        )
        if (passed) this.#bridgePost(stack, out, passed, crossed)
      }
    if (!device || !(own || isGroup(ether.daddr))) return
    const up = this.#ask(stack, taken, { family: 'bridge', hook: 'input' })
    if (up)
      this.receive(stack, device, { ...up, ether: own ? { ...ether, daddr: device.mac } : ether }, crossed)
  }

  #bridgeOut(stack: Stack, bridge: Device, frame: Frame, crossed: string[]): void {
    for (const out of this.#bridgePorts(stack, bridge.name, frame.ether?.daddr ?? everyone)) {
      const passed = this.#ask(stack, { ...frame, oifname: out.name }, { family: 'bridge', hook: 'output' })
      if (passed) this.#bridgePost(stack, out, passed, crossed)
    }
  }

  #bridgePost(stack: Stack, out: Device, frame: Frame, crossed: string[]): void {
    const asked = { ...frame, iifname: undefined }
    const passed = this.#ask(stack, asked, { family: 'bridge', hook: 'postrouting' })
    if (!passed) return
    if (passed.size > out.mtu) {
      this.#drop(stack, `${passed.size} bytes are more than ${out.name}'s MTU of ${out.mtu}`)
      return
    }
    this.transmit(stack, out, passed, crossed)
  }

  #bridgePorts(stack: Stack, bridge: string, daddr: string): Device[] {
    const ports = [...stack.devices.values()].filter((d) => d.bridge === bridge)
    if (isGroup(daddr)) return ports
    const planned = ports.find((p) => p.kind !== 'vxlan' && p.forwarding.some((f) => f.mac === daddr))
    const learned = stack.devices.get(stack.memory.ports.get(`${bridge} ${daddr}`) ?? '')
    const known = planned ?? (learned?.bridge === bridge ? learned : undefined)
    return known ? [known] : ports.filter((p) => !p.isolated)
  }

  #encapsulate(stack: Stack, device: Device, frame: Frame, crossed: string[]): void {
    const { vni, port, local, underlay } = device.vxlan as NonNullable<Device['vxlan']>
    const ends = (mac: string) => device.forwarding.filter((f) => f.mac === mac && f.endpoint !== undefined)
    const exact = ends(frame.ether?.daddr ?? '')
    const to = exact.length > 0 ? exact : ends('00:00:00:00:00:00')
    const host = stack.node && this.#streets.stack(`node:${stack.node.name}`)
    if (to.length === 0 || !host) {
      this.#drop(stack, `${device.name} has no forwarding entry for ${frame.ether?.daddr}`)
      return
    }
    const headers = local.includes(':') ? 70 : 50
    for (const { endpoint } of to)
      this.output(
        host,
        {
          size: frame.size + headers,
          ip: { saddr: local, daddr: endpoint as string },
          l4proto: 'udp',
          sport: 49152,
          dport: port,
          vni,
          tunnelled: { vni, frame },
        },
        underlay,
        crossed,
      )
  }

  #onParent(device: Device, frame: Frame, crossed: string[]): void {
    const nic = device.parent as FabricNic
    const to = frame.ether?.daddr ?? everyone
    const neighbours = this.#streets.onNic(nic).filter((s) => s.device !== device && s.device.parent === nic)
    if ((device.kind === 'macvlan' && device.mode === 'bridge') || device.kind === 'ipvlan')
      for (const { stack, device: other } of neighbours) {
        const direct = device.kind === other.kind && (isGroup(to) || accepts(other, stack, frame))
        if (!direct) continue
        this.receive(stack, other, frame, crossed)
        if (!isGroup(to)) return
      }
    this.#wire(nic, device.vlan === undefined ? frame : { ...frame, vlan: device.vlan }, crossed)
  }

  #wire(nic: FabricNic, frame: Frame, crossed: string[]): void {
    if (!nic.up || !nic.plugged) {
      this.journey.dropped.push(`dropped at ${nic.node}: ${nic.name} is down`)
      return
    }
    const way = [...crossed, `${nic.node}/${nic.name}`, nic.switch]
    this.#crossed(way)
    const ends = this.#streets.across(nic, frame)
    if (ends.length === 0 && !this.#asking)
      this.journey.dropped.push(`dropped at ${nic.switch}: nobody takes ${frameText(frame)}`)
    for (const end of ends) {
      const arrived = [...way, `${end.node}/${end.name}`]
      this.#crossed(arrived)
      const seats = this.#streets.onNic(end)
      const passthru = seats.some((s) => s.device.mode === 'passthru')
      for (const { stack, device } of seats) {
        const untagged = device.kind === 'vlan' ? { ...frame, vlan: undefined } : frame
        if (device.vlan !== frame.vlan) continue
        if (
          passthru
            ? device.mode !== 'passthru' && device.parent
            : device.parent && !accepts(device, stack, frame)
        )
          continue
        this.receive(stack, device, untagged, arrived)
      }
    }
  }

  #crossed(places: string[]): void {
    if (this.#asking) return
    const all = new Set([...this.journey.crossed, ...places])
    this.journey.crossed = [...all].sort()
  }

  /** The packet as it goes on, or undefined when a rule dropped it. */
  #ask(stack: Stack, packet: Frame, hook: Hook): Frame | undefined {
    if (stack.tables.length === 0) return packet
    const seen = trace(stack.tables, packet, hook, stack.memory.limits)
    for (const line of seen.path) this.journey.path.push(`${stack.label} ${hook.hook}: ${line}`)
    if (seen.verdict === 'drop') {
      this.#drop(stack, seen.reason ?? '')
      return undefined
    }
    if (seen.mark !== undefined) packet.mark = seen.mark
    if (seen.notrack) packet.ctState = 'untracked'
    if (seen.masquerade) packet.masquerade = true
    return packet
  }

  #drop(stack: Stack, reason: string): void {
    this.journey.path.push(`${stack.label}: dropped: ${reason}`)
    if (this.#asking) this.#asking.push(`${stack.label}: ${reason}`)
    else this.journey.dropped.push(`dropped at ${stack.label}: ${reason}`)
  }

  #track(stack: Stack, frame: Frame): Frame {
    return stack.tracks ? stack.memory.connections.track(frame) : frame
  }

  #confirm(stack: Stack, frame: Frame): void {
    if (stack.tracks) stack.memory.connections.confirm(frame)
  }
}

/** Whether a pod's interface on a NIC takes the frame: by its MAC, or for ipvlan, which has its parent's, by its addresses. */
function accepts(device: Device, stack: Stack, frame: Frame): boolean {
  const to = frame.ether?.daddr ?? everyone
  if (isGroup(to)) return true
  if (device.kind !== 'ipvlan') return to === device.mac
  return stack.addresses.get(frame.ip?.daddr ?? frame.arp?.targetIp ?? '') === device.name
}

/** An answer is taken when it was asked for, or corrects what is known. */
function learn(memory: Memory, device: Device, address: string, mac: string): void {
  const key = `${device.name} ${address}`
  if (memory.neighbours.has(key)) memory.neighbours.set(key, mac)
}

function sourceFor(stack: Stack, link: string, to: Address, preferred?: string): string | undefined {
  if (preferred !== undefined) return preferred
  let any: string | undefined
  for (const [address, device] of stack.addresses) {
    if (parseAddress(address)?.family !== to.family || device === 'lo') continue
    if (device === link) return address
    any ??= address
  }
  return any
}

function question(stack: Stack, device: Device, hop: string): Frame {
  const to = parseAddress(hop) as Address
  const own = sourceFor(stack, device.name, to)
  if (to.family === 4)
    return {
      size: 28,
      ether: { saddr: device.mac, daddr: everyone },
      arp: { operation: 'request', senderMac: device.mac, senderIp: own ?? '0.0.0.0', targetIp: hop },
    }
  return {
    size: 72,
    ether: { saddr: device.mac, daddr: `33:33:ff:${device.mac.slice(9)}` },
    ip: { saddr: own ?? '::', daddr: 'ff02::1', ttl: 255 },
    l4proto: 'icmpv6',
    icmpType: 'nd-neighbor-solicit',
    target: hop,
  }
}
