import type { Schema } from './schema.ts'

export const schemas: Record<
  'pods' | 'nodes' | 'namespaces' | 'events' | 'leases' | 'configMaps' | 'crds',
  Schema
> = {
  pods: {},
  nodes: {},
  namespaces: {},
  events: {},
  leases: {},
  configMaps: {},
  crds: {},
}
