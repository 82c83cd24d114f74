import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { crds } from '../api/crds.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { connect } from '../kube/cluster/connect.ts'
import { serve } from '../kube/memory/http.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { inProcess } from './in-process.ts'
import { pod as bare } from './view.fixture.ts'

const pod = (annotations: Record<string, string>) =>
  bare(annotations, { containers: [{ name: 'main', image: 'busybox' }] })

async function served() {
  const kube = new MemoryKube({ crds: crds() })
  const metadata = { name: 'blue' }
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata })
  const webhook = inProcess({ kube })
  const server = await serve(kube, { admission: webhook.admission })
  const client = await connect(server.url)
  const close = async () => {
    client.close()
    webhook.close()
    await server.close()
  }
  const network = (cidr: string): Network => ({
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'blue', name: 'data' },
    spec: { physicalNetwork: 'phy-net1', subnets: [{ cidr }] },
  })
  return { client, network, close }
}

test('clients of an API server in this process are refused and helped as by the webhook', async () => {
  const { client, network, close } = await served()
  after(close)
  await assert.rejects(client.create(resources.pods, pod({ networks: '///' })), {
    message: /denied the request: attach pod blue\/web: annotation networks\[0\]: \/\/\/ is not/,
  })
  await assert.rejects(client.create(resources.networks, network('10.1.0.0/31')), { message: /too small/ })
  await client.create(resources.networks, network('10.1.0.0/16'))
  const made = await client.create(resources.pods, pod({ networks: 'data' }))
  assert.match(JSON.stringify(made.spec.affinity), /physical\.polynet\.dev\/phy-net1/)
  const ref = { namespace: 'blue', name: 'web' }
  const annotations = { networks: 'data:lo' }
  await assert.rejects(
    client.patch(resources.pods, ref, { type: 'merge', body: { metadata: { annotations } } }),
    {
      message: /interface name lo belongs to the kernel/,
    },
  )
  await client.patch(resources.pods, ref, { type: 'merge', body: { spec: { nodeName: 'n1' } } })
  await client.patch(resources.pods, ref, { type: 'merge', body: { metadata: { annotations } } })
})
