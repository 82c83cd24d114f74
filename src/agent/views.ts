import type { HostPhysicalNetwork, Nic, NicMapping } from '../api/host-physical-network.ts'
import { defaultNetwork, isDefaultNetwork, lacksRoomForIPv6, type Network } from '../api/network.ts'
import { sharedByDefault } from '../attach/asking.ts'
import { checked } from '../attach/making.ts'
import { overlapOf, overlapWith, subnetsOverlap } from '../attach/overlap.ts'
import { Fault, sentence } from '../lib/fault.ts'
import {
  bitsOf,
  contains,
  familyOf,
  formatPrefix,
  hostPrefixOf,
  leastMtu,
  type Prefix,
  parsePrefix,
  withoutLength,
} from '../lib/ip.ts'
import { equal } from '../lib/json.ts'
import { type PortHolder, portTaken, tunnelRefused } from '../plan/foreign-tunnel.ts'
import { mtuOf, nodeTunnelPort } from '../plan/tunnel.ts'
import { transit } from '../plan/uplink.ts'
import type { NetworkView, Peer, Remote, Wire } from '../plan/view.ts'
import { mappingsFor, vlanOutside } from '../plan/wire.ts'
import { cidrOf, endpointOf, peersBehind } from './plausible.ts'
import { sameToNodes, type Watched } from './watched.ts'

/** Where clouds tell an instance what it is, and more, by IPv6 addresses that are not link-local: AWS, Google Compute Engine. */
const metadata = ['fd00:ec2::/32', 'fd20:ce::254/128']

/** How this node sees the cluster's networks: values for `plan/`, out of what is watched and the NICs at hand. */
export class Views {
  readonly #watched: Watched
  readonly #node: string
  readonly #alwaysClosed: string[]
  #nics: Nic[] = []
  /** Others' tunnels and programs, which may have a port of ours. */
  holders: readonly PortHolder[] = []
  /** What each network overlaps, by UID. */
  readonly #overlaps = new Map<string, { network: Network; what: string | undefined }>()
  /** Each network as it was last seen, by UID. */
  readonly #seen = new Map<string, Seen>()

  /** `closed`: what else no logical network reaches, nor may have as its own where the host has routes to it. */
  constructor(watched: Watched, node: string, closed: readonly string[] = []) {
    this.#alwaysClosed = ['169.254.0.0/16', 'fe80::/10', ...metadata, transit.ipv6, ...closed]
    this.#watched = watched
    this.#node = node
    watched.networks.onChange(({ type, object, before }) => {
      if (type !== 'MODIFIED' || !equal(object.spec.subnets, before?.spec.subnets))
        this.#forgetOverlaps(object, before ?? object)
      if (type === 'DELETED') this.#seen.delete(object.metadata.uid ?? '')
    })
    // A Node changes all the time, and comparing the subnets of many networks takes long.
    watched.node.onChange(({ type, object, before }) => {
      if (type !== 'MODIFIED' || !equal(object.spec.podCIDRs, before?.spec.podCIDRs)) this.#overlaps.clear()
    })
    watched.serviceCIDRs.onChange(() => this.#overlaps.clear())
  }

  set nics(nics: Nic[]) {
    if (equal(nics, this.#nics)) return
    this.#nics = nics
    this.#overlaps.clear()
  }

  /** Every PhysicalNetwork on this node, usable or not. */
  mappings(): NicMapping[] {
    const node = this.#watched.node.list()[0]
    const host: HostPhysicalNetwork | undefined = this.#watched.host.list()[0]
    return mappingsFor(
      this.#watched.physicalNetworks.list(),
      host,
      this.#nics,
      node?.metadata.labels ?? {},
      this.holders,
    )
  }

  /** The UDP ports that tunnels of ours have, or would. */
  tunnelPorts(): number[] {
    const given = this.#watched.physicalNetworks.list()
    return [
      nodeTunnelPort,
      ...given.flatMap(({ spec, status }) => spec.tunnelPort ?? status?.tunnelPort ?? []),
    ]
  }

  /** Why networks without a physical network have no tunnels from here: somebody has their port. Undefined: nobody has. */
  nodeWireTaken(): string | undefined {
    const taken = portTaken(nodeTunnelPort, this.#nodeEndpoint(), this.holders)
    return taken && `${taken}; give that another port`
  }

  /** How this node reaches the network's wire. Throws `unavailable` with the reason when it does not. */
  wire(network: Network): Wire {
    const name = network.spec.physicalNetwork
    return name === undefined ? this.#nodeWire() : this.#physicalWire(network, name)
  }

  /** Throws `unavailable` while this node cannot render the network, and `invalid` where nobody can, with the reason. */
  network(network: Network): NetworkView {
    const { namespace, name } = network.metadata
    const doing = `render network ${namespace}/${name}`
    // Its owner may change it under its pods, and the kernel takes the plan of all networks or none.
    const senseless = problemOf(network)
    if (senseless) throw new Fault('invalid', doing, senseless)
    // Why there is no wire explains also why the controller has given nothing yet.
    const wire = this.wire(network)
    const unroutable = problemOver(wire, network)
    if (unroutable) throw new Fault('invalid', doing, unroutable)
    const given = network.status?.mtu !== undefined
    if (!given || (network.spec.topology !== 'Direct' && network.status?.vni === undefined))
      throw new Fault(
        'unavailable',
        doing,
        `it has no ${given ? 'VXLAN identifier' : 'MTU'} yet; see its Ready condition, and whether the controller runs`,
      )
    return this.over(network, wire)
  }

  /**
   * The network as it is now, over a wire that is known: the very same view as
   * before while nothing of it has changed for this node. There are many
   * networks and other nodes' blocks, and every change of one asks for all.
   */
  over(network: Network, wire: Wire): NetworkView {
    const { uid = '' } = network.metadata
    const before = this.#seen.get(uid)
    const revision = this.#watched.revisionOf(network)
    const overlap = this.overlap(network)
    const severed = this.#isSevered(network, wire)
    const still =
      before &&
      sameToNodes(before.view.network, network) &&
      equal(before.view.wire, wire) &&
      (before.view.severed ?? false) === severed
        ? before
        : undefined
    if (still?.revision === revision && still.overlap === overlap) return still.view
    const next: NetworkView = {
      // Same objects, same plans.
      network: still?.view.network ?? network,
      place: isDefaultNetwork(network) ? 'host' : 'own',
      wire: still?.view.wire ?? wire,
      remotes: this.#remotes(network, wire),
      local: overlap ? [] : this.#ownBlocks(network),
      peers: network.spec.topology === 'Layer2' ? this.#peers(network, wire) : [],
      ...(severed ? { severed } : {}),
    }
    const view = still && equal(still.view, next) ? still.view : next
    this.#seen.set(uid, { revision, overlap, view })
    return view
  }

  #isSevered({ spec, status }: Network, { nic, endpoint, tunnelPort }: Wire): boolean {
    if (spec.topology === 'Direct') return false
    const there = this.#nics.some(({ name }) => name === nic)
    return !there || tunnelRefused(status?.vni, tunnelPort, endpoint, this.holders)
  }

  #remotes(network: Network, wire: Wire): Remote[] {
    const remotes: Remote[] = []
    for (const block of this.#watched.blocksOf(network)) {
      if (block.spec.node === this.#node) continue
      const cidr = cidrOf(block, network)
      const endpoint = endpointOf(block.spec.endpoint, wire.endpoint)
      if (cidr && endpoint) remotes.push({ cidr, endpoint })
    }
    return remotes
  }

  /** Why pods cannot have the network as eth0, nor the host routes to it: what its subnets overlap, in words. */
  overlap(network: Network): string | undefined {
    const { uid = '' } = network.metadata
    const known = this.#overlaps.get(uid)
    if (known) return known.what
    const what = this.#overlapOf(network)
    this.#overlaps.set(uid, { network, what })
    return what
  }

  /** Of the network that has changed, and of those that it overlaps or did. */
  #forgetOverlaps(now: Network, before: Network): void {
    for (const [uid, { network }] of this.#overlaps)
      if (
        uid === now.metadata.uid ||
        uid === before.metadata.uid ||
        subnetsOverlap(now, network) ||
        subnetsOverlap(before, network)
      )
        this.#overlaps.delete(uid)
  }

  #overlapOf(network: Network): string | undefined {
    const taken = new Map(this.#alwaysClosed.map((text) => [text, 'a closed range']))
    for (const prefix of this.#services()) taken.set(formatPrefix(prefix), "the Services' addresses")
    for (const nic of this.#nics)
      for (const text of nic.addresses ?? []) {
        const prefix = parsePrefix(text)
        if (prefix) taken.set(formatPrefix(prefix), `the network of the nodes' ${nic.name}`)
      }
    for (const text of this.#watched.node.list()[0]?.spec.podCIDRs ?? []) taken.set(text, "the node's pods")
    return overlapOf(network, this.#watched.networks.list()) ?? overlapWith(network, taken)
  }

  /** What logical networks must not reach by their uplinks: everything link-local, the wires this node is on, the other nodes, pods and services. */
  closed(views: NetworkView[]): string[] {
    const closed = new Set(this.#alwaysClosed)
    for (const prefix of this.#services()) addTo(closed, prefix)
    for (const nic of this.#nics) for (const text of nic.addresses ?? []) addTo(closed, parsePrefix(text))
    for (const { remotes } of views) for (const { endpoint } of remotes) closed.add(hostPrefixOf(endpoint))
    const own = this.#watched.networks.get(defaultNetwork)
    for (const { cidr } of own?.spec.subnets ?? []) closed.add(cidr)
    return withoutContained(closed)
  }

  #services(): Prefix[] {
    const all = this.#watched.serviceCIDRs.list().flatMap(({ spec }) => spec?.cidrs ?? [])
    return all.sort().flatMap((text) => parsePrefix(text) ?? [])
  }

  #ownBlocks(network: Network): string[] {
    return this.#watched
      .blocksOf(network)
      .filter((b) => b.spec.node === this.#node)
      .flatMap((b) => cidrOf(b, network) ?? [])
      .sort()
  }

  #peers(network: Network, wire: Wire): Peer[] {
    const nodes = new Map<string, { endpoint: string; blocks: Prefix[] }>()
    for (const block of this.#watched.blocksOf(network)) {
      const endpoint = endpointOf(block.spec.endpoint, wire.endpoint)
      const prefix = parsePrefix(cidrOf(block, network) ?? '')
      if (!endpoint || !prefix) continue
      const { blocks } = nodes.get(block.spec.node) ?? { blocks: [] as Prefix[] }
      blocks.push(prefix)
      nodes.set(block.spec.node, { endpoint, blocks })
    }
    const known = new Set<string>()
    return this.#watched.slicesOf(network).flatMap(({ node, attachments }) => {
      const there = nodes.get(node)
      return node === this.#node || !there
        ? []
        : peersBehind(there.endpoint, attachments, known, there.blocks)
    })
  }

  #physicalWire(network: Network, name: string): Wire {
    const doing = `reach physical network ${name} from node ${this.#node}`
    const physical = this.#watched.physicalNetworks.get({ name })
    if (!physical)
      throw new Fault(
        'unavailable',
        doing,
        `it does not exist; create it or change spec.physicalNetwork of ${network.metadata.namespace}/${network.metadata.name}`,
      )
    const mapping = this.mappings().find((m) => m.physicalNetwork === name)
    if (!mapping?.usable || !mapping.nic)
      throw new Fault('unavailable', doing, mapping?.message ?? 'no rule names a NIC of this node for it')
    const tunnelPort = physical.spec.tunnelPort ?? physical.status?.tunnelPort
    const outside = vlanOutside(network, physical)
    if (outside) throw new Fault('forbidden', doing, outside)
    if (physical.spec.tenants?.length && !sharedByDefault.includes(network.metadata.namespace ?? ''))
      throw new Fault(
        'forbidden',
        doing,
        `it is for tenants ${physical.spec.tenants.join(', ')}, and nobody can be known as one yet; take spec.tenants out, or make the network in ${sharedByDefault.join(', ')}`,
      )
    if (network.spec.topology === 'Direct')
      return { nic: mapping.nic, endpoint: mapping.address ?? '', tunnelPort: tunnelPort ?? 0 }
    if (tunnelPort === undefined)
      throw new Fault('unavailable', doing, 'it has no tunnel port yet; see whether the controller runs')
    if (!mapping.address)
      throw new Fault(
        'unavailable',
        doing,
        `${mapping.nic} has no address for tunnels to start from; give it one`,
      )
    return { nic: mapping.nic, endpoint: mapping.address, tunnelPort }
  }

  #nodeWire(): Wire {
    const doing = `reach the other nodes from node ${this.#node}`
    const endpoint = this.#nodeEndpoint()
    if (!endpoint)
      throw new Fault('unavailable', doing, 'its Node has no InternalIP yet; see whether its kubelet runs')
    const nic = this.#nics.find((n) => n.addresses?.some((a) => withoutLength(a) === endpoint))
    if (!nic)
      throw new Fault(
        'unavailable',
        doing,
        `no NIC has its InternalIP ${endpoint}; correct the kubelet's --node-ip`,
      )
    const taken = this.nodeWireTaken()
    if (taken) throw new Fault('unavailable', doing, taken)
    return { nic: nic.name, endpoint, tunnelPort: nodeTunnelPort }
  }

  #nodeEndpoint(): string | undefined {
    const node = this.#watched.node.list()[0]
    return node?.status?.addresses?.find((a) => a.type === 'InternalIP')?.address
  }
}

/** Why no node can render it, or nothing. */
function problemOf(network: Network): string | undefined {
  const parsed = checked(network)
  if (!parsed.ok) return sentence(parsed.problems)
  const { mtu } = network.status ?? {}
  return lacksRoomForIPv6(mtu, network.spec.subnets)
    ? `its MTU of ${mtu} is too small for IPv6, which takes ${leastMtu[6]}; make another with IPv4 alone, or once the NICs of all nodes have more`
    : undefined
}

/** Why it cannot be routed over this wire, or nothing: what stands for other nodes behind its tunnel is of IPv6, unless their addresses are not. */
function problemOver({ endpoint }: Wire, network: Network): string | undefined {
  const mtu = mtuOf(network)
  const isRouted = (network.spec.topology ?? 'Layer3') === 'Layer3'
  return isRouted && familyOf(endpoint) === 6 && mtu < leastMtu[6]
    ? `its MTU of ${mtu} is too small for routes to nodes whose addresses are of IPv6, which take ${leastMtu[6]}; make another with topology Layer2, or once the NICs of all nodes have more`
    : undefined
}

function addTo(closed: Set<string>, prefix: Prefix | undefined): void {
  if (prefix) closed.add(formatPrefix(prefix))
}

/** A set of intervals takes no prefix that lies in another. */
function withoutContained(texts: Set<string>): string[] {
  const prefixes = [...texts].flatMap((t) => parsePrefix(t) ?? [])
  // Most are single addresses: other nodes'.
  const wide = prefixes.filter((p) => p.length < bitsOf(p.family))
  return prefixes
    .filter((p) => !wide.some((q) => q.length < p.length && contains(q, p)))
    .map(formatPrefix)
    .sort()
}

interface Seen {
  revision: string
  overlap: string | undefined
  view: NetworkView
}
