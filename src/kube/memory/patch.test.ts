import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type MergeKeys, patched } from './patch.ts'
import { frozen } from './value.ts'

const keys: MergeKeys = { list: 'name', 'list.env': 'key', words: true }

// RFC 7386 appendix A, as far as objects can hold it.
const merges: [unknown, unknown, unknown][] = [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
]
for (const [target, body, expected] of merges)
  test(`merge ${JSON.stringify(body)} into ${JSON.stringify(target)}`, () => {
    assert.deepEqual(patched(frozen(target), { type: 'merge', body }, keys), { ok: true, value: expected })
  })

const strategies: [string, unknown, unknown, unknown][] = [
  [
    'merges a list by its key',
    { list: [{ name: 'a', x: 1 }] },
    { list: [{ name: 'a', y: 2 }] },
    { list: [{ name: 'a', x: 1, y: 2 }] },
  ],
  [
    'adds what is new',
    { list: [{ name: 'a' }] },
    { list: [{ name: 'b' }] },
    { list: [{ name: 'a' }, { name: 'b' }] },
  ],
  [
    'deletes by directive',
    { list: [{ name: 'a' }, { name: 'b' }] },
    { list: [{ name: 'a', $patch: 'delete' }] },
    { list: [{ name: 'b' }] },
  ],
  [
    'replaces a list by directive',
    { list: [{ name: 'a' }] },
    { list: [{ name: 'b' }, { $patch: 'replace' }] },
    { list: [{ name: 'b' }] },
  ],
  [
    'replaces an object by directive',
    { map: { a: 1 } },
    { map: { $patch: 'replace', b: 2 } },
    { map: { b: 2 } },
  ],
  [
    'merges lists within lists',
    { list: [{ name: 'a', env: [{ key: 'x', v: 1 }] }] },
    { list: [{ name: 'a', env: [{ key: 'y', v: 2 }] }] },
    {
      list: [
        {
          name: 'a',
          env: [
            { key: 'x', v: 1 },
            { key: 'y', v: 2 },
          ],
        },
      ],
    },
  ],
  ['replaces lists without a key', { other: [1, 2] }, { other: [3] }, { other: [3] }],
  ['merges plain values', { words: ['a', 'b'] }, { words: ['b', 'c'] }, { words: ['a', 'b', 'c'] }],
  [
    'takes plain values away',
    { words: ['a', 'b'] },
    { '$deleteFromPrimitiveList/words': ['a'] },
    { words: ['b'] },
  ],
  [
    'obeys the order asked for',
    { list: [{ name: 'a' }, { name: 'b' }] },
    { '$setElementOrder/list': [{ name: 'b' }, { name: 'a' }] },
    { list: [{ name: 'b' }, { name: 'a' }] },
  ],
  [
    'keeps only the keys to retain',
    { map: { a: 1, b: 2 } },
    { map: { $retainKeys: ['b', 'c'], c: 3 } },
    { map: { b: 2, c: 3 } },
  ],
  ['removes with null', { a: 1, b: 2 }, { a: null }, { b: 2 }],
]
for (const [what, target, body, expected] of strategies)
  test(`a strategic patch ${what}`, () => {
    assert.deepEqual(patched(frozen(target), { type: 'strategic', body }, keys), {
      ok: true,
      value: expected,
    })
  })

test('no patch reaches the prototype of objects', () => {
  const body = JSON.parse('{"__proto__": {"polluted": true}, "a": {"__proto__": {"polluted": true}}}')
  for (const type of ['merge', 'strategic'] as const) {
    const result = patched({ a: {} }, { type, body }, keys)
    assert.ok(result.ok)
    assert.equal((result.value as { polluted?: boolean; a: { polluted?: boolean } }).polluted, undefined)
    assert.equal((result.value as { a: { polluted?: boolean } }).a.polluted, undefined)
  }
  const add = [{ op: 'add', path: '/__proto__/polluted', value: true }]
  patched({ a: {} }, { type: 'json', body: add }, keys)
  assert.equal(({} as { polluted?: boolean }).polluted, undefined)
})

const refused: [string, 'merge' | 'json' | 'strategic', unknown, number][] = [
  ['a merge patch that is a list', 'merge', [], 400],
  ['a JSON patch that is an object', 'json', {}, 400],
  ['an operation that is none', 'json', [{ op: 'bend', path: '/a' }], 400],
  ['a test that fails', 'json', [{ op: 'test', path: '/a', value: 2 }], 422],
  ['a path that leads nowhere', 'json', [{ op: 'remove', path: '/b/c' }], 422],
]
for (const [what, type, body, code] of refused)
  test(`${what} is refused with ${code}`, () => {
    const result = patched({ a: 1 }, { type, body }, keys)
    assert.ok(!result.ok)
    assert.equal(result.status.code, code)
  })
