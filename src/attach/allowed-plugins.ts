import type { NetworkConf } from '../cni/plugins.ts'
import type { Problem } from '../lib/fault.ts'
import { parseAddress, parsePrefix } from '../lib/ip.ts'
import { sharedByDefault } from './asking.ts'
import { shown } from './text.ts'

/** On a namespace: the plugins that configurations written there may execute, commas between, or `*`. */
export const allowedPluginsKey = 'polynet.dev/allowed-plugins'

/** Whose word a configuration is. */
export interface Author {
  namespace: string
  /** The namespace's annotations, absent while nobody has seen it. */
  annotations?: Record<string, string>
  /** What every namespace may execute. */
  everywhere?: readonly string[]
}

const all = '*'

/**
 * What keeps a configuration that a namespace's users wrote from being
 * executed. A plugin runs as root in the host's namespaces and does what its
 * configuration says, so a namespace needs the administrator's permission for
 * each plugin; with a list of them its configurations name no files either,
 * with `*` they do as they like. The namespaces that are everybody's are the
 * administrator's own.
 */
export function pluginProblems(conf: Pick<NetworkConf, 'plugins'>, author: Author): Problem[] {
  const allowed = allowedTo(author)
  if (allowed.has(all)) return []
  const problems: Problem[] = []
  const say = (path: string, problem: string) => void problems.push({ path, problem })
  for (const { path, key, value } of valuesIn(conf.plugins, 'plugins')) {
    if (value === undefined) say(path, 'is nested too deep; flatten it')
    else if (isType(key) && !allowed.has(value) && !isHarmless(path, value))
      say(path, `${shown(value)} is not for namespace ${author.namespace}; ${remedy(author, value)}`)
    else if (namesFile(key, value))
      say(path, `${shown(value)} may be a file of the node; ${remedy(author, all)}, or leave it out`)
  }
  return problems.slice(0, 8)
}

/** Whether users of a namespace may have an interface of that kind, which another plugin or Polynet makes, for themselves. */
export function kindProblem(type: string, author: Author): string | undefined {
  const allowed = allowedTo(author)
  if (allowed.has(all) || allowed.has(type)) return undefined
  return `${type} is not for namespace ${author.namespace}; ${remedy(author, type)}`
}

/** The Networks that a configuration takes addresses from by polynet-ipam, which also answers for Whereabouts, as it names them. */
export function ipamNetworks({ plugins }: Pick<NetworkConf, 'plugins'>): string[] {
  const values = valuesIn(plugins, 'plugins')
  const asksUs = ({ key, value }: Found) => isType(key) && (value === ours || value === 'whereabouts')
  if (!values.some(asksUs)) return []
  return values.flatMap(({ key, value }) => (key === 'network' && value !== undefined ? [value] : []))
}

/** In any case: plugins in Go, which execute others by it, take the last of `type` and `Type` (encoding/json). */
const isType = (key: string): boolean => key.toLowerCase() === 'type'

const ours = 'polynet-ipam'

/** As an address plugin it is asked which network it gives addresses of, and touches nothing else. */
const isHarmless = (path: string, type: string): boolean => type === ours && /\.ipam\.type$/i.test(path)

function allowedTo({ namespace, annotations = {}, everywhere = [] }: Author): Set<string> {
  if (sharedByDefault.includes(namespace)) return new Set([all])
  const own = Object.hasOwn(annotations, allowedPluginsKey) ? annotations[allowedPluginsKey]!.split(',') : []
  return new Set([...everywhere, ...own.map((type) => type.trim())])
}

const remedy = ({ namespace }: Author, type: string): string =>
  `the cluster's administrator can allow it: annotate namespace ${namespace} with ${allowedPluginsKey}: ${shown(type)}`

/** Files have slashes; so have prefixes (`10.1.0.0/16`, `10.1.0.10-10.1.0.20/16`, `/26`) and names of Networks. */
const namesFile = (key: string, value: string): boolean =>
  value.includes('/') &&
  !(key === 'network' && /^[a-z0-9-]+\/[a-z0-9-]+$/.test(value)) &&
  !/^\/\d{1,3}$/.test(value) &&
  !isRange(value)

function isRange(value: string): boolean {
  const [start, end, ...more] = value.split('-').map((part) => part.trim())
  if (end === undefined) return parsePrefix(value.trim()) !== undefined
  return more.length === 0 && parseAddress(start ?? '') !== undefined && parsePrefix(end) !== undefined
}

interface Found {
  path: string
  key: string
  /** Undefined: something nested deeper than anybody needs. */
  value: string | undefined
}

/** Every text in a JSON value, with the key of the object that it is in. */
function valuesIn(value: unknown, path: string, key = '', depth = 12): Found[] {
  if (typeof value === 'string') return [{ path, key, value }]
  if (typeof value !== 'object' || value === null) return []
  if (depth === 0) return [{ path, key, value: undefined }]
  return Array.isArray(value)
    ? value.flatMap((inner, i) => valuesIn(inner, `${path}[${i}]`, key, depth - 1))
    : Object.entries(value).flatMap(([name, inner]) =>
        valuesIn(inner, `${path}.${name.slice(0, 32)}`, name, depth - 1),
      )
}
