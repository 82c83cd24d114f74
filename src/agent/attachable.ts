import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import type { Plugins } from '../cni/plugins.ts'
import type { CniRequest } from '../cni/request.ts'
import type { Clock } from '../lib/clock.ts'
import { isFault } from '../lib/fault.ts'
import type { Views } from './views.ts'
import { type Wanted, wantedBy } from './wanted.ts'
import type { Watched } from './watched.ts'

/** How long an ADD waits for a network that this node cannot render yet. */
const networkWithinMs = 3000

export interface AttachableDeps {
  watched: Watched
  views: Views
  plugins: Plugins
  clock: Clock
  allowedPlugins?: readonly string[]
}

/** What pods want, by what the node knows now. */
export class Attachable {
  readonly #deps: AttachableDeps

  constructor(deps: AttachableDeps) {
    this.#deps = deps
  }

  /** What the pod wants, once this node can render it: a network that was made a moment ago has no identifier yet. */
  async of(pod: Pod, request: CniRequest): Promise<Wanted[]> {
    const { clock, views } = this.#deps
    const late = clock.now() + networkWithinMs
    for (;;) {
      const wanted = await this.#wantedBy(pod, request.args)
      try {
        for (const { by } of wanted) if (by.kind === 'polynet') views.network(by.network)
        return wanted
      } catch (error) {
        const left = late - clock.now()
        if (!isFault(error, 'unavailable') || left <= 0) throw error
        await this.#changeWithin(left)
      }
    }
  }

  /** The networks that Polynet renders among those the pod asks for; none where it asks wrongly, which its ADD will say. */
  async networksOf(pod: Pod): Promise<Network[]> {
    try {
      const wanted = await this.#wantedBy(pod, {})
      return wanted.flatMap(({ by }) => (by.kind === 'polynet' ? [by.network] : []))
    } catch {
      return []
    }
  }

  async #wantedBy(pod: Pod, args: Record<string, string>): Promise<Wanted[]> {
    const { plugins, ...around } = this.#deps
    return wantedBy(pod, { ...around, confs: await plugins.confs() }, args)
  }

  async #changeWithin(ms: number): Promise<void> {
    const { watched, clock } = this.#deps
    const change = new AbortController()
    const forget = watched.onChange(() => change.abort())
    await clock.sleep(ms, change.signal)
    forget()
  }
}
