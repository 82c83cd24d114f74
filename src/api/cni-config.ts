import type { Problem } from '../lib/fault.ts'
import { isObject } from '../lib/json.ts'
import { formats, shown } from './format.ts'

/** What keeps `text` from being a CNI configuration: a conf with a `type`, or a conflist with `plugins`. */
export function configProblems(text: string, path: string): Problem[] {
  const say = (problem: string) => [{ path, problem }]
  let config: unknown
  try {
    config = JSON.parse(text)
  } catch (error) {
    return say(`is not JSON (${shown((error as Error).message)}); write a CNI conf or conflist`)
  }
  if (!isObject(config)) return say('is not a JSON object; write a CNI conf or conflist')
  if (config.cniVersion !== undefined && typeof config.cniVersion !== 'string')
    return say(`cniVersion ${shown(config.cniVersion)} is not a string; write such as "1.1.0"`)
  if (config.plugins === undefined)
    return config.type === undefined
      ? say('has neither type nor plugins; a conf has a type, a conflist has plugins')
      : typeProblems(config, path)
  if (!Array.isArray(config.plugins) || config.plugins.length === 0)
    return say('plugins is not a list of at least one plugin')
  return config.plugins.flatMap((plugin, i) =>
    isObject(plugin)
      ? typeProblems(plugin, `${path} plugins[${i}]`)
      : [{ path: `${path} plugins[${i}]`, problem: 'is not an object' }],
  )
}

/** A type names a file in the node's plugin directory. */
function typeProblems({ type }: Record<string, unknown>, path: string): Problem[] {
  if (typeof type !== 'string') return [{ path, problem: 'has no type; name the plugin to execute' }]
  const read = formats.plugin.read(type)
  return 'problem' in read ? [{ path, problem: `type ${read.problem}` }] : []
}
