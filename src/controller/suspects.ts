import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { IPAMClaim, Node } from '../api/core.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { KubeObject } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import type { Mirror } from '../kube/mirror.ts'
import { equal } from '../lib/json.ts'

interface Watched {
  blocks: Mirror<AddressBlock>
  slices: Mirror<AttachmentSlice>
  hosts: Mirror<HostPhysicalNetwork>
  nodes: Mirror<Node>
  networks: Mirror<Network>
  claims: Mirror<IPAMClaim>
}

/**
 * What may have been left behind since it was last looked at: what has
 * appeared or changed; and everything, when a node, network or claim has gone
 * that it may belong to.
 */
export class Suspects {
  readonly #watched: Watched
  readonly #blocks = new Set<AddressBlock>()
  readonly #slices = new Set<AttachmentSlice>()
  readonly #hosts = new Set<HostPhysicalNetwork>()
  /** Blocks kept for somebody: whether they still are depends on what is attached. */
  readonly #kept = new Set<AddressBlock>()
  #all = true

  /** Nothing of `watched` must have been listed yet. */
  constructor(watched: Watched) {
    this.#watched = watched
    const { blocks, slices, hosts, nodes, networks, claims } = watched
    collect(blocks, this.#blocks)
    collect(slices, this.#slices)
    collect(hosts, this.#hosts)
    collect(blocks, this.#kept, ({ spec }) => spec.holder !== undefined && !spec.holder.startsWith('pod '))
    slices.onChange(() => {
      for (const block of this.#kept) this.#blocks.add(block)
    })
    nodes.onChange(({ type, object, before }) => {
      if (type === 'DELETED' || (before && !equal(object.spec.taints, before.spec.taints))) this.everything()
    })
    for (const m of [networks, claims] as Mirror<KubeObject>[])
      m.onChange(({ type }) => {
        if (type === 'DELETED') this.everything()
      })
  }

  everything(): void {
    this.#all = true
  }

  take(): { blocks: AddressBlock[]; slices: AttachmentSlice[]; hosts: HostPhysicalNetwork[] } {
    const { blocks, slices, hosts } = this.#watched
    const taken = this.#all
      ? { blocks: blocks.list(), slices: slices.list(), hosts: hosts.list() }
      : { blocks: [...this.#blocks], slices: [...this.#slices], hosts: [...this.#hosts] }
    this.#all = false
    this.#blocks.clear()
    this.#slices.clear()
    this.#hosts.clear()
    return taken
  }
}

function collect<T extends KubeObject>(
  from: Mirror<T>,
  into: Set<T>,
  which: (object: T) => boolean = () => true,
) {
  from.onChange(({ type, object, before }) => {
    if (before) into.delete(before)
    if (type !== 'DELETED' && which(object)) into.add(object)
  })
}
