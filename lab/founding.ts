import type { Namespace } from '../src/api/core.ts'
import { crds } from '../src/api/crds.ts'
import { defaultNetwork, type Network, systemNamespace } from '../src/api/network.ts'
import { resources } from '../src/api/resources.ts'
import { customResourceDefinitions } from '../src/kube/memory/crd.ts'
import type { Kube } from '../src/kube/port.ts'

/** Puts into an empty API server what an installation does: the kinds, and a default network for pods that ask for none. */
export async function found(kube: Kube): Promise<void> {
  for (const definition of crds()) await kube.create(customResourceDefinitions, definition)
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: systemNamespace },
  } satisfies Namespace)
  await kube.create(resources.networks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { ...defaultNetwork },
    spec: { subnets: [{ cidr: '10.244.0.0/16' }, { cidr: 'fd00:10:244::/56' }] },
  } satisfies Network)
}
