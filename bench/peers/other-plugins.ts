import { flannelConf } from './flannel.ts'
import type { Held, NodeRuntime, Plugin } from './node-runtime.ts'
import { bare } from './ways.ts'

/** What pods of the bridge plugin have beside it: other ways between nodes. */
export function otherPlugins(node: string): Plugin[] {
  // Each node gives a part of the wire's addresses.
  const [rangeStart, rangeEnd] =
    node === bare.node ? ['192.168.10.100', '192.168.10.169'] : ['192.168.10.170', '192.168.10.239']
  const ipam = { type: 'host-local', ranges: [[{ subnet: '192.168.10.0/24', rangeStart, rangeEnd }]] }
  const macvlan = { cniVersion: '0.3.1', name: 'macvlan', type: 'macvlan', master: 'eth1', ipam }
  return [
    { conf: flannelConf, interface: 'net1' },
    { conf: macvlan, interface: 'net2' },
  ]
}

/** Has the pods attached by these too. */
export async function attachOthers(runtime: NodeRuntime, node: string, pods: Held[]): Promise<void> {
  for (const pod of pods) for (const plugin of otherPlugins(node)) await runtime.add(pod, plugin)
}
