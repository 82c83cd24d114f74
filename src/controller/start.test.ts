import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import { crds } from '../api/crds.ts'
import type { HostPhysicalNetwork } from '../api/host-physical-network.ts'
import type { KubeObject } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { realClock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { startController } from './start.ts'

/** An API server whose two tenants have nothing yet, and a node. */
async function cluster() {
  const kube = new MemoryKube({ clock: realClock, crds: crds() })
  for (const name of ['polynet-system', 'tenant-a', 'tenant-b'])
    await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  const { metadata } = await addNode(kube, 'n1')
  return { kube, nodeUID: metadata.uid ?? '' }
}

const addNode = (kube: MemoryKube, name: string) =>
  kube.create(resources.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: {} })

const network = (namespace: string, name: string, more: Partial<KubeObject['metadata']> = {}): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace, name, ...more },
  spec: { subnets: [{ cidr: '10.1.0.0/16' }] },
})

const sliceOf = ({ metadata }: Network, nodeUID: string): AttachmentSlice => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AttachmentSlice',
  metadata: { namespace: metadata.namespace ?? '', name: `${metadata.name}-n1` },
  network: metadata.name,
  networkUID: metadata.uid ?? '',
  node: 'n1',
  nodeUID,
  attachments: [],
})

/** Resolves when a controller that starts now has come to tenant b's network; rejects when it cannot go on. */
async function served(kube: MemoryKube): Promise<void> {
  const controller = await startController({ kube, clock: realClock, log: silentLog })
  try {
    for (const late = Date.now() + 30_000; ; ) {
      await controller.settled()
      const { status } = await kube.get(resources.networks, { namespace: 'tenant-b', name: 'red' })
      if (status?.vni !== undefined) return
      assert.ok(Date.now() < late, 'it has no identifier yet')
    }
  } finally {
    await controller.close()
  }
}

test('a tenant who takes the finalizer off a network that goes with pods on it keeps nothing from others', async () => {
  const { kube, nodeUID } = await cluster()
  const ref = { namespace: 'tenant-a', name: 'blue' }
  const blue = await kube.create(
    resources.networks,
    network('tenant-a', 'blue', { finalizers: ['example.com/mine', 'polynet.dev/pods'] }),
  )
  await kube.create(resources.attachmentSlices, sliceOf(blue, nodeUID))
  await kube.delete(resources.networks, ref)
  await kube.patch(resources.networks, ref, {
    type: 'merge',
    body: { metadata: { finalizers: ['example.com/mine'] } },
  })
  await kube.create(resources.networks, network('tenant-b', 'red'))
  await served(kube)
})

test('what many nodes say of one physical network, longer than a condition may be, keeps nothing from networks', async () => {
  const { kube } = await cluster()
  await kube.create(resources.physicalNetworks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'PhysicalNetwork',
    metadata: { name: 'phy-net0' },
    spec: {},
  })
  for (let n = 2; n <= 41; n++) {
    await addNode(kube, `n${n}`)
    const host: HostPhysicalNetwork = {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'HostPhysicalNetwork',
      metadata: { name: `n${n}` },
      spec: {},
    }
    await kube.create(resources.hostPhysicalNetworks, host)
    const mappings = [{ physicalNetwork: 'phy-net0', usable: false, message: 'x'.repeat(1000) }]
    await kube.patch(
      resources.hostPhysicalNetworks,
      { name: host.metadata.name },
      { type: 'merge', subresource: 'status', body: { status: { mappings } } },
    )
  }
  await kube.create(resources.networks, network('tenant-b', 'red'))
  await served(kube)
  const { status } = await kube.get(resources.physicalNetworks, { name: 'phy-net0' })
  assert.equal(status?.conditions?.[0]?.message.length, 32768)
})

test('a network that nothing can be written to any more keeps nothing from others', async () => {
  const { kube } = await cluster()
  await kube.create(resources.networks, network('tenant-a', 'blue'))
  await kube.create(resources.networks, network('tenant-b', 'red'))
  const refusing = new Proxy(kube, {
    get(of, key) {
      const method = Reflect.get(of, key)
      if (typeof method !== 'function') return method
      return (...args: unknown[]) => {
        const [, ref] = args as [unknown, { name?: string }]
        return key === 'patch' && ref.name === 'blue'
          ? Promise.reject(
              new Fault('invalid', 'patch networks.polynet.dev tenant-a/blue', 'request is too large'),
            )
          : method.apply(of, args)
      }
    },
  })
  await served(refusing)
})
