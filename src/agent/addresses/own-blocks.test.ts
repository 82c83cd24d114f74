import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../../api/address-block.ts'
import type { Network } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import { blockObject } from '../../ipam/block.ts'
import { mirror } from '../../kube/mirror.ts'
import { silentLog } from '../../lib/log.ts'
import type { NodeAddresses } from './addresses.ts'
import { type AddressCluster, addressCluster, away, leased, nodeUID, ownerOf } from './cluster.ts'

const v4: Network['spec'] = { subnets: [{ cidr: '10.1.0.0/16' }] }

/** Lets time pass, and what happens in the background come to its end. */
async function pass(c: AddressCluster, ms: number): Promise<void> {
  await c.clock.advance(ms)
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** Has the node hear of every block, as its agent does. */
async function watching(c: AddressCluster, node: NodeAddresses): Promise<NodeAddresses> {
  const blocks = mirror(c.kube, resources.addressBlocks, {}, { clock: c.clock, log: silentLog })
  blocks.onChange(({ type, object }) => node.blockSeen(object, type === 'DELETED'))
  await blocks.synced
  // The second look, after which the agent before asks for nothing more.
  await pass(c, 130_000)
  return node
}

const only = async (c: AddressCluster): Promise<AddressBlock> => {
  const [block, ...others] = await c.blocks()
  assert.ok(block && others.length === 0)
  return block
}

const remove = ({ metadata }: AddressBlock, c: AddressCluster) =>
  c.kube.delete(resources.addressBlocks, metadata)

/** The same block as another node's. */
const give = ({ metadata, spec }: AddressBlock, node: string, c: AddressCluster) =>
  c.kube.create(
    resources.addressBlocks,
    blockObject(metadata.namespace ?? '', { ...spec, node, nodeUID: nodeUID(node) }),
  )

/** A node that hears of its one block, in which a pod has an address. */
async function inUse(deps: Parameters<AddressCluster['start']>[1] = {}) {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = await watching(c, c.start('n1', deps))
  const held = await leased(n1, { network, owner: ownerOf('a') })
  return { c, network, n1, held, block: await only(c) }
}

const creations = (c: AddressCluster) => c.requests.filter((r) => r === 'create addressblocks').length

test('a block that somebody deletes while pods use it is made again at once, and one that nobody uses is forgotten', async () => {
  const c = await addressCluster()
  const [network, red] = [await c.network('blue', v4), await c.network('red', v4)]
  const n1 = await watching(c, c.start('n1'))
  await leased(n1, { network, owner: ownerOf('a') })
  await n1.prepare(red)
  const before = await c.blocksText()
  for (const block of await c.blocks()) await remove(block, c)
  await pass(c, 2000)
  assert.deepEqual(
    (await c.blocks()).map((b) => `${b.spec.network} ${b.spec.node}`),
    ['blue n1'],
  )
  assert.ok(before.includes(await c.blocksText()))
  // It is leased from as before.
  await leased(n1, { network, owner: ownerOf('b') })
  assert.equal((await c.blocks()).length, 1)
  assert.deepEqual(await c.problems(), [])
})

test('a block that is in no watch’s view is made again within a quarter of an hour', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1')
  await leased(n1, { network, owner: ownerOf('a') })
  await pass(c, 130_000)
  await remove(await only(c), c)
  await pass(c, 900_000)
  assert.equal((await only(c)).spec.node, 'n1')
})

test('a block that another node has by now stays that node’s: no more is leased from it, and its pods are told', async () => {
  const told: string[] = []
  const deps = { warn: ({ pod }: { pod: string }, message: string) => void told.push(`${pod}: ${message}`) }
  const used = await inUse(deps)
  const { c, network, held, block } = used
  let n1 = used.n1
  c.hook.before = away
  await remove(block, c)
  await give(block, 'n2', c)
  await pass(c, 60_000)
  assert.deepEqual(told, [])
  c.hook.before = undefined
  await pass(c, 60_000)
  const address = held.split('/')[0]
  assert.deepEqual(told, [
    `lab/a: ${address} of network lab/blue may be given to another pod: its block ${block.spec.cidr} is node n2's by now; ` +
      'delete this pod, which gets another address when it is made again',
  ])
  assert.deepEqual(await c.problems(), [
    `pod lab/a on node n1 holds ${held} of lab/blue, but its block is node n2's`,
  ])
  for (const restarts of [false, true]) {
    if (restarts) {
      c.crash('n1')
      n1 = await watching(c, c.start('n1', deps))
    }
    assert.equal(await leased(n1, { network, owner: ownerOf('a') }), held)
    await leased(n1, { network, owner: ownerOf(`b${restarts}`) })
    assert.deepEqual(
      (await c.blocks()).map(({ spec }) => `${spec.cidr === block.spec.cidr} ${spec.node}`).sort(),
      ['false n1', 'true n2'],
    )
  }
  await n1.release(ownerOf('a'))
  await pass(c, 400_000)
  assert.deepEqual(await c.problems(), [])
  assert.equal((await c.blocks()).find(({ spec }) => spec.cidr === block.spec.cidr)?.spec.node, 'n2')
})

test('a block that the other node gives up is taken back until its pods are gone', async () => {
  const { c, network, n1, block } = await inUse()
  await remove(block, c)
  const others = await give(block, 'n2', c)
  await pass(c, 2000)
  await remove(others, c)
  await pass(c, 60_000)
  assert.deepEqual([(await only(c)).spec.node, await c.problems()], ['n1', []])
  await leased(n1, { network, owner: ownerOf('b') })
  assert.equal((await c.blocks()).length, 2, 'what the other node gave from it may still be around')
  await n1.release(ownerOf('a'))
  await pass(c, 70_000)
  assert.notEqual((await only(c)).spec.cidr, block.spec.cidr)
})

test('a block that another node had for a moment only is made again, too', async () => {
  const { c, block } = await inUse()
  await remove(block, c)
  await remove(await give(block, 'n2', c), c)
  await pass(c, 2000)
  assert.equal((await only(c)).spec.node, 'n1')
})

test('what the node itself gives back stays gone, and nothing is asked about it', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = await watching(c, c.start('n1'))
  const asked = c.requests.length
  await leased(n1, { network, owner: ownerOf('a') })
  await n1.release(ownerOf('a'))
  await pass(c, 420_000)
  assert.deepEqual(await c.blocks(), [])
  assert.deepEqual(c.requests.slice(asked), ['create addressblocks', 'delete addressblocks'])
})

test('a node that is another by now, or may not have the block, does not make it again', async () => {
  for (const may of [true, false]) {
    const { c, n1, block } = await inUse({ mayHave: async () => may })
    if (may) n1.nodeIs('another')
    await remove(block, c)
    await pass(c, 60_000)
    assert.deepEqual(await c.blocks(), [])
    if (!may) continue
    n1.nodeIs(nodeUID('n1'))
    await pass(c, 0)
    assert.equal((await only(c)).spec.node, 'n1')
  }
})

test('while the API server is away nothing is given up, and the block is made again when it is back', async () => {
  const { c, network, n1, block } = await inUse()
  await remove(block, c)
  c.hook.before = (request) => {
    if (request === 'create addressblocks') away(request)
  }
  await pass(c, 60_000)
  assert.match(await leased(n1, { network, owner: ownerOf('b') }), /^10\.1\./)
  c.hook.before = undefined
  await pass(c, 60_000)
  assert.equal((await only(c)).spec.cidr, block.spec.cidr)
  await leased(n1, { network, owner: ownerOf('c') })
  assert.deepEqual([(await c.blocks()).length, await c.problems()], [1, []])
})

test('a block out of an older etcd goes back to whose pods are in it', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  // So that both try the same blocks first.
  const n2 = await watching(c, c.start('n2'))
  await n2.prepare(network)
  const block = await only(c)
  await pass(c, 400_000)
  const n1 = await watching(c, c.start('n1', { node: { name: 'n2', uid: nodeUID('n1') } }))
  await leased(n1, { network, owner: ownerOf('a') })
  assert.equal((await only(c)).spec.cidr, block.spec.cidr)
  // As it was before n2 gave it back.
  await remove(block, c)
  await give(block, 'n2', c)
  await pass(c, 1000)
  await leased(n2, { network, owner: ownerOf('b') })
  await pass(c, 120_000)
  assert.equal(
    (await c.blocks()).find(({ spec }) => spec.cidr === block.spec.cidr)?.spec.nodeUID,
    nodeUID('n1'),
  )
  assert.deepEqual(await c.problems(), [])
})

test('an endpoint that somebody changes is to be told again', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const tell = () => n1.reachedAt(network, '192.168.10.11')
  const n1: NodeAddresses = await watching(
    c,
    c.start('n1', { endpointOf: () => '192.168.10.11', doubtful: () => void tell() }),
  )
  await leased(n1, { network, owner: ownerOf('a') })
  await c.kube.patch(resources.addressBlocks, (await only(c)).metadata, {
    type: 'merge',
    body: { spec: { endpoint: '192.168.10.99' } },
  })
  await pass(c, 2000)
  assert.equal((await only(c)).spec.endpoint, '192.168.10.11')
})

test('a block that somebody deletes each time is made again twice a minute, and not more often', async () => {
  const { c } = await inUse()
  const before = creations(c)
  for (let second = 0; second < 120; second++) {
    for (const block of await c.blocks()) await remove(block, c)
    await pass(c, 1000)
  }
  assert.ok(creations(c) - before >= 3 && creations(c) - before <= 5, `${creations(c) - before}`)
})
