import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  contains,
  formatAddress,
  formatPrefix,
  hostBits,
  lastOf,
  overlaps,
  parseAddress,
  parsePrefix,
  prefixOf,
  sizeOf,
} from './ip.ts'

const address = (text: string): string | undefined => {
  const parsed = parseAddress(text)
  return parsed && formatAddress(parsed)
}

const addresses: [text: string, canonical: string | undefined][] = [
  ['10.1.0.7', '10.1.0.7'],
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  ['::', '::'],
  ['::1', '::1'],
  ['1::', '1::'],
  ['FD00:0010:0001:0000::0007', 'fd00:10:1::7'],
  ['fd00:10:1:0:0:0:0:7', 'fd00:10:1::7'],
  // the longest run of zeros is shortened, the first of equals, and never a single one
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['1:0:0:2:3:0:0:4', '1::2:3:0:0:4'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  // the last 32 bits may be written as IPv4
  ['64:ff9b::10.1.0.7', '64:ff9b::a01:7'],
  ['::ffff:10.1.0.7', '::ffff:a01:7'],
  ['1:2:3:4:5:6:10.1.0.7', '1:2:3:4:5:6:a01:7'],
  // one spelling more is an ambiguity more
  ['', undefined],
  ['10.1.0', undefined],
  ['10.1.0.256', undefined],
  ['010.1.0.7', undefined],
  ['10.1.0.7 ', undefined],
  ['10.1.0.7/32', undefined],
  ['fe80::1%eth0', undefined],
  ['1::2::3', undefined],
  ['1:2:3:4:5:6:7', undefined],
  ['::12345', undefined],
]

for (const [text, want] of addresses)
  test(`${JSON.stringify(text)} ${want ? `is the address ${want}` : 'is no address'}`, () =>
    assert.equal(address(text), want))

const prefixes: [text: string, canonical: string | undefined, hasHostBits: boolean][] = [
  ['10.1.0.0/16', '10.1.0.0/16', false],
  ['10.1.2.3/16', '10.1.0.0/16', true],
  ['10.1.0.7/32', '10.1.0.7/32', false],
  ['0.0.0.0/0', '0.0.0.0/0', false],
  ['255.255.255.255/1', '128.0.0.0/1', true],
  ['fd00:10:1::/64', 'fd00:10:1::/64', false],
  ['FD00:10:1::7/64', 'fd00:10:1::/64', true],
  ['::/0', '::/0', false],
  ['::1/128', '::1/128', false],
  ['10.1.0.0/33', undefined, false],
  ['fd00::/129', undefined, false],
  ['10.1.0.0/016', undefined, false],
  ['10.1.0.0/-1', undefined, false],
  ['10.1.0.0/', undefined, false],
  ['10.1.0.0', undefined, false],
  ['10.1.0.0/16/16', undefined, false],
  ['/16', undefined, false],
]

for (const [text, want, bits] of prefixes)
  test(`${JSON.stringify(text)} ${want ? `is the prefix ${want}${bits ? ' with host bits' : ''}` : 'is no prefix'}`, () => {
    const parsed = parsePrefix(text)
    assert.deepEqual([parsed && formatPrefix(parsed), hostBits(text)], [want, bits])
  })

const spans: [prefix: string, size: bigint, last: string][] = [
  ['10.1.0.0/16', 65536n, '10.1.255.255'],
  ['10.1.0.7/32', 1n, '10.1.0.7'],
  ['0.0.0.0/0', 4294967296n, '255.255.255.255'],
  ['fd00:10:1::/64', 1n << 64n, 'fd00:10:1:0:ffff:ffff:ffff:ffff'],
  ['::/0', 1n << 128n, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
]

for (const [text, size, last] of spans)
  test(`${text} has ${size} addresses, the last is ${last}`, () => {
    const prefix = parsePrefix(text)!
    assert.deepEqual([sizeOf(prefix), formatAddress(lastOf(prefix))], [size, last])
  })

const pairs: [a: string, b: string, aContainsB: boolean, overlap: boolean][] = [
  ['10.1.0.0/16', '10.1.0.0/16', true, true],
  ['10.1.0.0/16', '10.1.128.0/17', true, true],
  ['10.1.128.0/17', '10.1.0.0/16', false, true],
  ['10.1.0.0/16', '10.2.0.0/16', false, false],
  ['10.0.0.0/16', '10.1.0.0/16', false, false],
  ['0.0.0.0/0', '255.255.255.255/32', true, true],
  ['::/0', 'fd00:10:1::/64', true, true],
  // families never meet, whatever their numbers
  ['::/0', '10.1.0.0/16', false, false],
  ['0.0.0.0/0', '::/128', false, false],
]

for (const [a, b, inside, overlap] of pairs)
  test(`${a} ${inside ? 'contains' : 'does not contain'} ${b}, and ${overlap ? 'overlaps' : 'does not overlap'} it`, () => {
    const [outer, inner] = [parsePrefix(a)!, parsePrefix(b)!]
    assert.deepEqual(
      [contains(outer, inner), overlaps(outer, inner), overlaps(inner, outer)],
      [inside, overlap, overlap],
    )
  })

test('an address lies within the prefix made of it', () => {
  const host = parseAddress('10.1.2.3')!
  assert.deepEqual(
    [formatPrefix(prefixOf(host, 26)), contains(prefixOf(host, 26), host)],
    ['10.1.2.0/26', true],
  )
})

test('text and number are each other’s inverse for every address met at random', () => {
  let seed = 1n
  for (let i = 0; i < 2000; i++) {
    seed = (seed * 6364136223846793005n + 1442695040888963407n) & ((1n << 128n) - 1n)
    // zero some groups, so that `::` is met in every place
    const mask = [0, 1, 2, 3, 4, 5, 6, 7].reduce(
      (m, g) => ((i >> g) & 1 ? m | (0xffffn << BigInt(16 * g)) : m),
      0n,
    )
    const six = { family: 6 as const, value: seed & mask }
    assert.deepEqual(parseAddress(formatAddress(six)), six)
    const four = { family: 4 as const, value: seed & 0xffffffffn }
    assert.deepEqual(parseAddress(formatAddress(four)), four)
  }
})
