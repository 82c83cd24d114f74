import type { Place } from '../lab/place.ts'

/** A kind as the server's discovery tells of it. */
export interface ApiResource {
  group: string
  apiVersion: string
  kind: string
  plural: string
  singular: string
  shortNames: string[]
  namespaced: boolean
  /** Of the collection, or of one object; a cluster-scoped kind takes no namespace. */
  path(namespace?: string, name?: string): string
}

/** An answer that ends the command with exit 1 and this message, as kubectl words it. */
export interface Failure extends Error {
  exit: number
}

export const failure = (message: string): Failure => Object.assign(new Error(message), { exit: 1 })

interface RawResource {
  name: string
  singularName?: string
  shortNames?: string[]
  kind: string
  namespaced: boolean
}

/** What servers serve, as far as it is known: a real one is asked thirty times for it. */
const known = new WeakMap<Place['api'], Promise<ApiResource[]>>()

/** What the server serves, asked for once, and again when something is not among it; and requests whose refusals are failures. */
export class Discovery {
  #api: Place['api']

  constructor(api: Place['api']) {
    this.#api = api
  }

  /** By plural, singular, kind or short name, with or without the group; the first group that has it wins. */
  async find(type: string): Promise<ApiResource> {
    const [word = '', ...group] = type.toLowerCase().split('.')
    const inGroup = group.join('.')
    const found = await this.#served(
      (each) =>
        [each.plural, each.singular, each.kind.toLowerCase(), ...each.shortNames].includes(word) &&
        (inGroup === '' || each.group === inGroup || `v1.${each.group}` === inGroup),
    )
    if (!found) throw failure(`error: the server doesn't have a resource type "${type}"`)
    return found
  }

  async findKind(apiVersion: string, kind: string): Promise<ApiResource> {
    const found = await this.#served((each) => each.apiVersion === apiVersion && each.kind === kind)
    if (!found) throw failure(`error: no matches for kind "${kind}" in version "${apiVersion}"`)
    return found
  }

  /** The object, list or table at `path`; undefined where nothing is and that is fine. */
  async get(path: string, as: 'object' | 'table' = 'object', missing?: 'missing is fine'): Promise<unknown> {
    const accept = as === 'table' ? 'application/json;as=Table;v=v1;g=meta.k8s.io' : 'application/json'
    const answer = await this.#api({ method: 'GET', path, headers: { accept } })
    if (answer.status === 404 && missing) return undefined
    if (answer.status >= 400) throw refusal(answer.body)
    return JSON.parse(answer.body)
  }

  async send(
    method: string,
    path: string,
    body: unknown,
    contentType = 'application/json',
    quietly?: number,
  ): Promise<unknown> {
    const headers = { accept: 'application/json', 'content-type': contentType }
    const answer = await this.#api({ method, path, headers, body: JSON.stringify(body) })
    if (answer.status === quietly) return undefined
    if (answer.status >= 400) throw refusal(answer.body)
    return JSON.parse(answer.body)
  }

  async text(path: string): Promise<string> {
    const answer = await this.#api({ method: 'GET', path })
    if (answer.status >= 400) throw refusal(answer.body)
    return answer.body
  }

  async #served(is: (resource: ApiResource) => boolean): Promise<ApiResource | undefined> {
    const found = (await known.get(this.#api)?.catch(() => []))?.find(is)
    if (found) return found
    const all = this.#discover()
    known.set(this.#api, all)
    return (await all).find(is)
  }

  async #discover(): Promise<ApiResource[]> {
    const groups = (await this.get('/apis')) as { groups: { versions: { groupVersion: string }[] }[] }
    const versions = ['v1', ...groups.groups.flatMap((each) => each.versions.map((v) => v.groupVersion))]
    const lists = await Promise.all(
      versions.map(async (apiVersion) => {
        const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
        const list = (await this.get(root)) as { resources: RawResource[] }
        return list.resources
          .filter((each) => !each.name.includes('/'))
          .map((raw) => served(root, apiVersion, raw))
      }),
    )
    return lists.flat()
  }
}

function served(root: string, apiVersion: string, raw: RawResource): ApiResource {
  return {
    group: apiVersion.includes('/') ? apiVersion.split('/')[0]! : '',
    apiVersion,
    kind: raw.kind,
    plural: raw.name,
    singular: raw.singularName || raw.kind.toLowerCase(),
    shortNames: raw.shortNames ?? [],
    namespaced: raw.namespaced,
    path: (namespace, name) =>
      [
        root,
        ...(raw.namespaced && namespace ? ['namespaces', namespace] : []),
        raw.name,
        ...(name ? [name] : []),
      ].join('/'),
  }
}

/** As kubectl prints a Status. */
function refusal(body: string): Failure {
  try {
    const status = JSON.parse(body) as { message?: string; reason?: string }
    if (status.reason === 'Invalid') return failure(status.message ?? body)
    return failure(`Error from server (${status.reason || 'Unknown'}): ${status.message ?? body}`)
  } catch {
    return failure(`Error from server: ${body}`)
  }
}
