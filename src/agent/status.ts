import type { Pod } from '../api/core.ts'
import { networkStatus } from '../attach/network-status.ts'
import type { SandboxRecord } from './journal/record.ts'
import { attachmentResults } from './results.ts'
import type { Wanted } from './wanted.ts'

/** The annotations that tell people and other tools what a pod came to. Polynet never reads them back. */
export function statusAnnotations(record: SandboxRecord, wanted: Wanted[], pod: Pod): Record<string, string> {
  const results = attachmentResults(record, wanted)
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
