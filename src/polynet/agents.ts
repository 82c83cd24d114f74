/** Where the chart puts agents, and how it labels their pods. */
export const agents = {
  namespace: 'polynet-system',
  labels: 'app.kubernetes.io/name=polynet,app.kubernetes.io/component=agent',
}
