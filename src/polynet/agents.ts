import { systemNamespace } from '../api/network.ts'

/** Where the chart puts agents, and how it labels their pods. */
export const agents = {
  namespace: systemNamespace,
  labels: 'app.kubernetes.io/name=polynet,app.kubernetes.io/component=agent',
}
