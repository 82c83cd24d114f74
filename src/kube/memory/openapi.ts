import { createHash } from 'node:crypto'
import { apiVersionOf } from '../../api/meta.ts'
import { objectMeta } from './core-schemas.ts'
import type { ServedKind } from './kind.ts'
import type { Schema } from './schema.ts'

/**
 * /openapi/v3: what `kubectl explain` reads, and how kubectl learns that the
 * server validates fields. One document per group and version, named by a
 * hash of its content so that clients may keep it. And /openapi/v2, of
 * which kubectl asks for no more than that it is there; `accept` is what the client takes.
 */
export function openapi(
  path: string,
  kinds: readonly ServedKind[],
  accept: string,
): object | string | undefined {
  if (path === '/openapi/v2') return accept.includes('protobuf') ? emptyInProtobuf : empty
  if (path === '/openapi/v3') {
    const versions = [...new Set(kinds.map((kind) => apiVersionOf(kind.resource)))]
    return { paths: Object.fromEntries(versions.map((v) => [rootOf(v), entryOf(v, kinds)])) }
  }
  if (!path.startsWith('/openapi/v3/')) return undefined
  const root = path.slice('/openapi/v3/'.length)
  const served = kinds.filter((kind) => rootOf(apiVersionOf(kind.resource)) === root)
  return served.length > 0 ? documentOf(served) : undefined
}

const info = { title: 'Kubernetes', version: 'v1.32.0' }

/** The document of OpenAPI 2, in which kubectl looks for the items of a `List`; it validates those that it finds there. */
const empty = { swagger: '2.0', info, paths: {} }

/** The same as gnostic's `openapi.v2.Document`, its fields 1 and 2, which kubectl asks for. All of its bytes are ASCII. */
const emptyInProtobuf = [
  protobufText(1, empty.swagger),
  protobufText(2, `${protobufText(1, info.title)}${protobufText(2, info.version)}`),
].join('')

function protobufText(field: number, text: string): string {
  return `${String.fromCharCode((field << 3) | 2, text.length)}${text}`
}

const rootOf = (groupVersion: string): string =>
  groupVersion.includes('/') ? `apis/${groupVersion}` : `api/${groupVersion}`

function entryOf(groupVersion: string, kinds: readonly ServedKind[]): object {
  const document = JSON.stringify(documentOf(kinds.filter((k) => apiVersionOf(k.resource) === groupVersion)))
  const hash = createHash('sha256').update(document).digest('hex').toUpperCase()
  return { serverRelativeURL: `/openapi/v3/${rootOf(groupVersion)}?hash=${hash}` }
}

const meta = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'

function documentOf(kinds: readonly ServedKind[]): object {
  return {
    openapi: '3.0.0',
    info,
    paths: Object.assign({}, ...kinds.map(pathsOf)),
    components: {
      schemas: {
        [meta]: objectMeta,
        ...Object.fromEntries(kinds.map((kind) => [componentOf(kind), schemaOf(kind)])),
      },
    },
  }
}

/** `dev.polynet.v1alpha1.Network`. */
function componentOf({ resource: { group, version, kind } }: ServedKind): string {
  if (group === '') return `io.k8s.api.core.${version}.${kind}`
  return [...group.split('.').reverse(), version, kind].join('.')
}

function schemaOf(kind: ServedKind): object {
  const { schema, resource } = kind
  return {
    description: schema.description ?? `${resource.kind}.`,
    ...schema,
    type: 'object',
    properties: {
      apiVersion: { type: 'string', description: 'APIVersion of this representation of an object.' },
      kind: { type: 'string', description: 'Kind is what the object represents, in CamelCase.' },
      ...(schema.properties as Record<string, Schema> | undefined),
      metadata: {
        description: 'Standard metadata of every object.',
        default: {},
        allOf: [{ $ref: `#/components/schemas/${meta}` }],
      },
    },
    'x-kubernetes-group-version-kind': [gvkOf(kind)],
  }
}

const gvkOf = ({ resource: { group, version, kind } }: ServedKind) => ({ group, version, kind })

function pathsOf(kind: ServedKind): Record<string, object> {
  const { resource } = kind
  const base = `/${rootOf(apiVersionOf(resource))}`
  const inside = resource.namespaced ? `${base}/namespaces/{namespace}` : base
  const query = (name: string) => ({ name, in: 'query', schema: { type: 'string', uniqueItems: true } })
  const content = {
    'application/json': { schema: { $ref: `#/components/schemas/${componentOf(kind)}` } },
  }
  const operation = (action: string, parameters: string[] = []) => ({
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvkOf(kind),
    parameters: parameters.map(query),
    responses: { 200: { description: 'OK', content } },
  })
  const writing = ['dryRun', 'fieldManager', 'fieldValidation']
  return {
    [`${inside}/${resource.plural}`]: {
      get: operation('list', ['labelSelector', 'fieldSelector', 'limit', 'continue', 'watch']),
      post: operation('post', writing),
    },
    [`${inside}/${resource.plural}/{name}`]: {
      get: operation('get'),
      put: operation('put', writing),
      // Without strategic merge patch among its bodies: kubectl then takes the merge keys it knows itself.
      patch: operation('patch', writing),
      delete: operation('delete', ['dryRun', 'gracePeriodSeconds', 'propagationPolicy']),
    },
  }
}
