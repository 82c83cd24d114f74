import type { Problem } from '../lib/fault.ts'
import type { Wishes } from './request.ts'

/** One attachment as a pod wrote it, before anybody looked whether it exists. */
export interface Selection extends Wishes {
  /** Where it stands: `annotation networks[1]`. */
  path: string
  /** The annotation's key. */
  source: string
  /** Absent: the pod's own. */
  namespace?: string
  name: string
  interface?: string
}

/** An annotation longer than this is refused unread. */
const maxLength = 32768

export function tooLong(text: string, key: string, problems: Problem[]): boolean {
  if (text.length <= maxLength) return false
  const problem = `has ${text.length} characters; write at most ${maxLength}`
  problems.push({ path: `annotation ${key}`, problem })
  return true
}

/** More interfaces than this no pod gets. */
export const maxAttachments = 32
