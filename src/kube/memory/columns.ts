import type { Column } from './table.ts'

export const columns: Record<
  'pods' | 'nodes' | 'namespaces' | 'events' | 'leases' | 'configMaps' | 'crds',
  Column[]
> = {
  pods: [],
  nodes: [],
  namespaces: [],
  events: [],
  leases: [],
  configMaps: [],
  crds: [],
}
