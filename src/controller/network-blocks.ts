import type { AddressBlock } from '../api/address-block.ts'
import type { Mirror } from '../kube/mirror.ts'

/** The blocks of each network, by its UID, found without looking at those of others. */
export class NetworkBlocks {
  readonly #groups = new Map<string, { blocks: Map<string, AddressBlock>; revision: number }>()

  /** `all` must not have been listed yet. */
  constructor(all: Mirror<AddressBlock>) {
    all.onChange(({ type, object, before }) => {
      if (before) this.#change(before).delete(keyOf(before))
      if (type !== 'DELETED') this.#change(object).set(keyOf(object), object)
    })
  }

  of(uid: string): AddressBlock[] {
    return [...(this.#groups.get(uid)?.blocks.values() ?? [])]
  }

  /** Grows with every change of the network's blocks. */
  revisionOf(uid: string): number {
    return this.#groups.get(uid)?.revision ?? 0
  }

  #change({ spec }: AddressBlock): Map<string, AddressBlock> {
    const group = this.#groups.get(spec.networkUID) ?? { blocks: new Map(), revision: 0 }
    this.#groups.set(spec.networkUID, group)
    group.revision++
    return group.blocks
  }
}

const keyOf = ({ metadata }: AddressBlock): string => `${metadata.namespace}/${metadata.name}`
