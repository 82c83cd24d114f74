import { parseAllDocuments } from 'yaml'
import type { KubeObject, Resource } from '../src/api/meta.ts'
import type { Kube, Ref, Selection } from '../src/kube/port.ts'

/** One request, as an API server's authorizer sees it. */
export interface Asked {
  verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete'
  group: string
  /** `nodes`, `nodes/status`. */
  resource: string
  namespace?: string
  name?: string
}

/** `kube`, for a program whose requests somebody hears of. */
export function heard(kube: Kube, hear: (asked: Asked) => void): Kube {
  const say = (verb: Asked['verb'], { group, plural }: Resource, ref: Partial<Ref>, subresource?: string) =>
    hear({ ...ref, verb, group, resource: subresource ? `${plural}/${subresource}` : plural })
  return {
    get(resource, ref) {
      say('get', resource, ref)
      return kube.get(resource, ref)
    },
    list(resource, selection) {
      say('list', resource, selected(selection))
      return kube.list(resource, selection)
    },
    watch(resource, since, selection) {
      say('watch', resource, selected(selection))
      return kube.watch(resource, since, selection)
    },
    create(resource, object) {
      // No authorizer knows the name of what is being made.
      say('create', resource, placeOf(object))
      return kube.create(resource, object)
    },
    update(resource, object, subresource) {
      say('update', resource, { ...placeOf(object), name: object.metadata.name }, subresource)
      return kube.update(resource, object, subresource)
    },
    patch(resource, ref, patch) {
      say('patch', resource, ref, patch.subresource)
      return kube.patch(resource, ref, patch)
    },
    delete(resource, ref, only) {
      say('delete', resource, ref)
      return kube.delete(resource, ref, only)
    },
  }
}

const placeOf = ({ metadata: { namespace } }: KubeObject): Partial<Ref> =>
  namespace === undefined ? {} : { namespace }

/** A name is asked for by a field selector, too. */
function selected({ namespace, fields = '' }: Selection = {}): Partial<Ref> {
  const name = /(?:^|,)metadata\.name=([^,]+)/.exec(fields)?.[1]
  return { ...(namespace !== undefined && { namespace }), ...(name !== undefined && { name }) }
}

/** One verb on one resource that a service account may do. */
export interface Grant {
  verb: string
  group: string
  resource: string
  /** Absent: in all namespaces. */
  namespace?: string
  /** Absent: by every name. */
  name?: string
}

/** As people read it: `patch nodes/status`, `get daemonsets.apps named polynet-agent in polynet-system`. */
export const grantText = ({ verb, group, resource, namespace, name }: Grant): string => {
  const [plural, ...sub] = resource.split('/')
  const what = [group === '' ? plural : `${plural}.${group}`, ...sub].join('/')
  return `${verb} ${what}${name ? ` named ${name}` : ''}${namespace ? ` in ${namespace}` : ''}`
}

/** Whether the grant is what allows it. */
export const allows = (grant: Grant, asked: Asked): boolean =>
  grant.verb === asked.verb &&
  grant.group === asked.group &&
  grant.resource === asked.resource &&
  (grant.namespace === undefined || grant.namespace === asked.namespace) &&
  (grant.name === undefined || grant.name === asked.name)

interface Role extends KubeObject {
  rules?: { apiGroups: string[]; resources: string[]; verbs: string[]; resourceNames?: string[] }[]
}

interface Binding extends KubeObject {
  roleRef: { kind: string; name: string }
  subjects?: { kind: string; name: string; namespace?: string }[]
}

/** What a manifest's roles grant to a service account of its, by its bindings. */
export function grantsOf(manifest: string, account: string): Grant[] {
  const objects = parseAllDocuments(manifest).map((each) => each.toJS() as KubeObject | null)
  const bindings = objects.filter((each) => /^(Cluster)?RoleBinding$/.test(each?.kind ?? '')) as Binding[]
  return bindings
    .filter(({ subjects = [] }) =>
      subjects.some(({ kind, name }) => `${kind} ${name}` === `ServiceAccount ${account}`),
    )
    .flatMap(({ metadata: { namespace }, roleRef }) => {
      const role = objects.find(
        (each) =>
          each?.kind === roleRef.kind &&
          each.metadata.name === roleRef.name &&
          (roleRef.kind === 'ClusterRole' || each.metadata.namespace === namespace),
      ) as Role | undefined
      return (role?.rules ?? []).flatMap((rule) =>
        rule.apiGroups.flatMap((group) =>
          rule.resources.flatMap((resource) =>
            rule.verbs.flatMap((verb) =>
              (rule.resourceNames ?? [undefined]).map(
                (name): Grant => ({
                  ...{ verb, group, resource },
                  ...(namespace !== undefined && { namespace }),
                  ...(name !== undefined && { name }),
                }),
              ),
            ),
          ),
        ),
      )
    })
}
