import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { defaultNetworkKey, said } from '../attach/default-network.ts'
import type { Plugins } from '../cni/plugins.ts'
import type { CniRequest } from '../cni/request.ts'
import type { Clock } from '../lib/clock.ts'
import { asFault, isFault } from '../lib/fault.ts'
import type { Devices } from './devices.ts'
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
  devices?: (podUID: string) => Devices
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
        return wanted.map((one) =>
          one.by.kind === 'polynet' ? { ...one, view: views.network(one.by.network) } : one,
        )
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

  /** Why a pod that asks for nothing would get no network, in whatever namespace, or nothing. */
  async lacking(): Promise<string | undefined> {
    let why: string | undefined
    for (const namespace of this.#withDefaults()) {
      const pod: Pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { namespace, name: '*' },
        spec: { containers: [] },
      }
      try {
        const wanted = await this.#wantedBy(pod, {})
        for (const { by } of wanted) if (by.kind === 'polynet') this.#deps.views.network(by.network)
        return undefined
      } catch (error) {
        why ??= asFault(error, 'attach pods').problem
      }
    }
    return why
  }

  /** Any namespace, for what all have, and those that choose for themselves. */
  #withDefaults(): string[] {
    const all = this.#deps.watched.namespaces.list()
    const own = all.filter(({ metadata }) => said(metadata.annotations ?? {}, defaultNetworkKey))
    return ['default', ...own.map(({ metadata }) => metadata.name)]
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
