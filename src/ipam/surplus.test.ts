import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Address, type Prefix, parsePrefix } from '../lib/ip.ts'
import { intervalOf } from './interval.ts'
import { addBlock, emptyStock, rest, type Stock, take } from './stock.ts'
import { isNearlyUsedUp, surplusOf } from './surplus.ts'

const idleMs = 300
const all = [intervalOf(parsePrefix('10.1.0.0/16') as Prefix)]
const add = (stock: Stock, cidr: string, now = 0, apart = false) =>
  addBlock(stock, cidr, parsePrefix(cidr) as Prefix, all, { now, apart })
const stockOf = (...cidrs: string[]): Stock => {
  const stock = emptyStock()
  for (const cidr of cidrs) add(stock, cidr)
  return stock
}
const at = (stock: Stock, now: number, mayGo = false) => surplusOf(stock, now, idleMs, () => mayGo)

test('a block that nobody used for a while goes back', () => {
  const stock = stockOf('10.1.0.0/30')
  assert.deepEqual(at(stock, 0), { blocks: [], next: 300 })
  assert.deepEqual(at(stock, 300), { blocks: ['10.1.0.0/30'] })
})

test('a block is idle from the moment when its last address has rested', () => {
  const stock = stockOf('10.1.0.0/30')
  rest(stock, take(stock, 4, 'a', 0) as Address, 60)
  assert.deepEqual(at(stock, 0), { blocks: [], next: 360 })
  assert.deepEqual(at(stock, 360), { blocks: ['10.1.0.0/30'] })
})

test('while one block is in use, an idle one stays as the spare, and a second goes', () => {
  const stock = stockOf('10.1.0.0/30', '10.1.0.4/30', '10.1.0.8/30')
  take(stock, 4, 'a', 0)
  assert.deepEqual(at(stock, 300).blocks, ['10.1.0.8/30', '10.1.0.4/30'])
  for (const owner of ['b', 'c']) take(stock, 4, owner, 0)
  assert.deepEqual(at(stock, 300).blocks, ['10.1.0.8/30'])
})

test('what has rested counts as free', () => {
  const stock = stockOf('10.1.0.0/30', '10.1.0.4/30')
  const all = Array.from({ length: 6 }, (_, i) => take(stock, 4, `o${i}`, 0) as Address)
  for (const address of all.slice(1)) rest(stock, address, 60)
  assert.deepEqual(at(stock, 359), { blocks: [], next: 360 })
  assert.deepEqual(at(stock, 360), { blocks: ['10.1.0.4/30'] })
})

test('a single address goes back as soon as it has rested', () => {
  const stock = stockOf('10.1.0.7/32')
  const seven = take(stock, 4, 'a', 0) as Address
  assert.deepEqual(at(stock, 0), { blocks: [] })
  rest(stock, seven, 60)
  assert.deepEqual(at(stock, 59), { blocks: [], next: 60 })
  assert.deepEqual(at(stock, 60), { blocks: ['10.1.0.7/32'] })
})

test('a single address that was got ahead of need waits for its pod', () => {
  assert.deepEqual(at(stockOf('10.1.0.7/32'), 60), { blocks: [], next: 300 })
})

test('of blocks set apart only those go that may', () => {
  const stock = emptyStock()
  add(stock, '10.1.240.7/32', 0, true)
  assert.deepEqual(at(stock, 300, false), { blocks: [] })
  assert.deepEqual(at(stock, 300, true), { blocks: ['10.1.240.7/32'] })
})

test('the next block is due when less than a quarter of one is left', () => {
  const stock = stockOf('10.1.0.0/29')
  const left = Array.from({ length: 8 }, (_, i) => {
    take(stock, 4, `o${i}`, 0)
    return isNearlyUsedUp(stock, 4, 0)
  })
  assert.deepEqual(left, [false, false, false, false, false, false, true, true])
})

test('what has rested by now is free, and what rests is not', () => {
  const stock = stockOf('10.1.0.64/29')
  const some = Array.from({ length: 7 }, (_, i) => take(stock, 4, `o${i}`, 0) as Address)
  for (const address of some.slice(0, 5)) rest(stock, address, 60)
  assert.equal(isNearlyUsedUp(stock, 4, 59), true)
  assert.equal(isNearlyUsedUp(stock, 4, 60), false)
})

test('single addresses are never got ahead: others may need them', () => {
  const stock = stockOf('10.1.0.7/32')
  take(stock, 4, 'a', 0)
  assert.equal(isNearlyUsedUp(stock, 4, 0), false)
})

test('single addresses that a node had to take keep it from no block once one is due', () => {
  const stock = stockOf('10.1.0.7/32', '10.1.0.64/30')
  const due = Array.from({ length: 5 }, (_, i) => {
    take(stock, 4, `o${i}`, 0)
    return isNearlyUsedUp(stock, 4, 0)
  })
  assert.deepEqual(due, [false, false, false, false, true])
})
