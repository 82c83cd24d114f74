import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crds } from '../api/crds.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { blockObject } from '../ipam/block.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { Views } from './views.ts'
import { watch } from './watched.ts'

test('a wire that is dedicated to tenants carries no network of a namespace that nobody knows to be theirs', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  for (const [name, tenants] of [
    ['phy-net0', ['gold']],
    ['phy-net1', []],
  ] as const)
    await kube.create(resources.physicalNetworks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'PhysicalNetwork',
      metadata: { name },
      spec: { tenants: [...tenants], tunnelPort: 14790, nics: [{ match: { name: 'eth1' } }] },
    })
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  await watched.synced()
  const views = new Views(watched, 'n1')
  const addresses = ['192.168.10.11/24']
  views.nics = [{ name: 'eth1', mac: '02:00:00:00:00:01', mtu: 1500, up: true, addresses }]
  const reached = (namespace: string, physicalNetwork: string): string => {
    try {
      return views.wire({ metadata: { namespace, name: 'blue' }, spec: { physicalNetwork } } as Network).nic
    } catch (error) {
      return (error as Error).message
    }
  }
  try {
    assert.match(reached('tenant-a', 'phy-net0'), /is for tenants gold, and nobody can be known as one yet/)
    assert.equal(reached('default', 'phy-net0'), 'eth1')
    assert.equal(reached('tenant-a', 'phy-net1'), 'eth1')
  } finally {
    watched.close()
  }
})

test('what a network overlaps is looked for again when networks come, change their subnets or go', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  await watched.synced()
  const views = new Views(watched, 'n1')
  const add = async (name: string, cidr: string) => {
    await clock.advance(1000)
    return kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { namespace: 'default', name },
      spec: { subnets: [{ cidr }] },
    })
  }
  const seen = async (network: Network) => {
    await clock.advance(0)
    return views.overlap(network)
  }
  const ref = { namespace: 'default', name: 'old' }
  try {
    const old = await add('old', '10.2.0.0/16')
    const young = await add('young', '10.1.0.0/16')
    assert.equal(await seen(young), undefined)
    const subnets = [{ cidr: '10.2.0.0/16' }, { cidr: '10.1.128.0/17' }]
    await kube.patch(resources.networks, ref, { type: 'merge', body: { spec: { subnets } } })
    assert.equal(await seen(young), 'Network default/old')
    assert.equal(await seen(old), undefined)
    await kube.delete(resources.networks, ref)
    assert.equal(await seen(young), undefined)
  } finally {
    watched.close()
  }
})

/** Link-local addresses, uplinks, and what clouds tell instances by IPv6: AWS and Google Compute Engine. */
const always = [
  '169.254.0.0/16',
  'fe80::/10',
  'fd70:6f6c:796e:6574::/64',
  'fd00:ec2::/32',
  'fd20:ce::254/128',
]

test('Services are closed to logical networks, and no network that overlaps them is an eth0', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  const woken: string[] = []
  watched.onChange((kind) => woken.push(kind))
  await watched.synced()
  const views = new Views(watched, 'n1', ['203.0.113.0/24'])
  const network = {
    metadata: { name: 'blue', uid: 'u' },
    spec: { subnets: [{ cidr: '10.1.0.0/16' }] },
  } as Network
  const seen = async () => {
    await clock.advance(0)
    const closed = views.closed([]).filter((cidr) => !always.includes(cidr))
    return `${closed.sort().join(' ')}; blue overlaps ${views.overlap(network)}`
  }
  const ref = { name: 'more' }
  try {
    for (const cidr of always) assert.ok(views.closed([]).includes(cidr), cidr)
    assert.equal(await seen(), '203.0.113.0/24; blue overlaps undefined')
    await kube.create(resources.serviceCIDRs, {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'ServiceCIDR',
      metadata: ref,
      spec: { cidrs: ['10.1.96.0/24', 'fd00:10:96::/112'] },
    })
    assert.equal(
      await seen(),
      "10.1.96.0/24 203.0.113.0/24 fd00:10:96::/112; blue overlaps the Services' addresses (10.1.96.0/24)",
    )
    assert.ok(woken.includes('serviceCIDRs'))
    await kube.delete(resources.serviceCIDRs, ref)
    assert.equal(await seen(), '203.0.113.0/24; blue overlaps undefined')
  } finally {
    watched.close()
  }
})

const both = [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }]
const unrenderable: [what: string, spec: Network['spec'], mtu: number, why: string][] = [
  [
    'its owner changed into what makes no sense',
    { topology: 'Layer2', mtu: 1000, subnets: both },
    1000,
    'spec.mtu: 1000 is too small for IPv6; use at least 1280',
  ],
  [
    'has IPv6 over wires that are too small for it',
    { subnets: both },
    1230,
    'its MTU of 1230 is too small for IPv6, which takes 1280; make another with IPv4 alone, or once the NICs of all nodes have more',
  ],
]
for (const [what, spec, mtu, why] of unrenderable)
  test(`a network that ${what} keeps no other from being rendered`, () => {
    const network: Network = {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { namespace: 'tenant-a', name: 'blue', uid: 'blue-uid' },
      spec,
      status: { vni: 4096, mtu },
    }
    const watched = watch({ kube: new MemoryKube(), clock: new ManualClock(), log: silentLog, node: 'n1' })
    try {
      assert.throws(() => new Views(watched, 'n1').network(network), {
        message: `render network tenant-a/blue: ${why}`,
      })
    } finally {
      watched.close()
    }
  })

test('a routed network that is too small for IPv6 is not rendered where nodes have addresses of IPv6 alone', async () => {
  const kube = new MemoryKube({ clock: new ManualClock(), crds: crds() })
  await kube.create(resources.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, spec: {} })
  const body = { status: { addresses: [{ type: 'InternalIP', address: 'fd00:10::11' }] } }
  await kube.patch(resources.nodes, { name: 'n1' }, { type: 'merge', subresource: 'status', body })
  const watched = watch({ kube, clock: new ManualClock(), log: silentLog, node: 'n1' })
  try {
    await watched.synced()
    const views = new Views(watched, 'n1')
    views.nics = [
      { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1300, up: true, addresses: ['fd00:10::11/64'] },
    ]
    const network = (more: Network['spec'] = {}): Network => ({
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { namespace: 'tenant-a', name: 'blue', uid: 'blue-uid' },
      spec: { subnets: [{ cidr: '10.1.0.0/16' }], ...more },
      status: { vni: 4096, mtu: 1230 },
    })
    assert.throws(() => views.network(network()), /its MTU of 1230 is too small for routes to nodes/)
    views.network(network({ topology: 'Layer2' }))
  } finally {
    watched.close()
  }
})

test('what networks overlap is not looked for again when a Node says that it is alive, nor when NICs are as before', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  await kube.create(resources.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, spec: {} })
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  await watched.synced()
  let looks = 0
  const list = () => {
    looks++
    return []
  }
  const views = new Views({ ...watched, networks: { ...watched.networks, list } }, 'n1')
  const network = {
    metadata: { name: 'blue', uid: 'u' },
    spec: { subnets: [{ cidr: '10.1.0.0/16' }] },
  } as Network
  const change = async (body: object, subresource?: 'status') => {
    await kube.patch(
      resources.nodes,
      { name: 'n1' },
      { type: 'merge', body, ...(subresource && { subresource }) },
    )
    await clock.advance(0)
    return [views.overlap(network) ?? 'nothing', looks]
  }
  const nics = () => [
    { name: 'eth0', mac: '02:00:00:00:00:11', mtu: 1500, up: true, addresses: ['192.168.1.11/24'] },
  ]
  try {
    views.nics = nics()
    assert.deepEqual(await change({ metadata: { labels: { a: 'b' } } }), ['nothing', 1])
    const conditions = [{ type: 'Ready', status: 'True' }]
    assert.deepEqual(await change({ status: { conditions } }, 'status'), ['nothing', 1])
    views.nics = nics()
    assert.deepEqual(await change({ metadata: { labels: { a: 'c' } } }), ['nothing', 1])
    assert.deepEqual(await change({ spec: { podCIDRs: ['10.1.7.0/24'] } }), [
      "the node's pods (10.1.7.0/24)",
      2,
    ])
  } finally {
    watched.close()
  }
})

test('a block of one network has no other network of its namespace looked at again', async () => {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  await kube.create(resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'lab' } })
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  let looks: string[] = []
  const blocksOf = (network: Network) => {
    looks.push(network.metadata.name)
    return watched.blocksOf(network)
  }
  const views = new Views({ ...watched, blocksOf }, 'n1')
  const wire = { nic: 'eth0', endpoint: '192.168.1.11', tunnelPort: 14789 }
  const make = async (name: string, cidr: string): Promise<Network> => {
    const made = await kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { namespace: 'lab', name },
      spec: { subnets: [{ cidr }] },
    })
    return { ...made, status: { vni: 4096, mtu: 1450 } }
  }
  const blue = await make('blue', '10.1.0.0/16')
  const red = await make('red', '10.2.0.0/16')
  const lease = (of: Network, cidr: string) =>
    kube.create(
      resources.addressBlocks,
      blockObject('lab', {
        network: of.metadata.name,
        networkUID: of.metadata.uid!,
        cidr,
        node: 'n2',
        nodeUID: 'n2-uid',
        endpoint: '192.168.1.12',
      }),
    )
  const seen = async () => {
    await clock.advance(0)
    looks = []
    const remotes = [blue, red].map((n) =>
      views
        .over(n, wire)
        .remotes.map(({ cidr }) => cidr)
        .join(),
    )
    return `${remotes.join(' | ')}; looked at ${[...new Set(looks)].join()}`
  }
  try {
    watched.render([blue, red])
    await watched.synced()
    assert.equal(await seen(), ' | ; looked at blue,red')
    await lease(blue, '10.1.0.0/26')
    assert.equal(await seen(), '10.1.0.0/26 | ; looked at blue')
    const block = await lease(red, '10.2.0.0/26')
    assert.equal(await seen(), '10.1.0.0/26 | 10.2.0.0/26; looked at red')
    assert.equal(await seen(), '10.1.0.0/26 | 10.2.0.0/26; looked at ')
    await kube.delete(resources.addressBlocks, block.metadata)
    assert.equal(await seen(), '10.1.0.0/26 | ; looked at red')
    watched.render([])
    assert.equal(await seen(), ' | ; looked at blue,red')
    watched.render([blue, red])
    await watched.synced()
    assert.equal(await seen(), '10.1.0.0/26 | ; looked at blue,red')
  } finally {
    watched.close()
  }
})
