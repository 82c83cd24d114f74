import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../../api/network.ts'
import { resources } from '../../api/resources.ts'
import { leaks } from '../../ipam/consistency.ts'
import { holdingsOf, type NodeAddresses } from './addresses.ts'
import { type AddressCluster, addressCluster, away, leased, ownerOf } from './cluster.ts'

/** Numbers below `n` that only look random. */
const lcg = (seed: number) => (n: number) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * n)
}

const ticks = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

const shapes: Network['spec'][] = [
  { subnets: [{ cidr: '10.1.0.0/24' }, { cidr: 'fd00:10:1::/64' }] },
  { subnets: [{ cidr: '10.2.0.0/28' }] },
  { subnets: [{ cidr: '10.3.0.0/24', exclude: ['10.3.0.64/26'] }], blockSize: { ipv4: 28 } },
  // Fewer blocks than nodes.
  { subnets: [{ cidr: '10.4.0.0/26', exclude: ['10.4.0.0/27'] }], blockSize: { ipv4: 30 } },
]

/** What a runtime knows: who was told which addresses, and did not ask for their release yet. */
type Told = Map<string, { node: number; text: string }>

/**
 * Ten nodes, four networks, pods that come and go, an API server that is
 * away now and then, and agents that die between any two steps.
 */
async function play(seed: number): Promise<AddressCluster> {
  const random = lcg(seed)
  const c = await addressCluster(() => random(2 ** 30) / 2 ** 30)
  const networks = await Promise.all(shapes.map((spec, i) => c.network(`net${i}`, spec)))
  const names = Array.from({ length: 10 }, (_, i) => `n${i}`)
  const boots = names.map(() => 'boot')
  const start = (i: number) => c.start(names[i]!, { bootId: boots[i]! })
  const nodes: NodeAddresses[] = names.map((_, i) => start(i))
  const told: Told = new Map()
  const under: Promise<void>[] = []
  let sandbox = 0

  c.hook.before = async (request) => {
    if (random(12) === 0) away(request)
    await ticks(random(3))
    // The answer may be lost as well as the question.
    if (random(40) === 0) c.crash(names[random(10)]!)
  }
  const add = async (i: number) => {
    const network = networks[random(networks.length)]!
    const owner = ownerOf(`p${sandbox}`, `${sandbox++}`)
    const ips = random(6) === 0 && network === networks[2] ? [`10.3.0.${241 + random(6)}`] : undefined
    const ask = { network, owner, ...(ips ? { ips } : {}) }
    const text = await leased(nodes[i]!, ask)
    if (text.startsWith('10.'))
      told.set(owner.containerID, { node: i, text: `${network.metadata.name} ${text}` })
  }
  const owners = (container: string) => ({ ...ownerOf('x'), containerID: container, podUID: '' })
  const del = async (i: number, container: string) => {
    told.delete(container)
    // Should the agent die before it answers, the release may be done or not.
    await nodes[i]!.release(owners(container)).catch(() => {})
  }
  const check = async (step: string) => {
    const seen = new Map<string, string>()
    for (const [container, { node, text }] of told) {
      const [network, ...addresses] = text.split(' ')
      for (const address of addresses) {
        const who = `${container} on n${node}`
        const other = seen.get(`${network} ${address}`)
        assert.equal(
          other,
          undefined,
          `seed ${seed} ${step}: ${network} ${address} was told to ${other} and ${who}`,
        )
        seen.set(`${network} ${address}`, who)
      }
    }
    assert.deepEqual(await c.problems(), [], `seed ${seed} ${step}`)
  }

  for (let step = 0; step < 250; step++) {
    const i = random(10)
    const act = random(20)
    if (act < 11) under.push(add(i))
    else if (act < 16) {
      const container = [...told.keys()][random(Math.max(1, told.size))]
      if (container) under.push(del(told.get(container)!.node, container))
    } else if (act === 16) {
      c.crash(names[i]!)
      nodes[i] = start(i)
    } else if (act === 17) {
      // A reboot ends the node's containers.
      c.crash(names[i]!)
      await ticks(5)
      for (const [container, { node }] of told) if (node === i) told.delete(container)
      boots[i] = `boot-${step}`
      nodes[i] = start(i)
    } else await c.clock.advance(random(40_000))
    await ticks(random(4))
    if (step % 25 === 0) await check(`step ${step}`)
  }

  // Everything comes to rest: nodes run, the API server answers, every pod goes.
  c.hook.before = undefined
  await Promise.all(under)
  await ticks(20)
  for (const [i, name] of names.entries()) {
    c.crash(name)
    nodes[i] = start(i)
  }
  await check('before the end')
  for (const [container, { node }] of told) await del(node, container)
  for (const node of nodes) for (const owner of node.owners()) await node.release(owner)
  for (let i = 0; i < 12; i++) {
    await c.clock.advance(60_000)
    await ticks(60)
  }
  return c
}

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8])
  test(`ten allocators with crashes never give an address twice, and nothing leaks (seed ${seed})`, async () => {
    const c = await play(seed)
    const journals = Array.from({ length: 10 }, (_, i) => holdingsOf(c.disk(`n${i}`).entries))
    assert.deepEqual(await c.problems(), [])
    assert.deepEqual(leaks(await c.blocks(), journals), [])
    assert.deepEqual((await c.kube.list(resources.addressBlocks)).items, [])
    assert.deepEqual(
      journals.flatMap((j) => [...j.blocks.keys()]),
      [],
    )
  })
