import { isDefaultNetwork } from '../attach/overlap.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import type { CniConfig } from '../cni/request.ts'
import { newestVersion } from '../cni/versions.ts'
import type { Wanted } from './wanted.ts'

/**
 * What the runtime says of the pod (hostPort of its containers, bandwidth),
 * given to whatever makes its eth0. A plugin gets what it declares, as if the
 * runtime had executed it. On the default network that Polynet renders, the
 * reference plugin portmap follows where there are ports; on other networks
 * nothing does, because nobody gets into them from the host's.
 */
export function withRuntimeConfig(
  wanted: Wanted[],
  { runtimeConfig = {} }: CniConfig,
  args: Record<string, string>,
): Wanted[] {
  return wanted.map((one): Wanted => {
    const { request, by } = one
    if (!request.default) return one
    if (by.kind === 'plugin') {
      const given = Object.entries(runtimeConfig).filter(([name]) => declared(by.conf, name))
      return { ...one, by: { ...by, capabilityArgs: { ...Object.fromEntries(given), ...by.capabilityArgs } } }
    }
    const { portMappings } = runtimeConfig
    if (!Array.isArray(portMappings) || portMappings.length === 0 || !isDefaultNetwork(by.network)) return one
    return { ...one, ports: { conf: portmap, args, capabilityArgs: { portMappings } } }
  })
}

const portmap: NetworkConf = {
  name: 'polynet',
  cniVersion: newestVersion,
  plugins: [{ type: 'portmap', capabilities: { portMappings: true } }],
  source: "the containers' hostPort",
}

const declared = ({ plugins }: NetworkConf, capability: string): boolean =>
  plugins.some(
    ({ capabilities }) => (capabilities as Record<string, unknown> | undefined)?.[capability] === true,
  )
