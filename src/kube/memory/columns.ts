import type {
  Event,
  Lease,
  Namespace,
  Node,
  Pod,
  Secret,
  ServiceCIDR,
  WebhookConfiguration,
} from '../../api/core.ts'
import type { KubeObject } from '../../api/meta.ts'
import { age, ageColumn, type Column, nameColumn } from './table.ts'

const none = '<none>'

function column<T extends KubeObject>(
  name: string,
  cell: (object: T, now: number) => unknown,
  rest: Partial<Column> = {},
): Column {
  return { name, type: 'string', ...rest, cell: (object, now) => cell(object as T, now) }
}

const wide = { priority: 1 }

const sourceOf = ({ source, reportingComponent, reportingInstance }: Event): string =>
  [source?.component ?? reportingComponent, source?.host ?? reportingInstance].filter(Boolean).join(', ')

/** What real Kubernetes shows of its own kinds (pkg/printers/internalversion). */
export const columns = {
  pods: [
    nameColumn,
    column<Pod>('Ready', ({ spec, status }) => {
      const ready = (status?.containerStatuses ?? []).filter((c) => c.ready).length
      return `${ready}/${spec.containers.length}`
    }),
    column<Pod>('Status', podStatus),
    column<Pod>('Restarts', ({ status }) =>
      String((status?.containerStatuses ?? []).reduce((sum, c) => sum + c.restartCount, 0)),
    ),
    ageColumn,
    column<Pod>('IP', ({ status }) => status?.podIPs?.[0]?.ip ?? status?.podIP ?? none, wide),
    column<Pod>('Node', ({ spec }) => spec.nodeName || none, wide),
    column<Pod>('Nominated Node', () => none, wide),
    column<Pod>('Readiness Gates', () => none, wide),
  ],
  nodes: [
    nameColumn,
    column<Node>('Status', ({ spec, status }) => {
      const ready = status?.conditions?.find((c) => c.type === 'Ready')?.status
      const word = ready === undefined ? 'Unknown' : ready === 'True' ? 'Ready' : 'NotReady'
      return spec.unschedulable ? `${word},SchedulingDisabled` : word
    }),
    column<Node>('Roles', ({ metadata }) => rolesOf(metadata.labels ?? {}) || none),
    ageColumn,
    column<Node>('Version', ({ status }) => status?.nodeInfo?.kubeletVersion ?? ''),
    column<Node>('Internal-IP', (node) => addressOf(node, 'InternalIP'), wide),
    column<Node>('External-IP', (node) => addressOf(node, 'ExternalIP'), wide),
    column<Node>('OS-Image', ({ status }) => status?.nodeInfo?.osImage ?? '<unknown>', wide),
    column<Node>('Kernel-Version', ({ status }) => status?.nodeInfo?.kernelVersion ?? '<unknown>', wide),
    column<Node>(
      'Container-Runtime',
      ({ status }) => status?.nodeInfo?.containerRuntimeVersion ?? '<unknown>',
      wide,
    ),
  ],
  namespaces: [nameColumn, column<Namespace>('Status', ({ status }) => status?.phase), ageColumn],
  events: [
    column<Event>('Last Seen', (event, now) => age(lastSeen(event), now)),
    column<Event>('Type', (event) => event.type),
    column<Event>('Reason', (event) => event.reason),
    column<Event>(
      'Object',
      ({ involvedObject: about }) => `${(about.kind ?? '').toLowerCase()}/${about.name}`,
    ),
    column<Event>(
      'Subobject',
      (event) => (event.involvedObject as { fieldPath?: string }).fieldPath ?? '',
      wide,
    ),
    column<Event>('Source', sourceOf, wide),
    column<Event>('Message', (event) => (event.message ?? '').trim()),
    column<Event>('First Seen', (event, now) => age(event.firstTimestamp ?? lastSeen(event), now), wide),
    column<Event>('Count', (event) => event.count ?? 1, { ...wide, type: 'integer' }),
    { ...nameColumn, priority: 1 },
  ],
  leases: [nameColumn, column<Lease>('Holder', ({ spec }) => spec.holderIdentity ?? ''), ageColumn],
  configMaps: [
    nameColumn,
    column<KubeObject & { data?: object; binaryData?: object }>(
      'Data',
      ({ data = {}, binaryData = {} }) => Object.keys(data).length + Object.keys(binaryData).length,
      { type: 'integer' },
    ),
    ageColumn,
  ],
  secrets: [
    nameColumn,
    column<Secret>('Type', ({ type = 'Opaque' }) => type),
    column<Secret>('Data', ({ data = {} }) => Object.keys(data).length, { type: 'integer' }),
    ageColumn,
  ],
  serviceCIDRs: [
    nameColumn,
    column<ServiceCIDR>('CIDRs', ({ spec }) => (spec?.cidrs ?? []).join(',')),
    ageColumn,
  ],
  webhookConfigurations: [
    nameColumn,
    column<WebhookConfiguration>('Webhooks', ({ webhooks = [] }) => webhooks.length, { type: 'integer' }),
    ageColumn,
  ],
  crds: [nameColumn, column('Created At', ({ metadata }) => metadata.creationTimestamp, { type: 'date' })],
} satisfies Record<string, Column[]>

/** The word under STATUS: the most telling of phase, reason and what the containers wait for or ended with. */
function podStatus({ metadata, spec, status }: Pod): string {
  let word = status?.reason || status?.phase || 'Pending'
  const words = (status?.containerStatuses ?? []).map(({ state }) => {
    const { waiting, terminated } = state as Record<
      string,
      { reason?: string; exitCode?: number } | undefined
    >
    return waiting?.reason ?? terminated?.reason ?? (terminated && `ExitCode:${terminated.exitCode ?? 0}`)
  })
  word = words.findLast((w) => w) ?? word
  const running = (status?.containerStatuses ?? []).some((c) => c.ready && c.state.running)
  if (word === 'Completed' && running) word = 'Running'
  if (metadata.deletionTimestamp) return status?.reason === 'NodeLost' ? 'Unknown' : 'Terminating'
  return word === 'Pending' && !spec.nodeName ? 'Pending' : word
}

const rolesOf = (labels: Record<string, string>): string =>
  Object.entries(labels)
    .flatMap(([key, value]) => {
      if (key.startsWith('node-role.kubernetes.io/')) return [key.slice('node-role.kubernetes.io/'.length)]
      return key === 'kubernetes.io/role' ? [value] : []
    })
    .filter(Boolean)
    .sort()
    .join(',')

const addressOf = ({ status }: Node, type: string): string =>
  status?.addresses?.find((a) => a.type === type)?.address ?? none

const lastSeen = (event: Event): string | undefined =>
  event.lastTimestamp ??
  event.firstTimestamp ??
  (event as { eventTime?: string }).eventTime ??
  event.metadata.creationTimestamp
