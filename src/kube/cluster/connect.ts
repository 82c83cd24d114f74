import { apiVersionOf, type KubeObject, type Resource } from '../../api/meta.ts'
import { isFault } from '../../lib/fault.ts'
import type { Change, Kube, Listing, Patch, Preconditions, Ref, Selection } from '../port.ts'
import { doing, failure, faultOf, notFound } from '../status.ts'
import { apiServer } from './config.ts'
import { Transport, type TransportOptions } from './transport.ts'
import { watchLines } from './watch.ts'

/** A real API server, over HTTP(S) or a unix socket. */
export interface ConnectedKube extends Kube {
  /** Closes idle connections; requests under way end by themselves. */
  close(): void
}

/**
 * The API server that `api` names (`unix:/path`, a URL, a kubeconfig), or
 * the one that the environment says. Nothing is asked of it yet.
 */
export async function connect(api?: string, options: TransportOptions = {}): Promise<ConnectedKube> {
  return new ClusterKube(new Transport(apiServer(api), options), options.random ?? Math.random)
}

/** Objects per page of a list, as client-go has it. */
const pageSize = 500

class ClusterKube implements ConnectedKube {
  readonly #transport: Transport
  readonly #random: () => number

  constructor(transport: Transport, random: () => number) {
    this.#transport = transport
    this.#random = random
  }

  async get<T extends KubeObject>(resource: Resource<T>, ref: Ref): Promise<T> {
    const what = doing('get', resource, ref)
    return this.#transport.json<T>({ doing: what, method: 'GET', path: pathOf(resource, ref, what) })
  }

  async list<T extends KubeObject>(resource: Resource<T>, selection: Selection = {}): Promise<Listing<T>> {
    try {
      return await this.#pages<T>(resource, selection, pageSize)
    } catch (error) {
      // The server forgot the version that the first pages were of: all in one, then.
      if (!isFault(error, 'expired')) throw error
      return await this.#pages<T>(resource, selection, 0)
    }
  }

  async #pages<T extends KubeObject>(
    resource: Resource<T>,
    selection: Selection,
    limit: number,
  ): Promise<Listing<T>> {
    const items: T[] = []
    let token = ''
    for (;;) {
      const query = { ...selectors(selection), limit: limit ? String(limit) : '', continue: token }
      const page = await this.#transport.json<{
        metadata: { resourceVersion: string; continue?: string }
        items: T[] | null
      }>({
        doing: doing('list', resource, selection),
        method: 'GET',
        path: collection(resource, selection.namespace) + search(query),
        deadlineMs: this.#transport.deadlineMs * 6,
      })
      // Items of a list come without type where the server thinks that the list says it.
      for (const item of page.items ?? [])
        items.push({ ...item, apiVersion: apiVersionOf(resource), kind: resource.kind })
      if (!page.metadata.continue) return { items, resourceVersion: page.metadata.resourceVersion }
      token = page.metadata.continue
    }
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    since: string,
    selection: Selection & { signal: AbortSignal },
  ): AsyncIterable<Change<T>> {
    // Not all at once after the same time, and known to the client too, should the connection die in silence.
    const seconds = Math.round(240 + this.#random() * 120)
    const query = {
      ...selectors(selection),
      watch: 'true',
      resourceVersion: since,
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(seconds),
    }
    yield* watchLines<T>(
      this.#transport,
      {
        doing: doing('watch', resource, selection),
        method: 'GET',
        path: collection(resource, selection.namespace) + search(query),
      },
      { signal: selection.signal, seconds },
    )
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    const what = doing('create', resource, object.metadata)
    const { namespace } = object.metadata
    if (resource.namespaced && !namespace)
      throw faultOf(failure('BadRequest', 'an empty namespace may not be set during creation'), what)
    const path = collection(resource, namespace)
    return this.#transport.json<T>({ doing: what, method: 'POST', path, body: object })
  }

  async update<T extends KubeObject>(resource: Resource<T>, object: T, subresource?: 'status'): Promise<T> {
    const what = doing(subresource ? `update ${subresource} of` : 'update', resource, object.metadata)
    const path = pathOf(resource, object.metadata, what, subresource)
    return this.#transport.json<T>({ doing: what, method: 'PUT', path, body: object })
  }

  async patch(resource: Resource, ref: Ref, patch: Patch): Promise<void> {
    const what = doing(patch.subresource ? `patch ${patch.subresource} of` : 'patch', resource, ref)
    await this.#transport.text({
      doing: what,
      method: 'PATCH',
      path: pathOf(resource, ref, what, patch.subresource),
      body: patch.body,
      contentType: contentTypes[patch.type],
    })
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    ref: Ref,
    only: Preconditions = {},
  ): Promise<void> {
    const what = doing('delete', resource, ref)
    const { gracePeriodSeconds, ...preconditions } = only
    await this.#transport.text({
      doing: what,
      method: 'DELETE',
      path: pathOf(resource, ref, what),
      body: {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds }),
        ...(Object.keys(preconditions).length > 0 && { preconditions }),
      },
    })
  }

  close(): void {
    this.#transport.close()
  }
}

const contentTypes: Record<Patch['type'], string> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
}

function collection({ group, version, plural, namespaced }: Resource, namespace?: string): string {
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`
  return namespaced && namespace
    ? `${root}/namespaces/${encodeURIComponent(namespace)}/${plural}`
    : `${root}/${plural}`
}

/** The path of one object. A name that would lead elsewhere is the name of nothing. */
function pathOf(resource: Resource, ref: Ref, what: string, subresource?: 'status'): string {
  const parts = resource.namespaced ? [ref.namespace ?? '', ref.name] : [ref.name]
  if (parts.some((part) => !/^[^/%]+$/.test(part) || part === '.' || part === '..'))
    throw faultOf(notFound(resource, ref.name), what)
  const path = `${collection(resource, ref.namespace)}/${encodeURIComponent(ref.name)}`
  return subresource ? `${path}/${subresource}` : path
}

const selectors = ({ labels = '', fields = '' }: Selection) => ({
  labelSelector: labels,
  fieldSelector: fields,
})

function search(query: Record<string, string>): string {
  const given = Object.entries(query).filter(([, value]) => value !== '')
  return given.length > 0 ? `?${new URLSearchParams(given)}` : ''
}
