import type { Container, Event, Lease, Namespace, Node, Pod, ServiceCIDR } from '../../api/core.ts'
import type { KubeObject } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { equal } from '../../lib/json.ts'
import { isLabelKey, isLabelValue } from '../../lib/selector.ts'
import type { Cause } from '../status.ts'
import { columns } from './columns.ts'
import { schemas } from './core-schemas.ts'
import { plainKind, type ServedKind, withStatus } from './kind.ts'
import { forbidden, required } from './metadata.ts'
import type { MergeKeys } from './patch.ts'

export interface ConfigMap extends KubeObject {
  data?: Record<string, string>
  binaryData?: Record<string, string>
  immutable?: boolean
}

const configMaps = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
} as const

const metadataKeys: MergeKeys = { 'metadata.ownerReferences': 'uid', 'metadata.finalizers': true }

const podKeys: MergeKeys = {
  ...metadataKeys,
  'spec.volumes': 'name',
  'spec.imagePullSecrets': 'name',
  'spec.hostAliases': 'ip',
  'spec.topologySpreadConstraints': 'topologyKey',
  'status.conditions': 'type',
  'status.podIPs': 'ip',
  ...Object.fromEntries(
    ['spec.containers', 'spec.initContainers', 'spec.ephemeralContainers'].flatMap((list) => [
      [list, 'name'],
      [`${list}.env`, 'name'],
      [`${list}.ports`, 'containerPort'],
      [`${list}.volumeMounts`, 'mountPath'],
      [`${list}.volumeDevices`, 'devicePath'],
    ]),
  ),
}

const pods = plainKind(resources.pods, {
  shortNames: ['po'],
  categories: ['all'],
  status: true,
  selectable: [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  columns: columns.pods,
  schema: schemas.pods,
  mergeKeys: podKeys,
  defaulted: (object) => {
    const pod = object as Pod
    if (!pod.spec || !Array.isArray(pod.spec.containers)) return pod
    const containers = (list: Container[] | undefined) => list?.map(defaultedContainer)
    return {
      ...pod,
      spec: {
        restartPolicy: 'Always',
        dnsPolicy: 'ClusterFirst',
        schedulerName: 'default-scheduler',
        terminationGracePeriodSeconds: 30,
        ...pod.spec,
        containers: containers(pod.spec.containers),
        ...(pod.spec.initContainers && { initContainers: containers(pod.spec.initContainers) }),
      },
    } as Pod
  },
  created: (object) => withStatus(object, { phase: 'Pending' }),
  updated: (object, old) => withStatus(object, (old as Pod).status),
  statusUpdated: (object, old) =>
    withStatus(
      {
        ...old,
        metadata: { ...object.metadata, ownerReferences: old.metadata.ownerReferences },
      },
      (object as Pod).status,
    ),
  causes: (object, old) => podCauses(object as Pod, old as Pod | undefined),
  grace: (object, asked) => {
    const { spec, status } = object as Pod
    const seconds = asked ?? spec.terminationGracePeriodSeconds ?? 30
    // Nobody has started it, or nothing of it runs any more: there is nothing to wait for.
    if (!spec.nodeName || status?.phase === 'Succeeded' || status?.phase === 'Failed') return 0
    return Math.max(0, seconds)
  },
})

const defaultedContainer = (container: Container): Container =>
  ({
    imagePullPolicy: 'IfNotPresent',
    resources: {},
    ...container,
    ...(container.ports && { ports: container.ports.map((port) => ({ protocol: 'TCP', ...port })) }),
  }) as Container

function podCauses(pod: Pod, old: Pod | undefined): Cause[] {
  if (old) return podUpdateCauses(pod, old)
  const causes: Cause[] = []
  const containers = pod.spec?.containers
  if (!Array.isArray(containers) || containers.length === 0) causes.push(required('spec.containers'))
  const names = new Set<string>()
  for (const list of ['initContainers', 'containers'] as const)
    (Array.isArray(pod.spec?.[list]) ? pod.spec[list] : []).forEach((container, i) => {
      const at = `spec.${list}[${i}]`
      if (!container.name) causes.push(required(`${at}.name`))
      else if (names.has(container.name))
        causes.push({
          reason: 'FieldValueDuplicate',
          message: `Duplicate value: ${JSON.stringify(container.name)}`,
          field: `${at}.name`,
        })
      if (!container.image) causes.push(required(`${at}.image`))
      names.add(container.name)
    })
  return causes
}

/** A pod's spec stays as it is, but for images and little else. */
function podUpdateCauses(pod: Pod, old: Pod): Cause[] {
  const fixed = ({ spec }: Pod): unknown => ({
    ...spec,
    // A scheduler without the binding subresource gives a node to a pod that has none.
    nodeName: old.spec.nodeName ? spec.nodeName : undefined,
    tolerations: undefined,
    activeDeadlineSeconds: undefined,
    schedulingGates: undefined,
    terminationGracePeriodSeconds: undefined,
    containers: spec.containers.map((c) => ({ ...c, image: undefined })),
    initContainers: spec.initContainers?.map((c) => ({ ...c, image: undefined })),
  })
  if (pod.spec === old.spec) return []
  if (Array.isArray(pod.spec?.containers) && equal(fixed(pod), fixed(old))) return []
  return [
    forbidden(
      'spec',
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    ),
  ]
}

const nodes = plainKind(resources.nodes, {
  shortNames: ['no'],
  status: true,
  selectable: ['spec.unschedulable'],
  columns: columns.nodes,
  schema: schemas.nodes,
  mergeKeys: {
    ...metadataKeys,
    'status.conditions': 'type',
    'status.addresses': 'type',
    'spec.podCIDRs': true,
  },
  defaulted: (object) => ({ ...object, spec: (object as Node).spec ?? {} }) as Node,
  updated: (object, old) => withStatus(object, (old as Node).status),
  statusUpdated: (object, old) => withStatus({ ...old, metadata: object.metadata }, (object as Node).status),
  causes: (object, old) => {
    const causes: Cause[] = []
    const { spec } = object as Node
    ;(spec?.taints ?? []).forEach((taint, i) => {
      if (!isLabelKey(taint.key ?? '') || !isLabelValue(taint.value ?? ''))
        causes.push({
          reason: 'FieldValueInvalid',
          message: `Invalid value: ${JSON.stringify(taint.key)}: not a taint`,
          field: `spec.taints[${i}].key`,
        })
      if (!['NoSchedule', 'PreferNoSchedule', 'NoExecute'].includes(taint.effect))
        causes.push({
          reason: 'FieldValueNotSupported',
          message: `Unsupported value: ${JSON.stringify(taint.effect)}: supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
          field: `spec.taints[${i}].effect`,
        })
    })
    const was = (old as Node | undefined)?.spec?.podCIDRs
    if (was?.length && !equal(was, spec?.podCIDRs))
      causes.push(forbidden('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid'))
    return causes
  },
})

const namespaces = plainKind(resources.namespaces, {
  shortNames: ['ns'],
  names: 'label',
  status: true,
  selectable: ['status.phase'],
  columns: columns.namespaces,
  schema: schemas.namespaces,
  mergeKeys: { ...metadataKeys, 'status.conditions': 'type' },
  defaulted: (object) => ({
    ...object,
    metadata: {
      ...object.metadata,
      labels: { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name },
    },
  }),
  created: (object) =>
    ({ ...object, spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } }) as Namespace,
  updated: (object, old) =>
    ({ ...object, spec: (old as Namespace).spec, status: (old as Namespace).status }) as Namespace,
})

const events = plainKind(resources.events, {
  shortNames: ['ev'],
  selectable: [
    ...['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map(
      (field) => `involvedObject.${field}`,
    ),
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  columns: columns.events,
  schema: schemas.events,
  causes: (object) => {
    const event = object as Event
    const about = event.involvedObject?.namespace ?? ''
    const expected = about === '' ? 'default' : about
    if (event.metadata.namespace === expected || (about === '' && event.metadata.namespace === 'kube-system'))
      return []
    return [
      {
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${JSON.stringify(about)}: does not match event.namespace`,
        field: 'involvedObject.namespace',
      },
    ]
  },
})

const leases = plainKind(resources.leases, {
  unconditional: false,
  columns: columns.leases,
  schema: schemas.leases,
  defaulted: (object) => ({ ...object, spec: (object as Lease).spec ?? {} }) as Lease,
  causes: (object) => {
    const { leaseDurationSeconds: seconds, leaseTransitions: transitions } = (object as Lease).spec
    const causes: Cause[] = []
    if (seconds !== undefined && seconds <= 0)
      causes.push({
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${seconds}: must be greater than 0`,
        field: 'spec.leaseDurationSeconds',
      })
    if (transitions !== undefined && transitions < 0)
      causes.push({
        reason: 'FieldValueInvalid',
        message: `Invalid value: ${transitions}: must be greater than or equal to 0`,
        field: 'spec.leaseTransitions',
      })
    return causes
  },
})

const configMapKind = plainKind(configMaps, {
  shortNames: ['cm'],
  columns: columns.configMaps,
  schema: schemas.configMaps,
  causes: (object, old) => {
    const now = object as ConfigMap
    const was = old as ConfigMap | undefined
    if (!was?.immutable) return []
    if (now.immutable && equal(now.data, was.data) && equal(now.binaryData, was.binaryData)) return []
    return [forbidden('data', 'field is immutable when `immutable` is set')]
  },
})

const secrets = plainKind(resources.secrets, { columns: columns.secrets, schema: schemas.secrets })

/** No Service is given an address of it: there are none here. */
const serviceCIDRs = plainKind(resources.serviceCIDRs, {
  status: true,
  columns: columns.serviceCIDRs,
  schema: schemas.serviceCIDRs,
  causes: (object, old) => {
    const [now, was] = [object, old].map((each) => (each as ServiceCIDR | undefined)?.spec?.cidrs ?? [])
    if (now?.length === 0) return [required('spec.cidrs')]
    // One of the other family may be added.
    const kept = was?.every((cidr, i) => now?.[i] === cidr)
    return kept
      ? []
      : [forbidden('spec.cidrs', 'only converting from single-family to dual-stack is allowed')]
  },
})

/** Nobody is asked: what they say is kept for those who write them. */
const webhookConfigurations = [
  resources.validatingWebhookConfigurations,
  resources.mutatingWebhookConfigurations,
].map((resource) =>
  plainKind(resource, {
    columns: columns.webhookConfigurations,
    schema: schemas.webhookConfigurations,
    mergeKeys: { ...metadataKeys, webhooks: 'name' },
  }),
)

/** Kubernetes' own kinds that this server has. */
export const coreKinds: ServedKind[] = [
  ...[pods, nodes, namespaces, events, leases, configMapKind, secrets, serviceCIDRs],
  ...webhookConfigurations,
]
