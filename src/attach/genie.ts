import type { NetworkConf } from '../cni/plugins.ts'

/** The plugins that CNI-Genie makes a configuration for when the node has none. */
export const generated: readonly string[] = ['bridge', 'macvlan', 'sriov']

/**
 * The configuration that CNI-Genie made for a plugin without a conf file, as
 * it was, names and subnets included; undefined for any other plugin.
 * `master` is the NIC that carries the host's default route.
 */
export function genieConf(plugin: string, subnet?: string, master = 'eth0'): NetworkConf | undefined {
  const made = confs(subnet, master).get(plugin)
  return (
    made && {
      name: made.name,
      cniVersion: '0.3.1',
      plugins: [made.plugin],
      source: `generated for ${plugin}`,
    }
  )
}

const confs = (subnet: string | undefined, master: string) =>
  new Map([
    [
      'bridge',
      {
        name: 'mybridgenet',
        plugin: { type: 'bridge', ipam: { type: 'host-local', subnet: subnet ?? '10.10.0.0/16' } },
      },
    ],
    [
      'macvlan',
      {
        name: 'macvlannet',
        plugin: { type: 'macvlan', master, ipam: { type: 'host-local', subnet: subnet ?? '10.10.0.0/16' } },
      },
    ],
    [
      'sriov',
      {
        name: 'sriovnet',
        plugin: {
          type: 'sriov',
          master: 'eth0',
          ipam: {
            type: 'fixipam',
            subnet: subnet ?? '10.55.206.0/26',
            routes: [{ dst: '0.0.0.0/0' }],
            ...(subnet === undefined && { gateway: '10.55.206.1' }),
          },
        },
      },
    ],
  ])
