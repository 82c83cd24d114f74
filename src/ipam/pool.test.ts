import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import { type Family, formatAddress, formatPrefix } from '../lib/ip.ts'
import { candidates, singles } from './block.ts'
import { countOf, type Interval } from './interval.ts'
import { askedFor, familiesOf, isBlock, type Pool, poolOf } from './pool.ts'

const network = (spec: Network['spec']): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace: 'lab', name: 'blue', uid: '00000000-0000-4000-8000-0000000b10e0' },
  spec,
})

const spans = (intervals: Interval[], family: Family): string =>
  intervals
    .map(({ first, last }) => {
      const [from, to] = [formatAddress({ family, value: first }), formatAddress({ family, value: last })]
      return from === to ? from : `${from}-${to}`
    })
    .join(' ')

/** For each subnet: what pods may have | what goes out one by one | what goes out in blocks of which length. */
const text = (pool: Pool): string =>
  pool.subnets
    .map(({ cidr, usable, single, shared, gateway }) =>
      [
        `${spans(usable, cidr.family)}`,
        formatPrefix(single),
        `/${shared.length} of ${spans(shared.usable, cidr.family)}`,
        ...(gateway ? [`gateway ${formatAddress(gateway)}`] : []),
      ].join(' | '),
    )
    .join('\n')

const cases: [title: string, Network['spec'], want: string][] = [
  [
    'a large subnet keeps its last sixteenth for single addresses',
    { subnets: [{ cidr: '10.1.0.0/16' }] },
    '10.1.0.1-10.1.255.254 | 10.1.240.0/20 | /26 of 10.1.0.1-10.1.239.255',
  ],
  [
    'in IPv6 the first address is the routers’, the last one is free',
    { subnets: [{ cidr: 'fd00:10:1::/64' }] },
    'fd00:10:1::1-fd00:10:1:0:ffff:ffff:ffff:ffff' +
      ' | fd00:10:1:0:f000::/68 | /122 of fd00:10:1::1-fd00:10:1:0:efff:ffff:ffff:ffff',
  ],
  [
    'a small subnet goes out one by one',
    { subnets: [{ cidr: '10.1.0.0/27' }] },
    '10.1.0.1-10.1.0.30 | 10.1.0.0/27 | /32 of 10.1.0.1-10.1.0.30',
  ],
  [
    'a subnet of fewer than sixteen blocks goes out one by one',
    { subnets: [{ cidr: '10.1.0.0/24' }], blockSize: { ipv4: 27 } },
    '10.1.0.1-10.1.0.254 | 10.1.0.0/24 | /32 of 10.1.0.1-10.1.0.254',
  ],
  [
    'a subnet of sixteen blocks goes out in blocks',
    { subnets: [{ cidr: '10.1.0.0/24' }], blockSize: { ipv4: 28 } },
    '10.1.0.1-10.1.0.254 | 10.1.0.240/28 | /28 of 10.1.0.1-10.1.0.239',
  ],
  [
    'ranges and exclusions take away, in whatever order they are written',
    {
      subnets: [
        {
          cidr: '10.1.0.0/16',
          ranges: [
            { start: '10.1.3.0', end: '10.1.3.255' },
            { start: '10.1.0.0', end: '10.1.0.99' },
          ],
          exclude: ['10.1.3.128/25', '10.1.0.50', '10.1.0.48/31'],
        },
      ],
    },
    '10.1.0.1-10.1.0.47 10.1.0.51-10.1.0.99 10.1.3.0-10.1.3.127 | 10.1.240.0/20 | ' +
      '/26 of 10.1.0.1-10.1.0.47 10.1.0.51-10.1.0.99 10.1.3.0-10.1.3.127',
  ],
  [
    'ranges that leave only single addresses: everybody gets those',
    { subnets: [{ cidr: '10.1.0.0/16', ranges: [{ start: '10.1.250.1', end: '10.1.250.9' }] }] },
    '10.1.250.1-10.1.250.9 | 10.1.240.0/20 | /32 of 10.1.250.1-10.1.250.9',
  ],
  [
    'the gateway is no pod’s: named, or the first where pods share a link',
    {
      topology: 'Layer2',
      subnets: [{ cidr: '10.1.0.0/24' }, { cidr: 'fd00:10:1::/64', gateway: 'fd00:10:1::fe' }],
    },
    '10.1.0.2-10.1.0.254 | 10.1.0.240/28 | /30 of 10.1.0.2-10.1.0.239 | gateway 10.1.0.1\n' +
      'fd00:10:1::1-fd00:10:1::fd fd00:10:1::ff-fd00:10:1:0:ffff:ffff:ffff:ffff | fd00:10:1:0:f000::/68 | ' +
      '/122 of fd00:10:1::1-fd00:10:1::fd fd00:10:1::ff-fd00:10:1:0:efff:ffff:ffff:ffff | gateway fd00:10:1::fe',
  ],
  [
    'a /31 has two addresses for pods',
    { subnets: [{ cidr: '10.1.0.0/31' }] },
    '10.1.0.0-10.1.0.1 | 10.1.0.0/31 | /32 of 10.1.0.0-10.1.0.1',
  ],
]

for (const [title, spec, want] of cases) test(title, () => assert.equal(text(poolOf(network(spec))), want))

test('what nodes ask for, of whatever network, is taken for a block of it', () => {
  for (const [title, spec] of cases) {
    const pool = poolOf(network(spec))
    for (const family of familiesOf(pool)) {
      const asked = [candidates(pool, family, 'n1'), singles(pool, family, 'claim lab/web')]
      for (const one of asked.flatMap((all) => [...all.take(200)]))
        assert.ok(isBlock(network(spec), one), `${title}: ${formatPrefix(one)}`)
    }
  }
})

test('the cut of a subnet does not depend on what may change later', () => {
  const cut = (spec: Network['spec']) => poolOf(network(spec)).subnets.map((s) => formatPrefix(s.single))
  const cidr = '10.1.0.0/16'
  const plain = cut({ subnets: [{ cidr }] })
  assert.deepEqual(cut({ subnets: [{ cidr, ranges: [{ start: '10.1.0.9', end: '10.1.0.20' }] }] }), plain)
  assert.deepEqual(cut({ subnets: [{ cidr, exclude: ['10.1.128.0/17'], gateway: '10.1.7.7' }] }), plain)
  assert.deepEqual(cut({ subnets: [{ cidr }, { cidr: '10.9.0.0/16' }] }).slice(0, 1), plain)
})

test('families are IPv4 first, and sizes count what pods may have', () => {
  const pool = poolOf(
    network({ subnets: [{ cidr: 'fd00:10:1::/120' }, { cidr: '10.1.0.0/24' }, { cidr: '10.2.0.0/30' }] }),
  )
  assert.deepEqual(familiesOf(pool), [4, 6])
  assert.deepEqual(
    pool.subnets.map((subnet) => countOf(subnet.usable)),
    [255n, 254n, 2n],
  )
})

test('an address asked for by value is given, or the sentence says which can be', () => {
  const pool = poolOf(
    network({ subnets: [{ cidr: '10.1.0.0/16', exclude: ['10.1.250.0/24'] }, { cidr: 'fd00:10:1::/64' }] }),
  )
  const range = 'ask for one between 10.1.240.0 and 10.1.255.254'
  const answers: [asked: string, want: string][] = [
    ['10.1.240.7', '10.1.240.7'],
    ['10.1.240.7/16', '10.1.240.7'],
    ['10.1.240.7/32', '10.1.240.7'],
    ['FD00:10:1:0:F000::7', 'fd00:10:1:0:f000::7'],
    ['10.1.0.7', `10.1.0.7 goes out in blocks to nodes; ${range}`],
    [
      '10.1.250.7',
      `10.1.250.7 is not for pods: it is outside the ranges, excluded, or the gateway's, the network's or the broadcast address; ${range}`,
    ],
    ['10.2.0.7', '10.2.0.7 is in no subnet of it; its subnets are 10.1.0.0/16 and fd00:10:1::/64'],
    [
      '10.1.240.7/24',
      '10.1.240.7/24 has another prefix length than its subnet 10.1.0.0/16; write 10.1.240.7/16 or leave it out',
    ],
    ['10.1.240', '"10.1.240" is no address; write it like 10.1.240.7'],
    ['10.1.240.7/16/3', '"10.1.240.7/16/3" is no address; write it like 10.1.240.7'],
    ['10.1.240.7/', '"10.1.240.7/" is no address; write it like 10.1.240.7'],
  ]
  assert.deepEqual(
    answers.map(([asked]) => {
      const answer = askedFor(pool, asked)
      return [asked, answer.ok ? formatAddress(answer.address) : answer.problem]
    }),
    answers,
  )
})
