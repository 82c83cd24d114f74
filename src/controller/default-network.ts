import { apiVersionOf } from '../api/meta.ts'
import { defaultNetwork, type Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import type { Kube } from '../kube/port.ts'
import { isFault } from '../lib/fault.ts'
import { formatPrefix } from '../lib/ip.ts'
import { prefixIn } from '../lib/program.ts'

/** What pods have as `eth0` where nobody says anything else. */
export const defaultNetworkOf = (subnets: readonly string[]): Network => ({
  apiVersion: apiVersionOf(resources.networks),
  kind: resources.networks.kind,
  metadata: { ...defaultNetwork },
  spec: {
    subnets: subnets.map((text) => ({
      cidr: formatPrefix(prefixIn('--default-network', text, '10.244.0.0/16')),
    })),
  },
})

/** Makes it when it is not there. One that is there stays as it is: subnets cannot change, and others may have been appended. */
export async function makeDefaultNetwork(kube: Kube, network: Network): Promise<void> {
  try {
    await kube.create(resources.networks, network)
  } catch (error) {
    if (!isFault(error, 'exists')) throw error
  }
}
