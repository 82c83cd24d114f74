import type { Figures } from '../figures.ts'
import { addresses } from './addresses.ts'
import { attach } from './attach.ts'
import { memory } from './memory.ts'
import type { Place } from './place.ts'
import { pods } from './pods.ts'
import { requests } from './requests.ts'

/** How much of something is measured: as little as shows that it works, or as much as is published. */
export type Size = <T>(sizes: { small: T; full: T }) => T

export interface Row {
  about: string
  /** On the one place that all rows share. */
  measure(place: Place, size: Size): Promise<Figures[]>
}

/** What can be measured beside the peers, in the order it is. */
export const rows: Record<string, Row> = {
  attach: { about: 'ADD and DEL as the runtime sees them', measure: attach },
  pods: { about: 'pods from their creation to Ready', measure: pods },
  requests: { about: 'what is asked of the API server for a pod', measure: requests },
  addresses: { about: 'a thousand addresses for ten nodes', measure: addresses },
  memory: { about: 'what stays in memory', measure: memory },
}
