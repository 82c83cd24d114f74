import { apiVersionOf } from '../../api/meta.ts'
import type { ServedKind } from './kind.ts'

/** What clients ask first: groups, their versions, and what is in them. Undefined for a path that is none of these. */
export function discovery(path: string, kinds: readonly ServedKind[]): object | undefined {
  if (path === '/version')
    return {
      major: '1',
      minor: '32',
      gitVersion: 'v1.32.0+polynet',
      gitCommit: '',
      gitTreeState: 'clean',
      buildDate: '1970-01-01T00:00:00Z',
      goVersion: '',
      compiler: '',
      platform: 'linux/amd64',
    }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }
  if (path === '/apis')
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: groupsOf(kinds).map((g) => groupOf(g, kinds)) }
  const [, , name = '', version] = path.split('/')
  if (path === '/api/v1') return resourcesOf('v1', kinds)
  if (!path.startsWith('/apis/') || !groupsOf(kinds).includes(name)) return undefined
  if (version === undefined) return { ...groupOf(name, kinds), kind: 'APIGroup', apiVersion: 'v1' }
  return path === `/apis/${name}/${version}` ? resourcesOf(`${name}/${version}`, kinds) : undefined
}

const groupsOf = (kinds: readonly ServedKind[]): string[] =>
  [...new Set(kinds.map((k) => k.resource.group))].filter((group) => group !== '').sort()

function groupOf(name: string, kinds: readonly ServedKind[]) {
  const found = kinds.filter((k) => k.resource.group === name).map((k) => k.resource.version)
  const versions = [...new Set(found)].map((version) => ({ groupVersion: `${name}/${version}`, version }))
  return { name, versions, preferredVersion: versions[0] }
}

function resourcesOf(groupVersion: string, kinds: readonly ServedKind[]): object | undefined {
  const served = kinds.filter((k) => apiVersionOf(k.resource) === groupVersion)
  if (served.length === 0) return undefined
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion,
    resources: served.flatMap((kind) => {
      const { plural, namespaced, kind: name } = kind.resource
      const sub = (subresource: string, verbs: string[], of = name) => ({
        name: `${plural}/${subresource}`,
        singularName: '',
        namespaced,
        kind: of,
        verbs,
      })
      return [
        {
          name: plural,
          singularName: kind.singular,
          namespaced,
          kind: name,
          verbs: ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'],
          ...(kind.shortNames.length > 0 && { shortNames: kind.shortNames }),
          ...(kind.categories.length > 0 && { categories: kind.categories }),
        },
        ...(kind.status ? [sub('status', ['get', 'patch', 'update'])] : []),
        ...(groupVersion === 'v1' && plural === 'pods'
          ? [sub('log', ['get']), sub('binding', ['create'], 'Binding')]
          : []),
      ]
    }),
  }
}
