import type { Schema } from './schema.ts'

/**
 * What `kubectl explain` says of Kubernetes' own kinds here: the fields that
 * Polynet reads or writes. Objects may hold more; nothing is pruned.
 */
const text = (description: string): Schema => ({ type: 'string', description })
const whole = (description: string): Schema => ({ type: 'integer', description })
const flag = (description: string): Schema => ({ type: 'boolean', description })
const time = (description: string): Schema => ({ type: 'string', format: 'date-time', description })
const list = (description: string, items: Schema): Schema => ({ type: 'array', description, items })
const texts = (description: string): Schema => list(description, { type: 'string' })
const map = (description: string): Schema => ({
  type: 'object',
  description,
  additionalProperties: { type: 'string' },
})
const object = (description: string, properties: Record<string, Schema>, required?: string[]): Schema => ({
  type: 'object',
  description,
  properties,
  ...(required && { required }),
})

const ownerReference = object(
  'OwnerReference identifies an owning object: in the same namespace, or in none.',
  {
    apiVersion: text('API version of the owner.'),
    kind: text('Kind of the owner.'),
    name: text('Name of the owner.'),
    uid: text('UID of the owner.'),
    controller: flag('Whether the owner manages the object.'),
    blockOwnerDeletion: flag('Whether a foreground deletion of the owner waits for the object.'),
  },
  ['apiVersion', 'kind', 'name', 'uid'],
)

/** meta/v1 ObjectMeta. */
export const objectMeta = object('Standard metadata of every object.', {
  name: text('Name, unique within the namespace. Cannot be changed.'),
  generateName: text('Prefix of a name that the server completes, where name is empty.'),
  namespace: text('Namespace the object is in. Cannot be changed.'),
  labels: map('Keys and values to select objects by.'),
  annotations: map('Keys and values that tools keep with the object.'),
  finalizers: texts('Who must agree before a deleted object goes.'),
  ownerReferences: list('Objects that this one depends on: it is deleted when all are gone.', ownerReference),
  uid: text('Unique in time and space; set by the server.'),
  resourceVersion: text('Version of the object; an update with another one is a conflict.'),
  generation: whole('Counts changes of what users ask for.'),
  creationTimestamp: time('When the object was created.'),
  deletionTimestamp: time('When the object is to be gone; set by the server on deletion.'),
  deletionGracePeriodSeconds: whole('Seconds allowed to end gracefully.'),
})

const condition = object(
  'One aspect of the present state.',
  {
    type: text('Aspect that it is about.'),
    status: text('True, False or Unknown.'),
    reason: text('One word, for programs.'),
    message: text('One sentence, for people.'),
    lastTransitionTime: time('When the status last changed.'),
  },
  ['type', 'status'],
)

const container = object(
  'A container that runs in a pod.',
  {
    name: text('Name, unique within the pod. Cannot be changed.'),
    image: text('Image to run.'),
    imagePullPolicy: text('Always, Never or IfNotPresent.'),
    command: texts("Program and its first arguments; absent: the image's entry point."),
    args: texts("Arguments; absent: the image's."),
    env: list(
      'Environment variables.',
      object('An environment variable.', { name: text('Name.'), value: text('Value.') }, ['name']),
    ),
    ports: list(
      'Ports that the container listens on.',
      object(
        'A port.',
        {
          name: text('Name, unique within the pod.'),
          containerPort: whole("Number on the pod's address."),
          hostPort: whole("Number on the host's address."),
          protocol: text('TCP, UDP or SCTP; TCP when absent.'),
        },
        ['containerPort'],
      ),
    ),
    resources: object('What it needs and may use.', {
      requests: map('What it needs, by resource.'),
      limits: map('What it may use at most, by resource.'),
    }),
  },
  ['name'],
)

export const schemas = {
  pods: object('Pod is a collection of containers that run on one host.', {
    spec: object(
      'What is asked for.',
      {
        nodeName: text('Node that the pod is on; set by the scheduler.'),
        nodeSelector: map('Labels that the node must have.'),
        hostNetwork: flag("Whether the pod uses its host's network namespace."),
        containers: list('Containers; at least one. Cannot be added or removed.', container),
        initContainers: list('Containers that run to their end before the others start.', container),
        restartPolicy: text('Always, OnFailure or Never; Always when absent.'),
        terminationGracePeriodSeconds: whole('Seconds allowed to end gracefully; 30 when absent.'),
        tolerations: list(
          'Taints that the pod tolerates.',
          object('A toleration.', {
            key: text('Key of the taint; empty: any.'),
            operator: text('Equal or Exists.'),
            value: text('Value of the taint.'),
            effect: text('Effect of the taint; empty: any.'),
          }),
        ),
      },
      ['containers'],
    ),
    status: object('What is.', {
      phase: text('Pending, Running, Succeeded, Failed or Unknown.'),
      reason: text('One word about the phase.'),
      message: text('One sentence about the phase.'),
      podIP: text('First address.'),
      podIPs: list('Address of each family.', object('An address.', { ip: text('The address.') }, ['ip'])),
      hostIP: text("The node's address."),
      startTime: time('When the kubelet took the pod on.'),
      conditions: list('Conditions: PodScheduled, Initialized, ContainersReady, Ready.', condition),
      containerStatuses: list(
        'Of each container.',
        object('State of a container.', {
          name: text('Name of the container.'),
          ready: flag('Whether it is ready.'),
          restartCount: whole('How often it was started again.'),
          containerID: text('Identifier at the runtime.'),
        }),
      ),
    }),
  }),
  nodes: object('Node is a machine that runs pods.', {
    spec: object('What is asked for.', {
      podCIDR: text("First prefix of the node's pods."),
      podCIDRs: texts("Prefix of the node's pods, of each family."),
      unschedulable: flag('Whether no new pods may come.'),
      taints: list(
        'Taints: pods that do not tolerate them stay away.',
        object('A taint.', { key: text('Key.'), value: text('Value.'), effect: text('Effect.') }, [
          'key',
          'effect',
        ]),
      ),
    }),
    status: object('What is.', {
      addresses: list(
        'Addresses of the node.',
        object('An address.', { type: text('InternalIP, Hostname, …'), address: text('The address.') }, [
          'type',
          'address',
        ]),
      ),
      conditions: list('Conditions: Ready and others.', condition),
      capacity: map('What the node has, by resource.'),
      allocatable: map('What pods may use, by resource.'),
      nodeInfo: map('Kernel, operating system, runtime and kubelet.'),
    }),
  }),
  namespaces: object('Namespace is a scope for names, and what is in it goes with it.', {
    spec: object('What is asked for.', { finalizers: texts('Who must agree before it goes.') }),
    status: object('What is.', { phase: text('Active or Terminating.') }),
  }),
  events: object('Event is a report of something that happened to an object. It is kept for a while only.', {
    involvedObject: object('The object that it is about.', {
      apiVersion: text('API version.'),
      kind: text('Kind.'),
      namespace: text('Namespace.'),
      name: text('Name.'),
      uid: text('UID.'),
    }),
    reason: text('One word, for programs.'),
    message: text('One sentence, for people.'),
    type: text('Normal or Warning.'),
    source: object('Who reports.', { component: text('Program.'), host: text('Node.') }),
    reportingComponent: text('Controller that reports.'),
    reportingInstance: text('Instance of the controller.'),
    firstTimestamp: time('When it was first seen.'),
    lastTimestamp: time('When it was last seen.'),
    count: whole('How often it was seen.'),
  }),
  leases: object('Lease says who holds something, and until when.', {
    spec: object('The lease.', {
      holderIdentity: text('Who holds it.'),
      leaseDurationSeconds: whole('Seconds after renewTime that others wait before they take it.'),
      acquireTime: time('When it was taken.'),
      renewTime: time('When it was last renewed.'),
      leaseTransitions: whole('How often the holder changed.'),
    }),
  }),
  configMaps: object('ConfigMap holds configuration for pods.', {
    data: map('Text by key.'),
    binaryData: map('Bytes by key, in base64.'),
    immutable: flag('Whether data can no longer change.'),
  }),
  secrets: object('Secret holds what not everybody may read.', {
    type: text('What is in it.'),
    data: map('Bytes by key, in base64.'),
  }),
  serviceCIDRs: object('ServiceCIDR says which addresses Services get.', {
    spec: object('What is asked for.', { cidrs: texts('A range of one family, or one of each.') }),
    status: object('What is.', { conditions: list('Ready.', condition) }),
  }),
  webhookConfigurations: object('WebhookConfiguration says whom to ask about objects that are written.', {
    webhooks: list('Whom to ask, and about what.', { type: 'object' }),
  }),
  crds: object('CustomResourceDefinition makes the API server serve another kind.', {
    spec: object('The definition.', {
      group: text('API group.'),
      scope: text('Namespaced or Cluster.'),
      names: object('Names of the kind.', {
        kind: text('Kind, in the singular and CamelCase.'),
        plural: text('As in paths.'),
        singular: text('As in kubectl.'),
        shortNames: texts('As in kubectl, shorter.'),
        categories: texts('Groups such as all.'),
      }),
      versions: list('Versions that are served.', { type: 'object' }),
    }),
    status: object('What is.', { conditions: list('NamesAccepted, Established.', condition) }),
  }),
} satisfies Record<string, Schema>
