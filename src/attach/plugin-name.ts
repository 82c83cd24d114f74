import type { NetworkConf } from '../cni/plugins.ts'

/** What is known of a conf on the node: its own name, the file it came from, and perhaps what is in it. */
export type ConfName = Pick<NetworkConf, 'name' | 'source'> & Partial<Pick<NetworkConf, 'plugins'>>

/**
 * The plugin that a conf file stands for, by CNI-Genie's rule: the file's
 * name without its last extension and without what comes before the first
 * dash. `10-calico.conflist` is calico, `weave.conf` is weave,
 * `100-crio-bridge.conf` is crio-bridge.
 */
export function pluginNameOf(file: string): string {
  const base = file.slice(file.lastIndexOf('/') + 1)
  const dot = base.lastIndexOf('.')
  const stem = dot > 0 ? base.slice(0, dot) : base
  const dash = stem.indexOf('-')
  return dash > 0 ? stem.slice(dash + 1) : stem
}

/** The conf that a pod means by a plugin's name: the first whose file stands for it, else the first of that name. */
export const confOf = <T extends ConfName>(plugin: string, confs: readonly T[]): T | undefined =>
  confs.find((conf) => pluginNameOf(conf.source) === plugin) ?? confs.find((conf) => conf.name === plugin)

/** The conf on the node that gives the default network: the first that is neither loopback nor another adaptor. */
export const defaultConf = <T extends ConfName>(confs: readonly T[]): T | undefined =>
  confs.find((conf) => !isAdaptor(conf) && !isLoopback(conf) && pluginNameOf(conf.source) !== 'polynet')

/** Whether a pod would get nothing by it but its loopback, as CRI-O's installers have one beside a network's. */
export const isLoopback = ({ source, plugins = [] }: ConfName): boolean =>
  pluginNameOf(source) === 'loopback' ||
  (plugins.length > 0 && plugins.every(({ type }) => type === 'loopback'))

/** Whether a conf is that of a program which, as Polynet does, executes other plugins as pods' annotations say. */
export const isAdaptor = (conf: ConfName): boolean =>
  ['multus', 'genie'].includes(pluginNameOf(conf.source)) ||
  (conf.plugins ?? []).some(({ type }) => adaptors.includes(String(type)))

const adaptors = ['multus', 'multus-shim', 'genie']
