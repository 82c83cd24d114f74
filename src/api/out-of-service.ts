import type { Node } from './core.ts'

/** Whether an administrator has declared that nothing runs on the node any more, and what it had is free for others. */
export const isOutOfService = ({ spec }: Node): boolean =>
  (spec.taints ?? []).some(({ key }) => key === 'node.kubernetes.io/out-of-service')
