import assert from 'node:assert/strict'
import { test } from 'node:test'
import { equal } from './json.ts'

const cases: [same: boolean, a: unknown, b: unknown][] = [
  [true, { a: 1, b: [{ c: 'x' }] }, { b: [{ c: 'x' }], a: 1 }],
  [true, { a: 1, b: undefined }, { a: 1 }],
  [true, [], []],
  [false, { a: 1 }, { a: 1, b: null }],
  [false, [1, 2], [2, 1]],
  [false, [1], [1, 2]],
  [false, [], {}],
  [false, { a: {} }, { a: null }],
  [false, '1', 1],
]

for (const [same, a, b] of cases)
  test(`${JSON.stringify(a)} and ${JSON.stringify(b)} are ${same ? 'the same' : 'not the same'}`, () => {
    assert.equal(equal(a, b), same)
    assert.equal(equal(b, a), same)
  })
