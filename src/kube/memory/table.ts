import type { KubeObject } from '../../api/meta.ts'

/** A printer column: what `kubectl get` shows of an object. */
export interface Column {
  name: string
  type: 'string' | 'integer' | 'number' | 'boolean' | 'date'
  format?: string
  description?: string
  /** 0 is always shown, 1 with `-o wide`. */
  priority?: number
  cell(object: KubeObject, now: number): unknown
}
