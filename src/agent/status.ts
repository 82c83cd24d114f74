import type { Pod } from '../api/core.ts'
import { networkStatus } from '../attach/network-status.ts'
import type { CniResult } from '../cni/result.ts'
import type { SandboxRecord } from './journal/record.ts'

/** The annotations that tell people and other tools what a pod came to. Polynet never reads them back. */
export function statusAnnotations(
  record: SandboxRecord,
  results: CniResult[],
  pod: Pod,
): Record<string, string> {
  return networkStatus(
    record.attachments.map((a, index) => ({
      name: a.kind === 'polynet' ? `${a.network.namespace}/${a.network.name}` : a.name,
      interface: a.interface,
      default: a.default,
      result: results[index] ?? { cniVersion: '1.1.0' },
    })),
    pod.metadata.annotations,
  )
}
