import { onNode, output } from './on-node.ts'
import type { Place } from './place.ts'
import { nodes } from './ways.ts'

/**
 * Gives back what Multus 4.2.2 does not: of a default network that is a list
 * of plugins, DELs lack the ranges of its addresses, so that every pod leaves
 * its own behind until the node has none
 * (github.com/k8snetworkplumbingwg/multus-cni/issues/1449).
 */
export async function giveBackLeaked(place: Place): Promise<void> {
  await output([...(await onNode(place, nodes.multus)), 'sh', '-c', script])
}

/** What host-local holds for sandboxes that are gone: a file for each address, with the sandbox in its first line. */
const script = `
cd /var/lib/cni/networks/bridge || exit 0
for address in 10.* fd*; do
  sandbox=$(head -n 1 "$address" | tr -d '\\r')
  [ -e "/run/netns/$sandbox" ] || [ -e "/run/containerd/io.containerd.runtime.v2.task/k8s.io/$sandbox" ] || rm -f "$address"
done`
