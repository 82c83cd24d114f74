import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import { contains, formatPrefix, overlaps, type Prefix, parsePrefix } from '../lib/ip.ts'
import { blockCount, blockName, candidates, holderLabel, singles } from './block.ts'
import { poolOf } from './pool.ts'

const uid = '00000000-0000-4000-8000-0000000b10e0'
const pool = (spec: Network['spec']) =>
  poolOf({
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'lab', name: 'blue', uid },
    spec,
  })
const prefix = (text: string): Prefix => parsePrefix(text) as Prefix
const first = <T>(count: number, from: Iterable<T>): T[] => Iterator.from(from).take(count).toArray()

test('a block is named after its network, its first address in hex and its length', () => {
  assert.equal(blockName('U-1', prefix('10.1.0.64/26')), 'u-1-0a010040-26')
  const name = blockName(uid, prefix('fd00:10:1::40/122'))
  assert.equal(name, `${uid}-fd000010000100000000000000000040-122`)
  assert.match(name, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
})

test('a holder of any length fits a label', () => {
  assert.match(holderLabel(`claim ${'n'.repeat(63)}/${'c'.repeat(253)}`), /^[a-z0-9]{1,63}$/)
})

const layouts: Network['spec'][] = [
  { subnets: [{ cidr: '10.1.0.0/16' }] },
  { subnets: [{ cidr: '10.1.0.0/24' }, { cidr: '10.2.0.0/24' }] },
  { subnets: [{ cidr: '10.1.0.0/28' }] },
  { subnets: [{ cidr: '10.1.0.0/22', exclude: ['10.1.1.0/24', '10.1.0.7'] }], blockSize: { ipv4: 28 } },
  { subnets: [{ cidr: '10.1.0.0/16', ranges: [{ start: '10.1.9.60', end: '10.1.9.70' }] }] },
]

test('every block is tried exactly once, and holds something for pods', () => {
  const counts = layouts.map((spec) => {
    const p = pool(spec)
    const all = [...candidates(p, 4, 'n1')]
    const names = new Set(all.map(formatPrefix))
    assert.equal(names.size, all.length)
    assert.equal(BigInt(all.length), blockCount(p, 4))
    for (const [i, a] of all.entries()) for (const b of all.slice(i + 1)) assert.ok(!overlaps(a, b))
    return all.length
  })
  assert.deepEqual(counts, [960, 120, 14, 44, 2])
})

test('no single address lies in a block of another name', () => {
  for (const spec of layouts) {
    const p = pool(spec)
    const blocks = [...candidates(p, 4, 'n1')]
    for (const one of singles(p, 4, 'claim lab/web'))
      for (const block of blocks)
        assert.ok(!overlaps(one, block) || formatPrefix(one) === formatPrefix(block))
  }
})

test('nodes start at different blocks: of 500 nodes and 15,360 blocks, few meet at the first try', () => {
  const p = pool({ subnets: [{ cidr: '10.0.0.0/12' }] })
  const starts = Array.from({ length: 500 }, (_, i) => formatPrefix(first(1, candidates(p, 4, `n${i}`))[0]!))
  assert.ok(new Set(starts).size > 480, `${new Set(starts).size} of 500`)
})

test('a huge subnet is not enumerated', () => {
  const p = pool({ subnets: [{ cidr: 'fd00:10:1::/64' }] })
  const tried = first(3, candidates(p, 6, 'n1'))
  assert.equal(new Set(tried.map(formatPrefix)).size, 3)
  for (const t of tried) assert.ok(contains(prefix('fd00:10:1::/64'), t) && t.length === 122)
})

test('both families of one holder get the same place where they can', () => {
  const p = pool({ subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }] })
  const [v4] = first(1, singles(p, 4, 'claim lab/web')) as [Prefix]
  const [v6] = first(1, singles(p, 6, 'claim lab/web', v4)) as [Prefix]
  assert.equal(v4.value - prefix('10.1.240.0/20').value, v6.value - prefix('fd00:10:1:0:f000::/68').value)
})
