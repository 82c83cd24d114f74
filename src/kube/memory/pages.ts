import type { KubeObject } from '../../api/meta.ts'
import { failure, type Status } from '../status.ts'
import type { MemoryKube } from './store.ts'

/** One page of a list, as it was when the list began. */
export interface Page {
  items: KubeObject[]
  resourceVersion: string
  continue?: string
  remaining?: number
}

/** Lists that are being read page by page; the objects are shared, so a held list is only references. */
export class Pages {
  #held = new Map<string, { items: KubeObject[]; resourceVersion: string; compactions: number }>()
  #next = 0
  readonly #kube: MemoryKube

  constructor(kube: MemoryKube) {
    this.#kube = kube
  }

  first(items: KubeObject[], resourceVersion: string, limit: number): Page {
    if (limit <= 0 || items.length <= limit) return { items, resourceVersion }
    const id = String(this.#next++)
    this.#held.set(id, { items, resourceVersion, compactions: this.#kube.compactions })
    // A client that never comes back for its next page must not keep the objects alive.
    if (this.#held.size > 64) this.#held.delete(this.#held.keys().next().value!)
    return this.#page(id, 0, limit)
  }

  next(token: string, limit: number): Page | { refused: Status } {
    const [id = '', offset = ''] = Buffer.from(token, 'base64url').toString().split(':')
    const held = this.#held.get(id)
    if (!held || held.compactions !== this.#kube.compactions || !/^[0-9]+$/.test(offset))
      return {
        refused: failure(
          'Expired',
          'The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.',
        ),
      }
    return this.#page(id, Number(offset), limit > 0 ? limit : held.items.length)
  }

  #page(id: string, offset: number, limit: number): Page {
    const { items, resourceVersion } = this.#held.get(id)!
    const end = offset + limit
    const page = { items: items.slice(offset, end), resourceVersion }
    if (end >= items.length) {
      this.#held.delete(id)
      return page
    }
    return {
      ...page,
      continue: Buffer.from(`${id}:${end}`).toString('base64url'),
      remaining: items.length - end,
    }
  }
}
