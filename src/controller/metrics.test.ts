import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crds } from '../api/crds.ts'
import type { KubeObject } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { blockObject } from '../ipam/block.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { realClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { controllerMetrics } from './metrics.ts'
import { startController } from './start.ts'

const apiVersion = 'polynet.dev/v1alpha1'

/** What it tells of its cluster, sorted; not of its process. */
async function figures(candidate: Parameters<typeof controllerMetrics>[0]): Promise<string[]> {
  const text = await controllerMetrics(candidate).text()
  return text
    .split('\n')
    .filter((line) => line.startsWith('polynet_'))
    .sort()
}

test('a controller that works tells how networks are, how many blocks are left, and who reaches which wire', async () => {
  const kube = new MemoryKube({ clock: realClock, crds: crds() })
  const make = <T extends KubeObject>(object: T): Promise<KubeObject> => {
    const resource = Object.values(resources).find((r) => r.kind === object.kind)
    return kube.create(resource as never, object as never) as Promise<never>
  }
  await make({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'lab' } })
  await make({ apiVersion, kind: 'PhysicalNetwork', metadata: { name: 'phy-net0' }, spec: {} })
  const nodes = new Map<string, string>()
  for (const [name, usable] of Object.entries({ n1: true, n2: true, n3: false })) {
    const node = await make({ apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: {} })
    nodes.set(name, node.metadata.uid ?? '')
    await make({ apiVersion, kind: 'HostPhysicalNetwork', metadata: { name }, spec: {} })
    const mapping = { physicalNetwork: 'phy-net0', nic: 'eth1', address: '192.168.10.11', mtu: 1500, usable }
    await kube.patch(
      resources.hostPhysicalNetworks,
      { name },
      { type: 'merge', subresource: 'status', body: { status: { mappings: [mapping] } } },
    )
  }
  const network = async (name: string, spec: object) => {
    const { metadata } = await make({
      apiVersion,
      kind: 'Network',
      metadata: { namespace: 'lab', name },
      spec,
    })
    return (cidr: string, node: string) =>
      make(
        blockObject('lab', {
          network: name,
          networkUID: metadata.uid ?? '',
          cidr,
          node,
          nodeUID: nodes.get(node) ?? '',
        }),
      )
  }
  const blue = await network('blue', {
    physicalNetwork: 'phy-net0',
    subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/112' }],
  })
  await blue('10.1.0.0/26', 'n1')
  await blue('10.1.0.64/26', 'n2')
  await blue('fd00:10:1::/122', 'n1')
  const red = await network('red', { physicalNetwork: 'phy-net0', subnets: [{ cidr: '10.2.0.0/30' }] })
  await red('10.2.0.1/32', 'n1')
  await red('10.2.0.2/32', 'n1')
  await network('green', { physicalNetwork: 'phy-net1', subnets: [{ cidr: '10.1.0.0/16' }] })

  const controller = await startController({ kube, clock: realClock, log: silentLog })
  try {
    await controller.settled()
    assert.deepEqual(await figures({ leads: () => true, figures: controller.figures }), [
      'polynet_controller_leads 1',
      'polynet_network_blocks{namespace="lab",name="blue",family="IPv4",state="free"} 958',
      'polynet_network_blocks{namespace="lab",name="blue",family="IPv4",state="leased"} 2',
      'polynet_network_blocks{namespace="lab",name="blue",family="IPv6",state="free"} 959',
      'polynet_network_blocks{namespace="lab",name="blue",family="IPv6",state="leased"} 1',
      'polynet_network_blocks{namespace="lab",name="green",family="IPv4",state="free"} 960',
      'polynet_network_blocks{namespace="lab",name="green",family="IPv4",state="leased"} 0',
      'polynet_network_blocks{namespace="lab",name="red",family="IPv4",state="free"} 0',
      'polynet_network_blocks{namespace="lab",name="red",family="IPv4",state="leased"} 2',
      'polynet_networks{reason="Exhausted"} 1',
      'polynet_networks{reason="NotOnEveryNode"} 1',
      'polynet_networks{reason="PhysicalNetworkMissing"} 1',
      'polynet_physical_network_nodes{name="phy-net0",usable="false"} 1',
      'polynet_physical_network_nodes{name="phy-net0",usable="true"} 2',
    ])
  } finally {
    await controller.close()
  }
})

test('one that waits to take over tells nothing of the cluster', async () => {
  assert.deepEqual(await figures({ leads: () => false, figures: () => undefined }), [
    'polynet_controller_leads 0',
  ])
})
