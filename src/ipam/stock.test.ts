import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Address, formatAddress, type Prefix, parseAddress, parsePrefix } from '../lib/ip.ts'
import { intervalOf } from './interval.ts'
import {
  addBlock,
  blockOf,
  canTake,
  countStock,
  emptyStock,
  rest,
  type Stock,
  setUsable,
  take,
  takeThis,
  untake,
} from './stock.ts'

const prefix = (text: string): Prefix => parsePrefix(text) as Prefix
const address = (text: string): Address => parseAddress(text) as Address
const all = [intervalOf(prefix('10.1.0.0/16'))]
const stockOf = (...cidrs: string[]): Stock => {
  const stock = emptyStock()
  for (const cidr of cidrs) addBlock(stock, cidr, prefix(cidr), all, { now: 0 })
  return stock
}
const taken = (stock: Stock, owner: string, now: number): string => {
  const got = take(stock, 4, owner, now)
  return got ? formatAddress(got) : 'none'
}

test('addresses go out in order, then rest before they go out again, the longest rested first', () => {
  const stock = stockOf('10.1.0.0/30')
  const story = ['a', 'b', 'c', 'd', 'e'].map((owner) => taken(stock, owner, 0))
  rest(stock, address('10.1.0.2'), 60)
  rest(stock, address('10.1.0.0'), 61)
  story.push(taken(stock, 'f', 59), taken(stock, 'f', 61), taken(stock, 'g', 61), taken(stock, 'h', 61))
  assert.deepEqual(story, [
    ...['10.1.0.0', '10.1.0.1', '10.1.0.2', '10.1.0.3', 'none'],
    ...['none', '10.1.0.2', '10.1.0.0', 'none'],
  ])
})

test('an address that was taken and not used is free at once', () => {
  const stock = stockOf('10.1.0.0/31')
  const first = take(stock, 4, 'a', 0) as Address
  untake(stock, first)
  assert.deepEqual(
    [taken(stock, 'b', 0), taken(stock, 'c', 0), taken(stock, 'd', 0)],
    ['10.1.0.0', '10.1.0.1', 'none'],
  )
})

test('asking whether there is one takes none', () => {
  const stock = stockOf('10.1.0.0/32')
  assert.deepEqual([canTake(stock, 4, 0), canTake(stock, 4, 0), canTake(stock, 6, 0)], [true, true, false])
  assert.deepEqual([taken(stock, 'a', 0), canTake(stock, 4, 0)], ['10.1.0.0', false])
})

test('a block set apart gives only what is named, to one owner at a time', () => {
  const stock = emptyStock()
  addBlock(stock, 'x', prefix('10.1.240.7/32'), all, { now: 0, apart: true })
  const seven = address('10.1.240.7')
  assert.equal(taken(stock, 'a', 0), 'none')
  assert.deepEqual(
    [takeThis(stock, seven, 'a'), takeThis(stock, seven, 'a'), takeThis(stock, seven, 'b')],
    [true, true, false],
  )
  assert.equal(takeThis(stock, address('10.1.240.8'), 'a'), false)
})

test('what the network no longer allows goes out no more; who has it keeps it', () => {
  const stock = stockOf('10.1.0.0/30')
  taken(stock, 'a', 0)
  taken(stock, 'b', 0)
  const block = blockOf(stock, address('10.1.0.0'))!
  setUsable(block, [{ first: address('10.1.0.1').value, last: address('10.1.0.2').value }])
  rest(stock, address('10.1.0.0'), 60)
  assert.deepEqual([taken(stock, 'c', 100), taken(stock, 'd', 100)], ['10.1.0.2', 'none'])
  assert.equal(block.held.get(address('10.1.0.1').value), 'b')
})

test('counts say what is held and what rests', () => {
  const stock = stockOf('10.1.0.0/30', '10.1.0.4/30')
  for (const owner of ['a', 'b', 'c', 'd', 'e']) taken(stock, owner, 0)
  rest(stock, address('10.1.0.1'), 60)
  assert.deepEqual(countStock(stock, 4, 0), { size: 8, held: 4, resting: 1, nextAt: 60 })
  assert.deepEqual(countStock(stock, 4, 60), { size: 8, held: 4, resting: 0 })
})

test('whatever happens, nobody gets what another holds or what rests, and nothing is lost', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = lcg(seed)
    const stock = stockOf('10.1.0.0/29', '10.1.0.8/30')
    const held = new Map<string, string>()
    const resting = new Map<string, number>()
    let now = 0
    for (let step = 0; step < 400; step++) {
      const free = 12 - held.size - [...resting.values()].filter((until) => until > now).length
      const act = random(10)
      if (act < 5) {
        const got = take(stock, 4, `o${step}`, now)
        assert.equal(got !== undefined, free > 0, `seed ${seed} step ${step}: ${free} free`)
        if (!got) continue
        const text = formatAddress(got)
        assert.ok(!held.has(text) && (resting.get(text) ?? 0) <= now, `seed ${seed} step ${step}: ${text}`)
        if (random(4) === 0) untake(stock, got)
        else held.set(text, `o${step}`)
      } else if (act < 8) {
        const text = [...held.keys()][random(Math.max(1, held.size))]
        if (text === undefined) continue
        held.delete(text)
        resting.set(text, now + 10)
        rest(stock, address(text), now + 10)
      } else if (act === 8) now += random(12)
      else for (const block of stock.blocks.values()) setUsable(block, all)
    }
  }
})

/** Numbers below `n` that only look random. */
const lcg = (seed: number) => (n: number) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return Math.floor((seed / 2 ** 32) * n)
}

test('an address that is excluded while it is taken, and then not needed, goes to nobody', () => {
  const stock = stockOf('10.1.0.0/30')
  taken(stock, 'a', 0)
  const block = blockOf(stock, address('10.1.0.0'))!
  setUsable(block, [intervalOf(prefix('10.1.0.2/31'))])
  untake(stock, address('10.1.0.0'))
  assert.deepEqual(
    [taken(stock, 'b', 0), taken(stock, 'c', 0), taken(stock, 'd', 0)],
    ['10.1.0.2', '10.1.0.3', 'none'],
  )
})
