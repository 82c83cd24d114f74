import type { Pod } from '../api/core.ts'
import type { KubeObject } from '../api/meta.ts'

/** Kinds that make pods, and where each keeps the template of them. */
export const templateKinds = {
  Deployment: ['spec', 'template'],
  StatefulSet: ['spec', 'template'],
  DaemonSet: ['spec', 'template'],
  ReplicaSet: ['spec', 'template'],
  Job: ['spec', 'template'],
  CronJob: ['spec', 'jobTemplate', 'spec', 'template'],
} as const satisfies Record<string, readonly string[]>

/** The template of the pods that an object makes; undefined where it makes none. */
export function templateOf(kind: string, object: KubeObject): Pick<Pod, 'metadata' | 'spec'> | undefined {
  if (!Object.hasOwn(templateKinds, kind)) return undefined
  let at: unknown = object
  for (const key of templateKinds[kind as keyof typeof templateKinds])
    at = (at as Record<string, unknown> | undefined)?.[key]
  const template = at as Partial<Pod> | undefined
  return (
    template && { metadata: template.metadata ?? { name: '' }, spec: template.spec ?? { containers: [] } }
  )
}
