import { holdingsOf } from '../src/agent/addresses/records.ts'
import { recordsIn } from '../src/agent/journal/record.ts'

/** What a node's journal holds, a line each: its sandboxes, and the addresses they have. */
export function heldLines(entries: ReadonlyMap<string, unknown>): string[] {
  const sandboxes = recordsIn(entries).map(
    ({ containerID, pod, state }) =>
      `journal sandbox ${containerID.slice(0, 12)} ${pod.namespace}/${pod.name} ${state}`,
  )
  const leases = holdingsOf(entries).leases.flatMap(({ owner, network, addresses }) =>
    addresses.map(
      ({ address }) =>
        `journal address ${address} of ${network} ${owner.containerID.slice(0, 12)} ${owner.interface} ${owner.pod}`,
    ),
  )
  return [...sandboxes, ...leases].sort()
}
