import { isDefaultNetwork } from '../api/network.ts'
import { declared } from '../attach/runtime-config.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import type { CniConfig } from '../cni/request.ts'
import { newestVersion } from '../cni/versions.ts'
import type { Wanted } from './wanted.ts'

/**
 * What the runtime says of the pod (hostPort of its containers, bandwidth),
 * given to whatever makes its eth0. A plugin gets what it declares, as if the
 * runtime had executed it. On the default network that Polynet renders, the
 * reference plugins portmap and bandwidth follow where there is something for
 * them; on other networks nothing does, because nobody gets into them from
 * the host's, and their links are not there.
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
    const following = followers.filter(({ capability, says }) => says(runtimeConfig[capability]))
    if (following.length === 0 || !isDefaultNetwork(by.network)) return one
    const given = following.map(({ capability }) => [capability, runtimeConfig[capability]])
    return { ...one, ports: { conf: confOf(following), args, capabilityArgs: Object.fromEntries(given) } }
  })
}

interface Follower {
  plugin: string
  capability: string
  /** What it follows, for messages. */
  source: string
  says(value: unknown): boolean
}

const followers: Follower[] = [
  {
    plugin: 'portmap',
    capability: 'portMappings',
    source: "the containers' hostPort",
    says: (value) => Array.isArray(value) && value.length > 0,
  },
  {
    plugin: 'bandwidth',
    capability: 'bandwidth',
    source: "the pod's bandwidth annotations",
    // containerd writes IngressRate, CRI-O ingressRate; readers in Go take both.
    says: (value) =>
      Object.entries(Object(value)).some(([key, rate]) => /^(in|e)gressRate$/i.test(key) && Number(rate) > 0),
  },
]

const confOf = (following: Follower[]): NetworkConf => ({
  name: 'polynet',
  cniVersion: newestVersion,
  plugins: following.map(({ plugin, capability }) => ({
    type: plugin,
    capabilities: { [capability]: true },
  })),
  source: following.map(({ source }) => source).join(' and '),
})
