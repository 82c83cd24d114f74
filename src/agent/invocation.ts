import type { Invocation } from '../cni/plugins.ts'
import type { AttachmentRecord, ForeignAttachment, SandboxRecord } from './journal/record.ts'
import { attachmentResults } from './results.ts'

/**
 * What other plugins are executed with for an attachment: those that make it,
 * or those that lead the host's ports to one that Polynet renders, chained
 * behind it. Undefined where none has a part in it.
 */
export function invocationOf(record: SandboxRecord, a: ForeignAttachment): Invocation
export function invocationOf(record: SandboxRecord, a: AttachmentRecord): Invocation | undefined
export function invocationOf(record: SandboxRecord, a: AttachmentRecord): Invocation | undefined {
  const { containerID, netns } = record
  if (a.kind === 'plugin') {
    const { conf, args, capabilityArgs, result, interface: ifName } = a
    return { conf, args, capabilityArgs, containerID, netns, ifName, ...(result && { prevResult: result }) }
  }
  if (!a.ports) return undefined
  const result = attachmentResults({ ...record, attachments: [a] }, [])[0]
  // The link's other end, which limits of its rate are put on.
  const outside = a.port?.link.kind === 'veth' ? [{ name: a.port.link.name }] : []
  const prevResult = result && { ...result, interfaces: [...(result.interfaces ?? []), ...outside] }
  return { ...a.ports, containerID, netns, ifName: a.interface, ...(prevResult && { prevResult }) }
}
