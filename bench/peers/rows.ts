import type { Figures } from '../figures.ts'
import { addresses } from './addresses.ts'
import { attach } from './attach.ts'
import { killed } from './killed.ts'
import { idle, memory } from './memory.ts'
import type { Place } from './place.ts'
import { pods } from './pods.ts'
import { reachable } from './reachable.ts'
import { requests } from './requests.ts'
import { restart } from './restart.ts'
import { throughput } from './throughput.ts'

/** How much of something is measured: as little as shows that it works, or as much as is published. */
export type Size = <T>(sizes: { small: T; full: T }) => T

export interface Row {
  about: string
  /** What it takes on two idle CPUs. */
  minutes: number
  /** On the one place that all rows share. */
  measure(place: Place, size: Size): Promise<Figures[]>
}

/** What can be measured beside the peers, in the order it is. */
export const rows: Record<string, Row> = {
  idle: { about: 'what is in memory before the first pod', minutes: 0.2, measure: idle },
  attach: { about: 'ADD and DEL as the runtime sees them', minutes: 7, measure: attach },
  pods: { about: 'pods from their creation to Ready', minutes: 6, measure: pods },
  requests: {
    about: 'what is asked of the API server for a pod; a hundred at once',
    minutes: 10,
    measure: requests,
  },
  addresses: { about: 'a thousand addresses for ten nodes', minutes: 4, measure: addresses },
  killed: { about: 'fewer while allocators are killed', minutes: 1, measure: killed },
  memory: { about: 'what stays in memory', minutes: 2, measure: memory },
  throughput: { about: 'packets from pod to pod', minutes: 3, measure: throughput },
  reachable: { about: 'a new pod, seen from another node', minutes: 1, measure: reachable },
  restart: { about: 'what restarts do to pods', minutes: 3, measure: restart },
}
