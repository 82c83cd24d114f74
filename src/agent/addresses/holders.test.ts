import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IPAMClaim, Pod } from '../../api/core.ts'
import type { Network } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import { type AddressCluster, addressCluster, leased, nodeUID, ownerOf } from './cluster.ts'

const both: Network['spec'] = { subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }] }

async function pass(c: AddressCluster, ms: number): Promise<void> {
  await c.clock.advance(ms)
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** Pod `lab/<name>`; the UID is the server's. */
async function podOf(c: AddressCluster, name: string): Promise<Pod> {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'lab', name },
    spec: { containers: [{ name: 'c', image: 'x' }] },
  }
  return (await c.apply(pod)) as Pod
}

async function remove(c: AddressCluster, name: string): Promise<void> {
  await c.kube.delete(resources.pods, { namespace: 'lab', name }, { gracePeriodSeconds: 0 })
}

const ownerOfPod = (pod: Pod) => ({
  ...ownerOf(pod.metadata.name, pod.metadata.uid),
  podUID: pod.metadata.uid ?? '',
})

const claimOf = (c: AddressCluster, name: string) =>
  c.apply({
    apiVersion: 'k8s.cni.cncf.io/v1alpha1',
    kind: 'IPAMClaim',
    metadata: { namespace: 'lab', name },
    spec: { network: 'blue', interface: 'eth1' },
  } as IPAMClaim)

const statusOf = async (c: AddressCluster, name: string) =>
  (await c.kube.get(resources.ipamClaims, { namespace: 'lab', name })).status

test('addresses asked for by value are given, those and no others', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  const one = { network, owner: ownerOf('a'), ips: ['10.1.240.7'] }
  assert.equal(await leased(n1, one), '10.1.240.7/16')
  assert.equal(await leased(n1, one), '10.1.240.7/16')
  const two = { network, owner: ownerOf('b'), ips: ['fd00:10:1:0:f000::8/64', '10.1.240.8/16', '10.1.240.8'] }
  assert.equal(await leased(n1, two), '10.1.240.8/16 fd00:10:1:0:f000::8/64')
  assert.equal(
    await c.blocksText(),
    '10.1.240.7/32 n1 pod lab/a\n10.1.240.8/32 n1 pod lab/b\nfd00:10:1:0:f000::8/128 n1 pod lab/b',
  )
  assert.deepEqual(await c.problems(), [])
})

test('what the network cannot give is refused, all of it named', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', { subnets: [{ cidr: '10.1.0.0/16' }] })
  assert.equal(
    await leased(c.start('n1'), { network, owner: ownerOf('a'), ips: ['10.1.0.7', '10.2.0.7'] }),
    'invalid: lease an address of lab/blue for pod lab/a: 10.1.0.7 goes out in blocks to nodes; ask for one between 10.1.240.0 and 10.1.255.254; ' +
      '10.2.0.7 is in no subnet of it; its subnets are 10.1.0.0/16',
  )
  assert.deepEqual(await c.blocks(), [])
})

test('an address that another pod has is refused, here and elsewhere; when it has rested, it is given', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const network = await c.network('blue', both)
  const ips = ['10.1.240.7']
  await leased(n1, { network, owner: ownerOf('a'), ips })
  assert.equal(
    await leased(n2, { network, owner: ownerOf('b'), ips }),
    'exhausted: lease an address of lab/blue for pod lab/b: 10.1.240.7 is held by pod lab/a on node n1; ask for another, or wait until it is given back',
  )
  assert.match(
    await leased(n1, { network, owner: ownerOf('b'), ips }),
    /^exhausted: .* is held by pod lab\/a on node n1/,
  )
  await n1.release(ownerOf('a'))
  assert.match(
    await leased(n1, { network, owner: ownerOf('b'), ips }),
    /rests for 60 s more after pod lab\/a/,
  )
  await pass(c, 60_000)
  assert.equal(await leased(n2, { network, owner: ownerOf('b'), ips }), '10.1.240.7/16')
  assert.deepEqual(await c.problems(), [])
})

test('the same pod’s next sandbox gets its address by value at once', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  const ips = ['10.1.240.7']
  await leased(n1, { network, owner: ownerOf('a', 'first'), ips })
  assert.match(
    await leased(n1, { network, owner: ownerOf('a', 'second'), ips }),
    /is still held on this node/,
  )
  await n1.release(ownerOf('a', 'first'))
  assert.equal(await leased(n1, { network, owner: ownerOf('a', 'second'), ips }), '10.1.240.7/16')
})

test('an address by value goes back when its pod is gone', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  await leased(n1, { network, owner: ownerOf('a'), ips: ['10.1.240.7'] })
  await n1.release(ownerOf('a'))
  await pass(c, 60_000)
  assert.deepEqual([await c.blocksText(), [...c.disk('n1').entries.keys()]], ['', ['ipam/node']])
})

test('of many that ask for the same address at once, on several nodes, one gets it', async () => {
  const c = await addressCluster()
  const nodes = ['n1', 'n2', 'n3'].map((name) => c.start(name))
  const network = await c.network('blue', both)
  const got = await Promise.all(
    Array.from({ length: 12 }, (_, i) =>
      leased(nodes[i % 3]!, { network, owner: ownerOf(`p${i}`), ips: ['10.1.240.7'] }),
    ),
  )
  assert.equal(got.filter((text) => text === '10.1.240.7/16').length, 1)
  assert.deepEqual(await c.problems(), [])
})

test('a claim gets addresses of both families, the same place in each, and keeps them from pod to pod and node to node', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const network = await c.network('blue', both)
  await claimOf(c, 'vm')
  const holder = 'claim lab/vm'
  const first = await podOf(c, 'vm-1')
  const text = await leased(n1, { network, owner: ownerOfPod(first), holder })
  const [, high, low] = /^10\.1\.(\d+)\.(\d+)\/16 /.exec(text) ?? []
  const place = ((Number(high) - 240) * 256 + Number(low)).toString(16)
  assert.equal(text.split(' ')[1], `fd00:10:1:0:f000::${place}/64`)
  assert.deepEqual(await statusOf(c, 'vm'), { ips: text.split(' '), ownerPod: { name: 'vm-1' } })

  await n1.release(ownerOfPod(first))
  await pass(c, 3_600_000)
  assert.equal((await c.blocks()).length, 2, 'kept while no pod has it')
  await remove(c, 'vm-1')
  const second = await podOf(c, 'vm-2')
  assert.equal(await leased(n2, { network, owner: ownerOfPod(second), holder }), text)
  assert.deepEqual(await statusOf(c, 'vm'), { ips: text.split(' '), ownerPod: { name: 'vm-2' } })
  assert.deepEqual(
    (await c.blocks()).map((b) => `${b.spec.node} ${b.spec.nodeUID === nodeUID('n2')} ${b.spec.holder}`),
    ['n2 true claim lab/vm', 'n2 true claim lab/vm'],
  )
  assert.deepEqual(await c.problems(), [])

  // And back, where the journal still speaks of it.
  await n2.release(ownerOfPod(second))
  await remove(c, 'vm-2')
  assert.equal(await leased(n1, { network, owner: ownerOfPod(await podOf(c, 'vm-3')), holder }), text)
  assert.deepEqual(await c.problems(), [])
})

test('a node whose tunnels move says nothing of addresses that went to another node with their claim', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2', { endpointOf: () => '192.168.10.12' })]
  const network = await c.network('blue', { subnets: [{ cidr: '10.1.0.0/16' }] })
  await claimOf(c, 'vm')
  const first = ownerOfPod(await podOf(c, 'vm-1'))
  await leased(n1, { network, owner: first, holder: 'claim lab/vm' })
  await n1.release(first)
  await remove(c, 'vm-1')
  await leased(n2, { network, owner: ownerOfPod(await podOf(c, 'vm-2')), holder: 'claim lab/vm' })
  await n1.reachedAt(network, '192.168.20.11')
  const ends = (await c.blocks()).map(({ spec }) => `${spec.node} ${spec.endpoint}`)
  assert.deepEqual(ends, ['n2 192.168.10.12'])
})

test('a claim that another running pod uses is refused', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const network = await c.network('blue', both)
  await claimOf(c, 'vm')
  await leased(n1, { network, owner: ownerOfPod(await podOf(c, 'vm-1')), holder: 'claim lab/vm' })
  assert.equal(
    await leased(n2, { network, owner: ownerOfPod(await podOf(c, 'vm-2')), holder: 'claim lab/vm' }),
    'conflict: lease an address of lab/blue for pod lab/vm-2: IPAMClaim lab/vm is used by pod vm-1; delete that one first',
  )
})

test('two pods that race for a new claim: one gets it, the other nothing', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', both)
  await claimOf(c, 'vm')
  const pods = await Promise.all(['vm-1', 'vm-2', 'vm-3'].map((name) => podOf(c, name)))
  const got = await Promise.all(
    pods.map((pod, i) =>
      leased(c.start(`n${i}`), { network, owner: ownerOfPod(pod), holder: 'claim lab/vm' }),
    ),
  )
  assert.equal(got.filter((text) => text.startsWith('10.1.')).length, 1, got.join('\n'))
  assert.equal((await c.blocks()).length, 2)
  assert.deepEqual(await c.problems(), [])
})

test('addresses by value together with a claim are refused, unless they are the claim’s', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  await claimOf(c, 'vm')
  const owner = ownerOfPod(await podOf(c, 'vm-1'))
  const holder = 'claim lab/vm'
  assert.match(
    await leased(n1, { network, owner, holder, ips: ['10.1.240.7'] }),
    /^invalid: .* asks for addresses by value and for IPAMClaim vm, which has none yet; keep one of the two$/,
  )
  const text = await leased(n1, { network, owner, holder })
  await n1.release(owner)
  assert.equal(await leased(n1, { network, owner, holder, ips: text.split(' ').reverse() }), text)
})

test('a claim that does not exist, or is going, is named', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', both)
  const ask = { network, owner: ownerOfPod(await podOf(c, 'vm-1')), holder: 'claim lab/vm' }
  assert.equal(
    await leased(c.start('n1'), ask),
    'missing: lease an address of lab/blue for pod lab/vm-1: IPAMClaim lab/vm does not exist; create it',
  )
})

test('a StatefulSet’s pod keeps its addresses when it comes back elsewhere, and not before the old one is gone', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const network = await c.network('blue', both)
  const holder = 'statefulset-pod lab/db-0'
  const old = await podOf(c, 'db-0')
  const text = await leased(n1, { network, owner: ownerOfPod(old), holder })
  // Its node is lost; somebody claims to be its next pod while the API server still has the old one.
  const early = { ...ownerOf('db-0', 'next'), podUID: 'another' }
  assert.match(
    await leased(n2, { network, owner: early, holder }),
    /^exhausted: .* is held by statefulset-pod lab\/db-0 on node n1, whose pod of that name is another; delete it first$/,
  )
  await remove(c, 'db-0')
  assert.equal(await leased(n2, { network, owner: ownerOfPod(await podOf(c, 'db-0')), holder }), text)
  // The old node comes back and hears of the DEL: that takes nothing from the new one.
  await n1.release(ownerOfPod(old))
  await pass(c, 3_600_000)
  assert.equal((await c.blocks()).filter((b) => b.spec.node === 'n2').length, 2)
  assert.deepEqual(await c.problems(), [])
})

test('an address by value moves with its pod’s name once the old pod is gone', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const network = await c.network('blue', both)
  const ips = ['10.1.240.7']
  const old = await podOf(c, 'db-0')
  await leased(n1, { network, owner: ownerOfPod(old), ips })
  await remove(c, 'db-0')
  assert.equal(await leased(n2, { network, owner: ownerOfPod(await podOf(c, 'db-0')), ips }), '10.1.240.7/16')
  await n1.release(ownerOfPod(old))
  await pass(c, 120_000)
  assert.equal(await c.blocksText(), '10.1.240.7/32 n2 pod lab/db-0')
  assert.deepEqual(await c.problems(), [])
})

test('two sandboxes of one pod that ask at once: one gets what is kept for the pod, the other once that is gone', async () => {
  for (const late of [0, 1, 2, 3, 5, 8]) {
    const c = await addressCluster()
    const n1 = c.start('n1')
    const blue = await c.network('blue', both)
    const pod = await podOf(c, 'db-0')
    const holder = 'statefulset-pod lab/db-0'
    const [first, second] = ['first', 'second'].map((containerID) => ({ ...ownerOfPod(pod), containerID }))
    const ask = (owner = first!) => leased(n1, { network: blue, owner, holder })
    const asked = ask()
    for (let i = 0; i < late; i++) await new Promise((resolve) => setImmediate(resolve))
    const said = await Promise.all([asked, ask(second)])
    const got = said.filter((text) => text.startsWith('10.1.'))
    assert.equal(got.length, 1, `after ${late}: ${said.join('\n')}`)
    assert.match(said.find((text) => !got.includes(text)) ?? '', /is still held on this node/)
    assert.equal((await c.blocks()).length, 2, 'one of each family is kept')
    assert.deepEqual(await c.problems(), [])
    const has = said[0] === got[0] ? first! : second!
    await n1.release(has)
    assert.equal(await ask(has === first ? second : first), got[0])
  }
})

test('where none is left to be kept, a StatefulSet’s pod gets any address and is told, and nobody else gets one that was asked for', async () => {
  const c = await addressCluster()
  const told: string[] = []
  const n1 = c.start('n1', { warn: ({ pod }, message, reason) => told.push(`${pod} ${reason}: ${message}`) })
  const subnets = [{ cidr: '10.1.0.0/24' }, { cidr: 'fd00:10:1::/64' }]
  const network = await c.network('blue', { subnets })
  const ask = async (name: string, uid = name) => {
    const owner = { ...ownerOf(name, uid), podUID: uid }
    return leased(n1, { network, owner, holder: `statefulset-pod lab/${name}` })
  }
  for (let i = 0; i < 15; i++) assert.match(await ask(`db-${i}`), /^10\.1\.0\.2(4|5)\d\/24 /)
  assert.deepEqual(told, [])
  const ordinary = await ask('db-15')
  assert.match(ordinary, /^10\.1\.0\.(1?\d?\d|2[0-3]\d)\/24 fd00:10:1:0:f[0-9a-f]{3}:/)
  const [first] = ordinary.split('/')
  assert.deepEqual(told, [
    `lab/db-15 AddressNotKept: ${first} of network lab/blue will not be kept for the pod's next one, as those of StatefulSets are: all that are set apart for that are taken; append a subnet to spec.subnets, or delete StatefulSets and claims that are not needed`,
  ])
  assert.equal(await ask('db-15'), ordinary, 'asked again')
  assert.equal(n1.isKept('sandbox-db-15', 'eth1'), true, 'that of IPv6')
  await claimOf(c, 'vm')
  const vm = ownerOfPod(await podOf(c, 'vm-1'))
  assert.match(
    await leased(n1, { network, owner: vm, holder: 'claim lab/vm' }),
    /^exhausted: .* no IPv4 address is left of those that are kept for single holders/,
  )
  assert.deepEqual(await c.problems(), [])

  // One is free again: the pod's next one keeps it.
  await n1.release({ ...ownerOf('db-15', 'db-15'), podUID: 'db-15' })
  const [kept] = (await c.blocks()).filter(({ spec }) => spec.holder?.endsWith('/db-3'))
  await n1.release({ ...ownerOf('db-3', 'db-3'), podUID: 'db-3' })
  await c.kube.delete(resources.addressBlocks, kept!.metadata)
  n1.blockSeen(kept!, true)
  await pass(c, 60_000)
  const [v4 = '', v6] = (await ask('db-15', 'next')).split(' ')
  assert.deepEqual([`${v4.split('/')[0]}/32`, v6], [kept!.spec.cidr, ordinary.split(' ')[1]])
  assert.equal(told.length, 1)
  assert.deepEqual(await c.problems(), [])
})

test('a sticky address survives the agent’s crash and the machine’s reboot', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', both)
  const holder = 'statefulset-pod lab/db-0'
  const pod = await podOf(c, 'db-0')
  const text = await leased(c.start('n1'), { network, owner: ownerOfPod(pod), holder })
  c.crash('n1')
  assert.equal(await leased(c.start('n1'), { network, owner: ownerOfPod(pod), holder }), text)
  c.crash('n1')
  const n1 = c.start('n1', { bootId: 'boot-2' })
  assert.deepEqual(n1.owners(), [])
  const next = { ...ownerOfPod(pod), containerID: 'another' }
  assert.equal(await leased(n1, { network, owner: next, holder }), text)
})

test('an address asked for again just as it goes back is not lost', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  const ips = ['10.1.240.7']
  await leased(n1, { network, owner: ownerOf('a', 'first'), ips })
  await n1.release(ownerOf('a', 'first'))
  let again: Promise<string> | undefined
  c.hook.before = (request) => {
    if (request === 'delete addressblocks')
      again ??= leased(n1, { network, owner: ownerOf('a', 'second'), ips })
  }
  await pass(c, 60_000)
  assert.equal(await again, '10.1.240.7/16')
  await pass(c, 600_000)
  assert.equal(await c.blocksText(), '10.1.240.7/32 n1 pod lab/a')
  assert.deepEqual(await c.problems(), [])
})

test('a holder that is none is refused', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', both)
  assert.match(
    await leased(c.start('n1'), { network, owner: ownerOf('a'), holder: 'me' }),
    /^invalid: .*"me" is no holder; write claim namespace\/name$/,
  )
})
