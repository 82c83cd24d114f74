import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import type { Prefix } from '../lib/ip.ts'
import { parsePrefix } from '../lib/ip.ts'
import { candidates, lastSingles } from './block.ts'
import { familiesOf, type Pool, poolOf } from './pool.ts'
import { type Usage, usageOf } from './usage.ts'

const pool = (spec: Network['spec']): Pool =>
  poolOf({
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'lab', name: 'blue', uid: '00000000-0000-4000-8000-0000000b10e0' },
    spec,
  })

const text = (usages: Usage[]): string =>
  usages
    .map(
      ({ family, blocks, singles }) =>
        `IPv${family}: ${blocks.leased} of ${blocks.all} blocks, ${singles.leased} of ${singles.all} beside`,
    )
    .join('; ')

const layouts: [title: string, Network['spec'], all: string][] = [
  ['a large subnet', { subnets: [{ cidr: '10.1.0.0/16' }] }, 'IPv4: 960 of 960 blocks, 4095 of 4095 beside'],
  ['a small one', { subnets: [{ cidr: '10.1.0.0/24' }] }, 'IPv4: 60 of 60 blocks, 15 of 15 beside'],
  [
    'one that goes out one by one',
    { subnets: [{ cidr: '10.1.0.0/26' }] },
    'IPv4: 62 of 62 blocks, 0 of 0 beside',
  ],
  [
    'ranges that leave only the last sixteenth',
    { subnets: [{ cidr: '10.1.0.0/16', ranges: [{ start: '10.1.250.1', end: '10.1.250.9' }] }] },
    'IPv4: 9 of 9 blocks, 0 of 0 beside',
  ],
  [
    'exclusions and a gateway',
    { topology: 'Layer2', subnets: [{ cidr: '10.1.0.0/24', exclude: ['10.1.0.0/30', '10.1.0.248/29'] }] },
    'IPv4: 59 of 59 blocks, 8 of 8 beside',
  ],
  [
    'a subnet in blocks and one too small for them',
    { subnets: [{ cidr: '10.1.0.0/24' }, { cidr: '10.2.0.0/28' }] },
    'IPv4: 74 of 74 blocks, 15 of 15 beside',
  ],
  [
    'both families',
    { subnets: [{ cidr: '10.1.0.0/25' }, { cidr: 'fd00:10:1::/120' }] },
    'IPv4: 60 of 60 blocks, 7 of 7 beside; IPv6: 60 of 60 blocks, 16 of 16 beside',
  ],
]

for (const [title, spec, want] of layouts)
  test(`${title}: everything that nodes can lease counts, once each`, () => {
    const p = pool(spec)
    const all = familiesOf(p).flatMap((family) => [
      ...candidates(p, family, 'n1'),
      ...lastSingles(p, family, 'n1'),
    ])
    assert.equal(text(usageOf(p, [...all, ...all])), want)
    assert.equal(text(usageOf(p, [])), want.replaceAll(/\d+ of/g, '0 of'))
  })

test('what is no block of the network, or nothing for pods any more, does not count', () => {
  const p = pool({ subnets: [{ cidr: '10.1.0.0/24', exclude: ['10.1.0.64/26', '10.1.0.241'] }] })
  const strange = [
    '10.1.0.0/26',
    '10.1.0.9/32',
    '10.2.0.0/30',
    '10.1.0.64/30',
    '10.1.0.241/32',
    '10.1.0.255/32',
    '10.1.0.240/30',
  ]
  const prefixes = strange.map((cidr) => parsePrefix(cidr) as Prefix)
  assert.equal(text(usageOf(p, prefixes)), 'IPv4: 0 of 44 blocks, 0 of 14 beside')
})

test('subnets serve as many nodes as the manual says', () => {
  const served = [25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 12].map((length) => {
    const [usage] = usageOf(pool({ subnets: [{ cidr: `10.0.0.0/${length}` }] }), [])
    return `/${length}: ${usage?.blocks.all} ${usage?.singles.all}`
  })
  assert.deepEqual(served, [
    '/25: 60 7',
    '/24: 60 15',
    '/23: 60 31',
    '/22: 60 63',
    '/21: 60 127',
    '/20: 60 255',
    '/19: 120 511',
    '/18: 240 1023',
    '/17: 480 2047',
    '/16: 960 4095',
    '/12: 15360 65535',
  ])
})
