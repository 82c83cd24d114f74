import type { KubeObject, Resource } from '../src/api/meta.ts'
import type { Change, Kube, Selection } from '../src/kube/port.ts'
import type { Clock } from '../src/lib/clock.ts'
import { Fault } from '../src/lib/fault.ts'

/** What stands between a program and everything it acts on. */
export interface Cord {
  /** The program is gone: nothing it still does has an effect, and nothing answers it. */
  cut(): void
  readonly isCut: boolean
  /** Aborts when it is cut. */
  readonly signal: AbortSignal
}

export function cord(): Cord {
  const cutting = new AbortController()
  return {
    cut: () => cutting.abort(),
    get isCut() {
      return cutting.signal.aborted
    },
    signal: cutting.signal,
  }
}

const never = <T>(): Promise<T> => new Promise<T>(() => {})

/**
 * `target` as it looks through the cord: the same, until it is cut; from then
 * on calls do nothing and their promises stay pending, those under way too.
 * That is what `kill -9` is to the world around a process.
 */
export function through<T extends object>(target: T, line: Cord): T {
  return new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (line.isCut) return never()
        const result = value.apply(target, args)
        if (!(result instanceof Promise)) return result
        return result.then(
          (value) => (line.isCut ? never() : value),
          (error) => (line.isCut ? never() : Promise.reject(error)),
        )
      }
    },
  })
}

/** Time as the program sees it; once it is gone, nothing of it waits any more. */
export const clockThrough = (clock: Clock, line: Cord): Clock => ({
  now: () => clock.now(),
  async sleep(ms, signal) {
    await clock.sleep(ms, signal ? AbortSignal.any([signal, line.signal]) : line.signal)
    if (line.isCut) await never()
  },
})

/** The API server as one program sees it: by its cord, and while `isAway` not at all. */
export function kubeThrough(kube: Kube, line: Cord, outage: Outage): Kube {
  const guarded = new Proxy(kube, {
    get(_, name) {
      const value = Reflect.get(kube, name, kube)
      if (typeof value !== 'function' || name === 'watch') return value
      return async (...args: unknown[]) => {
        if (outage.isOn) throw away()
        return value.apply(kube, args)
      }
    },
  })
  const rest = through(guarded, line)
  return Object.assign(Object.create(rest), {
    async *watch<T extends KubeObject>(
      resource: Resource<T>,
      since: string,
      selection: Selection & { signal: AbortSignal },
    ): AsyncIterable<Change<T>> {
      if (outage.isOn) throw away()
      const signal = AbortSignal.any([selection.signal, line.signal, outage.begins()])
      for await (const change of kube.watch(resource, since, { ...selection, signal })) {
        if (line.isCut) await never()
        yield change
      }
      if (line.isCut) await never()
    },
  })
}

const away = () => new Fault('unavailable', 'ask the API server', 'connection refused; it is away')

/** Whether the API server answers the cluster's programs. */
export class Outage {
  #beginning = new AbortController()
  isOn = false

  set(on: boolean): void {
    this.isOn = on
    if (on) this.#beginning.abort()
    else this.#beginning = new AbortController()
  }

  /** Aborts when the next outage begins. */
  begins(): AbortSignal {
    return this.#beginning.signal
  }
}
