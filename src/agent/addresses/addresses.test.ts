import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import { parseIpam } from '../../ipam/whereabouts.ts'
import type { Clock } from '../../lib/clock.ts'
import { type AddressCluster, addressCluster, away, leased, nodeUID, ownerOf } from './cluster.ts'

const both: Network['spec'] = {
  subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }],
}
const v4: Network['spec'] = { subnets: [{ cidr: '10.1.0.0/16' }] }
/** Six addresses, one by one. */
const tiny: Network['spec'] = { subnets: [{ cidr: '10.1.0.0/29' }] }
/** Sixteen blocks of four; fifteen of them shared. */
const small: Network['spec'] = { subnets: [{ cidr: '10.1.0.0/26' }], blockSize: { ipv4: 30 } }

const inBlock = (text: string, block: string): boolean => text.startsWith(block)

const names = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `p${from + i}`)

/** Lets time pass, and what happens in the background come to its end. */
async function pass(c: AddressCluster, ms: number): Promise<void> {
  await c.clock.advance(ms)
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
}

const settle = (c: AddressCluster) => pass(c, 0)

test('a pod gets one address per family, with the subnet’s length, and the same when it asks again', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  const ask = { network, owner: ownerOf('web') }
  const [first, again] = [await leased(n1, ask), await leased(n1, ask)]
  assert.match(first, /^10\.1\.\d+\.\d+\/16 fd00:10:1:[0-9a-f:]+\/64$/)
  assert.equal(again, first)
  assert.deepEqual(n1.owners(), [ownerOf('web')])
  assert.deepEqual(await c.problems(), [])
})

test('a gateway is told where the subnet has one', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', { topology: 'Layer2', subnets: [{ cidr: '10.1.0.0/16' }] })
  assert.match(
    await leased(c.start('n1'), { network, owner: ownerOf('web') }),
    /^10\.1\.\d+\.\d+\/16 via 10\.1\.0\.1$/,
  )
})

test('a network without subnets gives no addresses and asks nobody', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', { plugin: 'macvlan' })
  const n1 = c.start('n1')
  await settle(c)
  c.requests.length = 0
  assert.equal(await leased(n1, { network, owner: ownerOf('web') }), '')
  assert.deepEqual(c.requests, [])
})

test('once the block is there, no ADD asks the API server for anything', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  await n1.prepare(network)
  c.requests.length = 0
  c.hook.before = away
  const got = await Promise.all(names(40).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  assert.equal(new Set(got).size, 40)
  await Promise.all(names(40).map((name) => n1.release(ownerOf(name))))
  assert.deepEqual(c.requests, [])
})

test('pods that come at once wait for one block request, not for one each', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', both)
  await settle(c)
  c.requests.length = 0
  const got = await Promise.all(names(40).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  assert.equal(new Set(got).size, 40)
  assert.deepEqual(c.requests, ['create addressblocks', 'create addressblocks'])
})

test('the next block is got before the last is used up, in nobody’s way', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', v4)
  for (const name of names(47)) await leased(n1, { network, owner: ownerOf(name) })
  await settle(c)
  assert.equal((await c.blocks()).length, 1)
  for (const name of names(3, 47)) await leased(n1, { network, owner: ownerOf(name) })
  await settle(c)
  assert.equal((await c.blocks()).length, 2)
  c.hook.before = away
  const got = await Promise.all(names(60, 50).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  assert.ok(got.every((text) => text.endsWith('/16')))
})

test('a released address rests before anyone gets it, also after a restart', async () => {
  const c = await addressCluster()
  let n1 = c.start('n1')
  const network = await c.network('blue', {
    subnets: [{ cidr: '10.1.0.0/24', ranges: [{ start: '10.1.0.1', end: '10.1.0.3' }] }],
    blockSize: { ipv4: 28 },
  })
  const first = await leased(n1, { network, owner: ownerOf('a') })
  await leased(n1, { network, owner: ownerOf('b') })
  await n1.release(ownerOf('a'))
  c.crash('n1')
  n1 = c.start('n1')
  assert.equal(await leased(n1, { network, owner: ownerOf('c') }), '10.1.0.3/24')
  const told = await leased(n1, { network, owner: ownerOf('late') })
  assert.match(told, /^exhausted: .* 2 are held and 1 rest, the next is free at \d\d:\d\d:\d\d UTC/)
  await pass(c, 30_000)
  // The same words each time, so that a pod's Event counts up instead of being one of many.
  assert.equal(await leased(n1, { network, owner: ownerOf('late') }), told)
  await pass(c, 30_000)
  assert.equal(await leased(n1, { network, owner: ownerOf('late') }), first)
})

test('releasing twice, or what was never held, is fine', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', v4)
  await n1.release(ownerOf('nobody'))
  await leased(n1, { network, owner: ownerOf('a') })
  await Promise.all([n1.release(ownerOf('a')), n1.release(ownerOf('a'))])
  assert.deepEqual(n1.owners(), [])
})

test('a DEL that overtakes its ADD leaves nothing held', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', v4)
  await Promise.all([n1.lease({ network, owner: ownerOf('a') }), n1.release(ownerOf('a'))])
  assert.deepEqual(n1.owners(), [])
})

test('an owner may hold addresses of several networks, and gives all of them back', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const [blue, red] = [
    await c.network('blue', v4),
    await c.network('red', { subnets: [{ cidr: '10.2.0.0/16' }] }),
  ]
  assert.match(await leased(n1, { network: blue, owner: ownerOf('a') }), /^10\.1\./)
  assert.match(await leased(n1, { network: red, owner: ownerOf('a') }), /^10\.2\./)
  await n1.release(ownerOf('a'))
  assert.deepEqual(n1.owners(), [])
})

test('two networks with the same subnet know nothing of each other', async () => {
  const c = await addressCluster()
  const [n1, n2] = [c.start('n1'), c.start('n2')]
  const [blue, green] = [await c.network('blue', tiny), await c.network('green', tiny)]
  const all = await Promise.all(
    [n1, n2].flatMap((node, i) =>
      [blue, green].flatMap((network) =>
        names(3, 3 * i).map((name) =>
          leased(node, { network, owner: { ...ownerOf(name), interface: network.metadata.name } }),
        ),
      ),
    ),
  )
  assert.equal(all.filter((text) => /^10\.1\.0\.[1-6]\/29$/.test(text)).length, 12)
  assert.deepEqual(await c.problems(), [])
})

test('a small subnet goes out one by one, to the last address, whichever node asks; then it is said with the numbers', async () => {
  const c = await addressCluster()
  const nodes = ['n1', 'n2', 'n3'].map((name) => c.start(name))
  const network = await c.network('blue', tiny)
  const got = await Promise.all(
    names(6).map((name, i) => leased(nodes[i % 3]!, { network, owner: ownerOf(name) })),
  )
  assert.deepEqual(
    got.sort(),
    [1, 2, 3, 4, 5, 6].map((i) => `10.1.0.${i}/29`),
  )
  assert.equal(
    await leased(nodes[0]!, { network, owner: ownerOf('late') }),
    'exhausted: lease an address of lab/blue: network lab/blue has no free IPv4 address here: all 6 of its blocks are leased to nodes, ' +
      "and of the 2 addresses of this node's blocks 2 are held and 0 rest; append a subnet to spec.subnets, or delete pods that are not needed",
  )
  // One pod goes, on another node: its address rests, comes back, and is found.
  await nodes[1]!.release(ownerOf('p1'))
  await pass(c, 59_000)
  assert.match(await leased(nodes[0]!, { network, owner: ownerOf('late') }), /^exhausted/)
  await pass(c, 2_000)
  assert.match(await leased(nodes[0]!, { network, owner: ownerOf('late') }), /^10\.1\.0\.[1-6]\/29$/)
  assert.deepEqual(await c.problems(), [])
})

test('blocks run out in a sentence, and an appended subnet helps at once', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', small)
  const got = await Promise.all(names(63).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  const given = got.filter((text) => text.endsWith('/26'))
  // All but the network's own and the broadcast address, the last sixteenth once there are no blocks.
  assert.deepEqual([new Set(given).size, got.length - given.length], [62, 1])
  const wider = await c.kube.update(resources.networks, {
    ...network,
    spec: { ...network.spec, subnets: [...(network.spec.subnets ?? []), { cidr: '10.2.0.0/24' }] },
  })
  assert.match(await leased(n1, { network: wider, owner: ownerOf('late') }), /^10\.2\.0\.\d+\/24$/)
})

test('nodes never get the same block, however many ask at once', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', small)
  const nodes = names(15).map((name) => c.start(name))
  const got = await Promise.all(nodes.map((node, i) => leased(node, { network, owner: ownerOf(`p${i}`) })))
  assert.equal(new Set(got).size, 15)
  assert.equal(new Set((await c.blocks()).map((b) => b.spec.node)).size, 15)
})

test('nodes for which no block is left get single addresses, all of them before it is said that there are none', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', { subnets: [{ cidr: '10.1.0.0/24' }] })
  const nodes = names(76).map((name) => c.start(name))
  const lease = (node: number, name: string) => leased(nodes[node]!, { network, owner: ownerOf(name) })
  const isGiven = (text: string) => /^10\.1\.0\.\d+\/24$/.test(text)
  const first = await Promise.all(nodes.map((_, i) => lease(i, `a${i}`)))
  // 60 blocks of four, and the last sixteenth but for the broadcast address.
  assert.equal(first.filter(isGiven).length, 75)
  assert.equal(
    first.find((text) => !isGiven(text)),
    'exhausted: lease an address of lab/blue: network lab/blue has no free IPv4 address here: all 60 of its blocks are leased to nodes, ' +
      "and all 15 addresses that go out one by one, and of the 0 addresses of this node's blocks 0 are held and 0 rest; " +
      'append a subnet to spec.subnets, or delete pods that are not needed',
  )
  const rest = await Promise.all(
    nodes.flatMap((_, i) => ['b', 'c', 'd', 'e'].map((n) => lease(i, `${n}${i}`))),
  )
  const given = [...first, ...rest].filter(isGiven)
  assert.deepEqual([given.length, new Set(given).size], [254, 254])
  assert.deepEqual(await c.problems(), [])
  // A single address is for any node as soon as it has rested.
  const one = first.findIndex((text) => /\.2(4\d|5\d)\//.test(text))
  const without = first.findIndex((text) => !isGiven(text))
  await nodes[one]!.release(ownerOf(`a${one}`))
  assert.match(await lease(without, 'late'), /^exhausted/)
  await pass(c, 61_000)
  assert.equal(await lease(without, 'late'), first[one])
})

test('a node that has no block gets one as soon as there is one', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', small)
  const nodes = names(16).map((name) => c.start(name))
  const lease = (node: number, name: string) => leased(nodes[node]!, { network, owner: ownerOf(name) })
  for (const i of nodes.keys()) await lease(i, `a${i}`)
  await nodes[3]!.release(ownerOf('a3'))
  await pass(c, 400_000)
  assert.match(await lease(15, 'b15'), /\/26$/)
  assert.deepEqual(
    (await c.blocks())
      .filter(({ spec }) => spec.node === 'p15')
      .map(({ spec }) => spec.cidr.slice(-3))
      .sort(),
    ['/30', '/32'],
  )
})

test('no single address is got ahead of need, and who waits for a block to be spare is given one', async () => {
  for (const waits of [false, true]) {
    const c = await addressCluster()
    const network = await c.network('blue', {
      subnets: [{ cidr: '10.1.0.0/26', exclude: ['10.1.0.0/30'] }],
      blockSize: { ipv4: 30 },
    })
    const n1 = c.start('n1')
    const lease = (name: string) => leased(n1, { network, owner: ownerOf(name) })
    const mine = async () => (await c.blocks()).filter(({ spec }) => spec.node === 'n1').length
    await lease('a')
    // All others are in use.
    for (const name of names(13)) await leased(c.start(name), { network, owner: ownerOf(name) })
    for (const name of ['b', 'c', 'd']) await lease(name)
    // From here on the node asks for one more.
    if (!waits) await settle(c)
    assert.equal(await mine(), 1)
    assert.match(await lease('e'), /^10\.1\.0\.6[0-2]\/26$/)
    assert.equal(await mine(), 2)
  }
})

test('where no block is left, a pod that is expected gets nothing yet, and an address when it comes, even meanwhile', async () => {
  for (const waits of [true, false]) {
    const c = await addressCluster()
    const network = await c.network('blue', small)
    for (const name of names(15)) await leased(c.start(name), { network, owner: ownerOf(name) })
    const n1 = c.start('n1')
    await settle(c)
    const prepared = assert.rejects(n1.prepare(network), /no free IPv4 address/)
    if (waits) await prepared
    assert.equal((await c.blocks()).length, 15)
    assert.match(await leased(n1, { network, owner: ownerOf('a') }), /^10\.1\.0\.6[0-2]\/26$/)
    await prepared
  }
})

test('an address asked for by value that went to any pod where there were no blocks is refused with a sentence', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', small)
  const nodes = names(18).map((name) => c.start(name))
  for (const [i, node] of nodes.entries()) await leased(node, { network, owner: ownerOf(`a${i}`) })
  assert.match(
    await leased(nodes[0]!, { network, owner: ownerOf('b'), ips: ['10.1.0.61'] }),
    /^exhausted: .*10\.1\.0\.61 is held by any pod on node p\d+; ask for another, or wait until it is given back/,
  )
})

test('while the API server is away, leases go on from the blocks in hand, also after a restart; then it is said', async () => {
  const c = await addressCluster()
  let n1 = c.start('n1')
  const [network, red] = [await c.network('blue', v4), await c.network('red', v4)]
  await leased(n1, { network, owner: ownerOf('a') })
  c.hook.before = away
  c.crash('n1')
  n1 = c.start('n1')
  assert.match(await leased(n1, { network, owner: ownerOf('b') }), /^10\.1\./)
  assert.equal(
    await leased(n1, { network: red, owner: ownerOf('c') }),
    'unavailable: lease an address of lab/red for pod lab/c: node n1 needs another block of it and cannot get one now ' +
      '(create addressblocks: the API server does not answer); it is tried again with the pod',
  )
  c.hook.before = undefined
  assert.match(await leased(n1, { network: red, owner: ownerOf('c') }), /^10\.1\./)
  assert.deepEqual(await c.problems(), [])
})

test('all families or none: what the first gave is free again when the second has none', async () => {
  const c = await addressCluster()
  const n1 = c.start('n1')
  const network = await c.network('blue', { subnets: [{ cidr: '10.1.0.0/29' }, { cidr: 'fd00:10:1::/126' }] })
  const got = []
  for (const name of names(5)) got.push(await leased(n1, { network, owner: ownerOf(name) }))
  assert.equal(got.filter((text) => text.startsWith('10.1.')).length, 3)
  assert.match(got[4]!, /^exhausted: .*no free IPv6 address/)
  assert.equal(n1.owners().length, 3)
  await pass(c, 400_000)
  assert.equal((await c.blocks()).length, 6)
})

test('an agent that starts again holds what it held, and hands out nothing of it', async () => {
  const c = await addressCluster()
  let n1 = c.start('n1')
  const network = await c.network('blue', both)
  const before = await Promise.all(names(20).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  c.crash('n1')
  n1 = c.start('n1')
  assert.deepEqual(n1.owners().length, 20)
  assert.equal(await leased(n1, { network, owner: ownerOf('p7') }), before[7])
  const after = await Promise.all(names(20, 20).map((name) => leased(n1, { network, owner: ownerOf(name) })))
  assert.equal(new Set([...before, ...after]).size, 40)
  assert.equal((await c.blocks()).length, 2)
  await n1.release(ownerOf('p7'))
  assert.equal(n1.owners().length, 39)
})

test('a block whose grant was lost in a crash is found again', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1')
  await settle(c)
  c.disk('n1').full = () => true
  assert.match(await leased(n1, { network, owner: ownerOf('a') }), /^kernel: .*the disk is full/)
  c.disk('n1').full = undefined
  c.crash('n1')
  assert.match(await leased(c.start('n1'), { network, owner: ownerOf('a') }), /^10\.1\./)
  assert.equal((await c.blocks()).length, 1)
})

test('a grant whose answer was lost is taken up when asked for again', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1')
  await settle(c)
  const create = c.kube.create.bind(c.kube)
  c.kube.create = async (resource, object) => {
    await create(resource, object)
    return away('create addressblocks')
  }
  assert.match(await leased(n1, { network, owner: ownerOf('a') }), /^unavailable/)
  c.kube.create = create
  assert.match(await leased(n1, { network, owner: ownerOf('a') }), /^10\.1\./)
  assert.equal((await c.blocks()).length, 1)
})

test('a reboot voids the leases of containers; blocks stay, and the addresses rest', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', { subnets: [{ cidr: '10.1.0.0/24' }], blockSize: { ipv4: 29 } })
  const before = await Promise.all(
    names(3).map((name) => leased(c.start(`n${name}`), { network, owner: ownerOf(name) })),
  )
  c.crash('np0')
  const again = c.start('np0', { bootId: 'boot-2' })
  assert.deepEqual(again.owners(), [])
  const blocks = (await c.blocks()).length
  const after = []
  for (const name of names(4, 10)) after.push(await leased(again, { network, owner: ownerOf(name) }))
  assert.ok(!after.includes(before[0]!), 'it rests')
  assert.equal((await c.blocks()).length, blocks)
  assert.deepEqual(await c.problems(), [])
})

test('an address rests no longer where the machine’s clock is set back, while the agent runs or before it starts', async () => {
  for (const restarts of [false, true]) {
    const c = await addressCluster()
    let back = 0
    const clock: Clock = {
      now: () => c.clock.now() - back,
      sleep: (ms, signal) => c.clock.sleep(ms, signal),
    }
    const network = await c.network('blue', both)
    let n1 = c.start('n1', { clock })
    const ips = ['10.1.240.7']
    await leased(n1, { network, owner: ownerOf('a'), ips })
    await n1.release(ownerOf('a'))
    if (restarts) c.crash('n1')
    back = 24 * 3_600_000
    if (restarts) n1 = c.start('n1', { clock })
    assert.match(await leased(n1, { network, owner: ownerOf('b'), ips }), /rests for 60 s more/)
    await pass(c, 60_000)
    assert.equal(await leased(n1, { network, owner: ownerOf('b'), ips }), '10.1.240.7/16')
  }
})

test('a node that came back under another UID does not own its blocks any more', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const first = await leased(c.start('n1'), { network, owner: ownerOf('a') })
  c.crash('n1')
  const n1 = c.start('n1', { uid: 'another' })
  assert.notEqual(await leased(n1, { network, owner: ownerOf('b') }), first)
  const uids = new Map((await c.blocks()).map((b) => [b.spec.nodeUID, b.spec.cidr]))
  assert.deepEqual([...uids.keys()].sort(), ['another', nodeUID('n1')])
  const second = await leased(n1, { network, owner: ownerOf('c') })
  assert.ok(inBlock(second, uids.get('another')!.replace(/\d+\/26$/, '')))
  await n1.release(ownerOf('a'))
})

test('an agent whose Node has another UID stops leasing; what is held stays, and can be released', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1')
  const held = await leased(n1, { network, owner: ownerOf('a') })
  n1.nodeIs('another')
  assert.equal(
    await leased(n1, { network, owner: ownerOf('b') }),
    'unavailable: lease an address for pod lab/b: node n1 was registered anew, and its blocks go to others; drain it and restart its agent',
  )
  assert.equal(await leased(n1, { network, owner: ownerOf('a') }), held)
  await n1.release(ownerOf('a'))
  n1.nodeIs(nodeUID('n1'))
  assert.match(await leased(n1, { network, owner: ownerOf('b') }), /^10\.1\./)
})

test('a block that went back after a boot with a full disk does not come to life again either', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', small)
  const first = await leased(c.start('n1'), { network, owner: ownerOf('a') })
  c.crash('n1')
  c.disk('n1').full = () => true
  c.start('n1', { bootId: 'boot-2' })
  await settle(c)
  c.disk('n1').full = undefined
  await pass(c, 400_000)
  assert.deepEqual(await c.blocks(), [], 'it went back')
  c.crash('n1')
  // The API server is slow to say which blocks the node has.
  c.hook.before = (request) => (request === 'list addressblocks' ? new Promise(() => {}) : undefined)
  const n1 = c.start('n1', { bootId: 'boot-2' })
  void leased(n1, { network, owner: ownerOf('b') })
  await settle(c)
  assert.deepEqual(await c.problems(), [], `as ${first} would be`)
})

test('what nobody uses goes back after a while: all of it once the last pod is gone', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', both)
  const n1 = c.start('n1')
  for (const name of names(150)) await leased(n1, { network, owner: ownerOf(name) })
  await settle(c)
  const most = (await c.blocks()).length
  for (const name of names(145)) await n1.release(ownerOf(name))
  await pass(c, 400_000)
  const some = (await c.blocks()).length
  for (const name of names(5, 145)) await n1.release(ownerOf(name))
  await pass(c, 400_000)
  assert.deepEqual([most, some, (await c.blocks()).length], [6, 2, 0])
  assert.deepEqual([...c.disk('n1').entries.keys()], ['ipam/node'])
})

test('a block on its way back is used no more, also when the agent crashes before the API server has it', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  let n1 = c.start('n1')
  const first = await leased(n1, { network, owner: ownerOf('a') })
  await n1.release(ownerOf('a'))
  c.hook.before = (request) => {
    if (request.startsWith('delete')) away(request)
  }
  await pass(c, 400_000)
  c.crash('n1')
  n1 = c.start('n1')
  const second = await leased(n1, { network, owner: ownerOf('b') })
  assert.notEqual(second.replace(/\.\d+\/16$/, ''), first.replace(/\.\d+\/16$/, ''))
  assert.equal((await c.blocks()).length, 2)
  c.hook.before = undefined
  await pass(c, 60_000)
  assert.equal((await c.blocks()).length, 1)
})

test('a pod that comes while a block goes back gets another one', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1')
  await n1.prepare(network)
  let late: Promise<string> | undefined
  c.hook.before = async (request) => {
    if (request !== 'delete addressblocks') return
    late ??= leased(n1, { network, owner: ownerOf('late') })
    await new Promise((resolve) => setImmediate(resolve))
  }
  await pass(c, 300_000)
  assert.match((await late) ?? '', /^10\.1\./)
  assert.deepEqual(await c.problems(), [])
})

test('a block that goes back while the node looks at what it has is not taken for its own', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', tiny)
  const n1 = c.start('n1')
  await leased(n1, { network, owner: ownerOf('a') })
  await n1.release(ownerOf('a'))
  c.crash('n1')
  const slow = Promise.withResolvers<void>()
  const list = c.kube.list.bind(c.kube)
  c.kube.list = async (resource, selection) => {
    const listing = await list(resource, selection)
    await slow.promise
    return listing
  }
  c.start('n1')
  await pass(c, 60_000)
  slow.resolve()
  c.kube.list = list
  await settle(c)
  assert.deepEqual([await c.blocks(), [...c.disk('n1').entries.keys()]], [[], ['ipam/node']])
})

test('a block that went back after a reboot does not come to life again with the next start or reboot', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  await leased(c.start('n1'), { network, owner: ownerOf('a') })
  c.crash('n1')
  c.start('n1', { bootId: 'boot-2' })
  await pass(c, 400_000)
  assert.deepEqual(await c.blocks(), [])
  c.hook.before = away
  for (const bootId of ['boot-2', 'boot-3']) {
    c.crash('n1')
    const n1 = c.start('n1', { bootId })
    assert.match(await leased(n1, { network, owner: ownerOf('b') }), /^unavailable/)
  }
})

test('a block that somebody deleted while pods use it is made again; one nobody uses is forgotten', async () => {
  const c = await addressCluster()
  const [network, red] = [await c.network('blue', v4), await c.network('red', v4)]
  const n1 = c.start('n1')
  await leased(n1, { network, owner: ownerOf('a') })
  await n1.prepare(red)
  for (const { metadata } of await c.blocks()) await c.kube.delete(resources.addressBlocks, metadata)
  c.crash('n1')
  c.start('n1')
  await settle(c)
  assert.deepEqual(
    (await c.blocks()).map((b) => `${b.spec.network} ${b.spec.node}`),
    ['blue n1'],
  )
  assert.deepEqual(await c.problems(), [])
})

test('blocks say where packets to them go, and follow when that changes', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  let endpoint: string | undefined = '192.168.10.11'
  const n1 = c.start('n1', { endpointOf: () => endpoint })
  const endpoints = async () => (await c.blocks()).map((b) => b.spec.endpoint)
  await n1.prepare(network)
  const before = await endpoints()
  endpoint = '192.168.20.11'
  await n1.prepare(network)
  const moved = await endpoints()
  endpoint = undefined
  await n1.prepare(network)
  assert.deepEqual([before, moved, await endpoints()], [['192.168.10.11'], ['192.168.20.11'], [undefined]])
})

test('blocks say where the kernel takes packets to them as soon as that changes, without a pod, also in an agent that was started anew', async () => {
  const c = await addressCluster()
  const network = await c.network('blue', v4)
  const n1 = c.start('n1', { endpointOf: () => '192.168.10.11' })
  await leased(n1, { network, owner: ownerOf('a') })
  const endpoints = async () => (await c.blocks()).map((b) => b.spec.endpoint)
  await n1.reachedAt(network, '192.168.20.11')
  const moved = await endpoints()
  c.hook.before = (request) => {
    if (request === 'patch addressblocks') away(request)
  }
  await assert.rejects(n1.reachedAt(network, '192.168.10.11'), { kind: 'unavailable' })
  c.hook.before = undefined
  c.crash('n1')
  const again = c.start('n1')
  await again.reachedAt(network, '192.168.10.11')
  const back = await endpoints()
  const asked = c.requests.length
  await again.reachedAt(network, '192.168.10.11')
  assert.deepEqual([moved, back, c.requests.slice(asked)], [['192.168.20.11'], ['192.168.10.11'], []])
})

test('a network that was never created gives no address', async () => {
  const c = await addressCluster()
  const network = {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { name: 'blue' },
    spec: v4,
  }
  assert.equal(
    await leased(c.start('n1'), { network, owner: ownerOf('a') }),
    'invalid: lease an address: network blue has no UID; it was never created',
  )
})

test('other plugins’ overlapping ranges have no address in common, on one node or several', async () => {
  const c = await addressCluster()
  const nodes = ['n1', 'n2'].map((name) => c.start(name))
  const poolOf = (range: string) => {
    const parsed = parseIpam('nad', { type: 'whereabouts', range })
    assert.ok(parsed.ok)
    return parsed.value.pools[0]!
  }
  const [wide, narrow] = [poolOf('10.9.0.0/27'), poolOf('10.9.0.0/28')]
  const got = []
  for (const [i, name] of names(24).entries())
    got.push(await leased(nodes[i % 2]!, { network: i < 12 ? narrow : wide, owner: ownerOf(name) }))
  const addresses = got.map((text) => text.split('/')[0])
  assert.equal(new Set(addresses).size, 24)
  assert.deepEqual(
    [
      got.slice(0, 12).filter((t) => t.endsWith('/28')).length,
      got.slice(12).filter((t) => t.endsWith('/27')).length,
    ],
    [12, 12],
  )
  assert.deepEqual(await c.problems(), [])

  // Also after restarts, and all goes back.
  for (const [i, name] of ['n1', 'n2'].entries()) {
    c.crash(name)
    nodes[i] = c.start(name)
  }
  assert.equal(await leased(nodes[0]!, { network: narrow, owner: ownerOf('p0') }), got[0])
  for (const [i, name] of names(24).entries()) await nodes[i % 2]!.release(ownerOf(name))
  await pass(c, 120_000)
  assert.deepEqual(await c.blocks(), [])
})
