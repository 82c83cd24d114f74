import { setTimeout as sleep } from 'node:timers/promises'
import type { KubeObject, Resource } from '../src/api/meta.ts'
import { resources } from '../src/api/resources.ts'
import type { Kube } from '../src/kube/port.ts'
import { Fault, isFault } from '../src/lib/fault.ts'
import { isSystem } from './place.ts'

const builtIn = (group: string, kind: string): Resource => ({
  group,
  version: 'v1',
  kind,
  plural: `${kind.toLowerCase()}s`,
  namespaced: true,
})

/** What people make, that which makes others first. */
const made: Resource[] = [
  ...['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet'].map((kind) => builtIn('apps', kind)),
  builtIn('batch', 'Job'),
  builtIn('', 'Service'),
  resources.pods,
  resources.networkAttachmentDefinitions,
  resources.ipamClaims,
  resources.networks,
  resources.physicalNetworks,
  resources.namespaces,
]

const kept = ['default', 'kube-node-lease', 'kube-public', 'kube-system', 'polynet-system']

const withinMs = 60_000

/** Takes away all that people made on a cluster, and resolves when it is gone. What the cluster and Polynet are made of stays. */
export async function tidy(kube: Kube): Promise<void> {
  const until = performance.now() + withinMs
  for (let asked = made; ; ) {
    const left = await leftOf(kube, asked)
    if (left.length === 0 && asked === made) return forget(kube)
    // Asking for all of it takes processor time from what is waited for.
    asked = left.length === 0 ? made : made.filter((kind) => left.some(({ resource }) => resource === kind))
    if (performance.now() > until)
      throw new Fault(
        'unavailable',
        'take away what was made',
        `${left.map(nameOf).join(', ')} is still there after ${withinMs / 1000} s`,
      )
    await Promise.all(
      left.filter((each) => !each.object.metadata.deletionTimestamp).map((each) => remove(kube, each)),
    )
    await sleep(200)
  }
}

/** What people said of nodes, and what was told of things that are gone. */
async function forget(kube: Kube): Promise<void> {
  for (const { metadata } of (await kube.list(resources.nodes)).items) {
    const marks = Object.keys(metadata.annotations ?? {}).filter((key) => key.startsWith('polynet.dev/'))
    if (marks.length === 0) continue
    const annotations = Object.fromEntries(marks.map((key) => [key, null]))
    await kube.patch(resources.nodes, metadata, { type: 'merge', body: { metadata: { annotations } } })
  }
  for (const { metadata, spec } of (await kube.list(resources.hostPhysicalNetworks)).items)
    if (spec?.mappings?.length)
      await kube.patch(resources.hostPhysicalNetworks, metadata, {
        type: 'merge',
        body: { spec: { mappings: null } },
      })
  const told = (await kube.list(resources.events, { namespace: 'default' })).items
  await Promise.all(told.map((object) => remove(kube, { resource: resources.events, object })))
}

function isMade(resource: Resource, { namespace, name }: KubeObject['metadata']): boolean {
  if (resource === resources.namespaces) return !kept.includes(name)
  if (resource === resources.networks) return `${namespace}/${name}` !== 'polynet-system/default'
  return !isSystem(namespace) && name !== 'kubernetes'
}

interface Left {
  resource: Resource
  object: KubeObject
}

async function leftOf(kube: Kube, asked: Resource[]): Promise<Left[]> {
  const lists = asked.map(async (resource) =>
    (await kube.list(resource)).items
      .filter(({ metadata }) => isMade(resource, metadata))
      .map((object): Left => ({ resource, object })),
  )
  return (await Promise.all(lists)).flat()
}

async function remove(kube: Kube, { resource, object }: Left): Promise<void> {
  const { namespace, name, uid } = object.metadata
  try {
    await kube.delete(resource, { namespace, name }, { uid })
  } catch (error) {
    if (!isFault(error, 'missing', 'conflict')) throw error
  }
}

const nameOf = ({ object: { kind, metadata } }: Left): string =>
  `${kind} ${metadata.namespace ? `${metadata.namespace}/` : ''}${metadata.name}`
