import type { AddressBlock } from '../../api/address-block.ts'
import type { IPAMClaim } from '../../api/core.ts'
import { resources } from '../../api/resources.ts'
import { blockName, holderLabel, labels, singles } from '../../ipam/block.ts'
import { askedFor, familiesOf, subnetOf, withLength } from '../../ipam/pool.ts'
import type { Ask } from '../../ipam/port.ts'
import { blockOf, takeThis, untake } from '../../ipam/stock.ts'
import { found } from '../../kube/found.ts'
import type { Kube, Ref } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { Fault } from '../../lib/fault.ts'
import {
  type Address,
  type Family,
  formatAddress,
  hostPrefix,
  parsePrefix,
  sameAddress,
} from '../../lib/ip.ts'
import { Turns } from '../turns.ts'
import type { Blocks } from './blocks.ts'
import type { NetworkStock } from './stocks.ts'

interface HolderDeps {
  kube: Kube
  blocks: Blocks
  node: { name: string; uid: string }
  clock: Clock
}

/** What a holder has; `lacking`: families of which a StatefulSet's pod can have none that is kept for it. */
interface Held {
  addresses: Address[]
  lacking: Family[]
}

/**
 * Single addresses that were asked for by value, or that are kept for a
 * holder beyond its pod. Each is an AddressBlock of its own, which moves to
 * the node where the holder's pod runs now once the pod before is gone.
 */
export class Holders {
  readonly #kube: Kube
  readonly #blocks: Blocks
  readonly #node: { name: string; uid: string }
  readonly #clock: Clock
  /** One thing after another for each holder: what one of its sandboxes gets, the others find kept. */
  readonly #turns = new Turns()

  constructor(deps: HolderDeps) {
    this.#kube = deps.kube
    this.#blocks = deps.blocks
    this.#node = deps.node
    this.#clock = deps.clock
  }

  /** The addresses that `ask` names or that its holder has, or gets now; `key` holds them from then on. */
  async take(network: NetworkStock, ask: Ask, key: string): Promise<Held> {
    const doing = `lease an address of ${network.pool.network} for pod ${ask.owner.pod}`
    const holder = new Holder(ask.holder ?? `pod ${ask.owner.pod}`, doing)
    return this.#turns.take(`${network.uid} ${holder.text}`, () =>
      this.#take(network, ask, key, holder, doing),
    )
  }

  async #take(network: NetworkStock, ask: Ask, key: string, holder: Holder, doing: string): Promise<Held> {
    const claim = holder.kind === 'claim' ? await this.#claim(holder, ask, doing) : undefined
    const wanted = this.#wanted(network, ask, claim, doing)
    const taken: Address[] = []
    const lacking: Family[] = []
    try {
      for (const address of wanted ?? (await this.#kept(network, holder)))
        taken.push(await this.#hold(network, address, holder, ask, key, doing))
      if (!wanted)
        for (const family of familiesOf(network.pool)) {
          if (taken.some((a) => a.family === family)) continue
          const picked = await this.#pick(network, family, holder, taken[0], key, doing)
          if (picked) taken.push(picked)
          else lacking.push(family)
        }
      taken.sort((a, b) => a.family - b.family)
      if (claim) await this.#tellClaim(network, claim, taken)
      return { addresses: taken, lacking }
    } catch (error) {
      for (const address of taken) untake(network.stock, address)
      throw error
    }
  }

  /** The claim, from now on this pod's. */
  async #claim(holder: Holder, { owner }: Ask, doing: string): Promise<IPAMClaim> {
    const claim = await found(this.#kube, resources.ipamClaims, holder.ref)
    if (!claim) throw new Fault('missing', doing, `IPAMClaim ${holder.name} does not exist; create it`)
    if (claim.metadata.deletionTimestamp !== undefined)
      throw new Fault('missing', doing, `IPAMClaim ${holder.name} is being deleted; create another`)
    const [, podName = ''] = owner.pod.split('/')
    const user = claim.status?.ownerPod?.name
    if (user === podName) return claim
    if (user !== undefined && (await this.#runs({ namespace: holder.ref.namespace, name: user })))
      throw new Fault(
        'conflict',
        doing,
        `IPAMClaim ${holder.name} is used by pod ${user}; delete that one first`,
      )
    const next = { ...claim, status: { ...claim.status, ownerPod: { name: podName } } }
    return await this.#kube.update(resources.ipamClaims, next, 'status')
  }

  async #tellClaim(network: NetworkStock, claim: IPAMClaim, taken: Address[]): Promise<void> {
    const ips = taken.map((a) => {
      const subnet = subnetOf(network.pool, a)
      return subnet ? withLength(subnet, a) : formatAddress(a)
    })
    if (JSON.stringify(ips) === JSON.stringify(claim.status?.ips)) return
    const next = { ...claim, status: { ...claim.status, ips } }
    await this.#kube.update(resources.ipamClaims, next, 'status')
  }

  async #runs(ref: Ref): Promise<boolean> {
    const phase = (await found(this.#kube, resources.pods, ref))?.status?.phase ?? 'Gone'
    return !['Gone', 'Succeeded', 'Failed'].includes(phase)
  }

  /** The addresses by value: those of `ips`, or those the claim has; undefined when neither says. */
  #wanted(
    network: NetworkStock,
    ask: Ask,
    claim: IPAMClaim | undefined,
    doing: string,
  ): Address[] | undefined {
    const asked = ask.ips && this.#parsed(network, ask.ips, doing)
    const claimed = claim?.status?.ips?.length ? this.#parsed(network, claim.status.ips, doing) : undefined
    if (!claim || !asked) return asked ?? claimed
    const same =
      asked.length === claimed?.length && asked.every((a) => claimed.some((b) => sameAddress(a, b)))
    if (same) return asked
    throw new Fault(
      'invalid',
      doing,
      `asks for addresses by value and for IPAMClaim ${claim.metadata.name}, which has ${claim.status?.ips?.join(', ') || 'none yet'}; keep one of the two`,
    )
  }

  #parsed(network: NetworkStock, ips: string[], doing: string): Address[] {
    const problems: string[] = []
    const addresses: Address[] = []
    for (const text of ips) {
      const asked = askedFor(network.pool, text)
      if (!asked.ok) problems.push(asked.problem)
      else if (!addresses.some((a) => sameAddress(a, asked.address))) addresses.push(asked.address)
    }
    if (problems.length > 0) throw new Fault('invalid', doing, problems.join('; '))
    return addresses
  }

  /** What is kept for the holder at the API server, wherever it was used last. */
  async #kept(network: NetworkStock, holder: Holder): Promise<Address[]> {
    const [namespace] = network.pool.network.split('/')
    const { items } = await this.#kube.list(resources.addressBlocks, {
      namespace,
      labels: `${labels.network}=${network.pool.group},${labels.holder}=${holderLabel(holder.text)}`,
    })
    return items
      .filter((b) => b.spec.networkUID === network.pool.group && b.spec.holder === holder.text)
      .flatMap((b) => parsePrefix(b.spec.cidr) ?? [])
      .sort((a, b) => a.family - b.family)
      .map(({ family, value }) => ({ family, value }))
  }

  /**
   * Any free one, the same place in both families where that is free. Undefined where a StatefulSet's pod finds none left:
   * nobody said that it cannot do without, and there may be as many as somebody's StatefulSet has replicas.
   */
  async #pick(
    network: NetworkStock,
    family: Family,
    holder: Holder,
    beside: Address | undefined,
    key: string,
    doing: string,
  ): Promise<Address | undefined> {
    const prefix = await this.#blocks.first(
      network,
      () => singles(network.pool, family, holder.text, beside),
      holder.text,
    )
    if (!prefix && holder.kind === 'statefulset-pod') return undefined
    if (!prefix)
      throw new Fault(
        'exhausted',
        doing,
        `no IPv${family} address is left of those that are kept for single holders; append a subnet to spec.subnets, or delete claims that are not needed`,
      )
    const address = { family, value: prefix.value }
    takeThis(network.stock, address, key)
    return address
  }

  #hold(
    network: NetworkStock,
    address: Address,
    holder: Holder,
    ask: Ask,
    key: string,
    doing: string,
  ): Promise<Address> {
    const prefix = hostPrefix(address)
    const name = blockName(network.pool.group, prefix)
    return this.#blocks.turns.take(name, async () => {
      const [namespace = ''] = network.pool.network.split('/')
      if (!(await this.#blocks.create(network, prefix, holder.text))) {
        const there = await this.#blocks.read(namespace, name)
        if (!there)
          throw new Fault('conflict', doing, `${formatAddress(address)} was just given back; try again`)
        await this.#move(network, there, address, holder, ask, doing)
      }
      if (takeThis(network.stock, address, key)) return address
      throw new Fault(
        'exhausted',
        doing,
        `${formatAddress(address)} is still held on this node (${blockOf(network.stock, address)?.held.get(address.value)}); delete that pod first`,
      )
    })
  }

  /** Brings an address here that another node, or another holder on this one, had. */
  async #move(
    network: NetworkStock,
    block: AddressBlock,
    address: Address,
    holder: Holder,
    ask: Ask,
    doing: string,
  ): Promise<void> {
    const here = block.spec.nodeUID === this.#node.uid
    const shown = formatAddress(address)
    const refuse = (why: string) => new Fault('exhausted', doing, `${shown} ${why}`)
    if (block.spec.holder !== holder.text) {
      const local = here ? blockOf(network.stock, address) : undefined
      const restsUntil = local?.resting.get(address.value) ?? 0
      if (!local || local.held.has(address.value) || !block.spec.holder?.startsWith('pod '))
        throw refuse(
          `is held by ${block.spec.holder ?? 'any pod'} on node ${block.spec.node}; ask for another, or wait until it is given back`,
        )
      if (restsUntil > this.#clock.now())
        throw refuse(
          `rests for ${Math.ceil((restsUntil - this.#clock.now()) / 1000)} s more after ${block.spec.holder}; it is tried again`,
        )
    } else if (!here && !(await this.#isGoneElsewhere(holder, ask)))
      throw refuse(
        `is held by ${holder.text} on node ${block.spec.node}, whose pod of that name is another; delete it first`,
      )
    const endpoint = this.#blocks.endpointOf(network)
    const { endpoint: _old, ...spec } = block.spec
    const moved: AddressBlock = {
      ...block,
      metadata: {
        ...block.metadata,
        labels: {
          ...block.metadata.labels,
          [labels.node]: this.#node.uid,
          [labels.holder]: holderLabel(holder.text),
        },
      },
      spec: {
        ...spec,
        node: this.#node.name,
        nodeUID: this.#node.uid,
        holder: holder.text,
        ...(endpoint === undefined ? {} : { endpoint }),
      },
    }
    // Refused when anybody else changed it since it was read: the resource version is still in it.
    await this.#blocks.adopt(await this.#kube.update(resources.addressBlocks, moved), network)
  }

  /** Whether the pod that used the address on another node is gone: names are unique, so it is once the name is ours. */
  async #isGoneElsewhere(holder: Holder, { owner }: Ask): Promise<boolean> {
    // A claim is this pod's by now, which it cannot be while another pod uses it.
    if (holder.kind === 'claim') return true
    return (await found(this.#kube, resources.pods, holder.ref))?.metadata.uid === owner.podUID
  }
}

/** `claim ns/name`, `statefulset-pod ns/name`, `pod ns/name`. */
class Holder {
  readonly text: string
  readonly kind: string
  readonly name: string
  readonly ref: { namespace: string; name: string }

  constructor(text: string, doing: string) {
    const parts = /^(pod|statefulset-pod|claim) (([^/ ]+)\/([^/ ]+))$/.exec(text)
    if (!parts)
      throw new Fault('invalid', doing, `"${text.slice(0, 64)}" is no holder; write claim namespace/name`)
    const [, kind = '', full = '', namespace = '', name = ''] = parts
    this.text = text
    this.kind = kind
    this.name = full
    this.ref = { namespace, name }
  }
}
