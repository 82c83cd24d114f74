import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIpam } from './whereabouts.ts'

/** The pools as: cidr [ranges] [-exclusions] [gateway] [/block length] [group], or the problems. */
function read(ipam: unknown, name = 'nad'): string {
  const parsed = parseIpam(name, ipam)
  if (!parsed.ok) return parsed.problems.map((p) => `${p.path}: ${p.problem}`).join('\n')
  const { network, pools, addresses, routes } = parsed.value
  return [
    ...(network ? [`network ${network.namespace}/${network.name}`] : []),
    ...pools.map(({ spec, addressGroup }) => {
      const [subnet] = spec.subnets ?? []
      const { ipv4, ipv6 } = spec.blockSize ?? {}
      return [
        subnet?.cidr,
        ...(subnet?.ranges ?? []).map((r) => `${r.start}-${r.end}`),
        ...(subnet?.exclude ?? []).map((e) => `not ${e}`),
        ...(subnet?.gateway ? [`via ${subnet.gateway}`] : []),
        ...(ipv4 || ipv6 ? [`blocks /${ipv4 ?? ipv6}`] : []),
        ...(addressGroup ? ['grouped'] : []),
      ].join(' ')
    }),
    ...addresses.map((a) => `fixed ${a.address}${a.gateway ? ` via ${a.gateway}` : ''}`),
    ...routes.map((r) => `route ${r.to}${r.via ? ` via ${r.via}` : ''}`),
  ].join('\n')
}

const cases: [title: string, ipam: unknown, want: string][] = [
  ['a Network by name', { type: 'polynet-ipam', network: 'lab/blue' }, 'network lab/blue'],
  [
    'inline subnets',
    {
      type: 'polynet-ipam',
      subnets: [
        { cidr: '10.1.0.0/16', gateway: '10.1.0.1', ranges: [{ start: '10.1.1.0', end: '10.1.1.255' }] },
        { cidr: 'fd00:10:1::/64', exclude: ['fd00:10:1::9'] },
      ],
      blockSize: { ipv4: 28 },
      routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }],
    },
    '10.1.0.0/16 10.1.1.0-10.1.1.255 via 10.1.0.1 blocks /28\nfd00:10:1::/64 not fd00:10:1::9\nroute 0.0.0.0/0 via 10.1.0.1',
  ],
  [
    'Whereabouts’ range, whose host bits mean nothing',
    { type: 'whereabouts', range: '192.168.2.225/28', exclude: ['192.168.2.229/30', '192.168.2.236/32'] },
    '192.168.2.224/28 not 192.168.2.229/30 not 192.168.2.236/32 blocks /32 grouped',
  ],
  [
    'first and last address in the range itself',
    { range: '192.168.2.100-192.168.2.200/24', range_start: '192.168.2.1' },
    '192.168.2.0/24 192.168.2.100-192.168.2.200 blocks /32 grouped',
  ],
  [
    'first and last address beside it',
    {
      range: '10.1.0.0/16',
      range_start: '10.1.2.5',
      gateway: '10.1.0.1',
      log_file: '/tmp/x',
      log_level: 'debug',
    },
    '10.1.0.0/16 10.1.2.5-10.1.255.255 via 10.1.0.1 blocks /32 grouped',
  ],
  [
    'what a template left empty',
    { range: '', range_start: '', gateway: '', node_slice_size: '', ipRanges: [{ range: '10.1.0.0/24' }] },
    '10.1.0.0/24 blocks /32 grouped',
  ],
  [
    'two families, the outer exclusions shared out',
    {
      ipRanges: [{ range: '10.1.0.0/24', exclude: ['10.1.0.0/28'] }, { range: 'fd00:10:1::/64' }],
      exclude: ['10.1.0.128/25', 'fd00:10:1::/96'],
    },
    '10.1.0.0/24 not 10.1.0.0/28 not 10.1.0.128/25 blocks /32 grouped\nfd00:10:1::/64 not fd00:10:1::/96 blocks /128 grouped',
  ],
  [
    'range and ipRanges together',
    { range: '10.1.0.0/24', ipRanges: [{ range: 'fd00:10:1::/64' }] },
    '10.1.0.0/24 blocks /32 grouped\nfd00:10:1::/64 blocks /128 grouped',
  ],
  [
    'ranges that may overlap others go out in blocks',
    { range: '10.1.0.0/16', enable_overlapping_ranges: false },
    '10.1.0.0/16',
  ],
  [
    'so do those in slices per node',
    { range: '10.1.0.0/16', node_slice_size: '/22' },
    '10.1.0.0/16 blocks /22',
  ],
  [
    'fixed addresses need no pool',
    { addresses: [{ address: '10.9.0.7/24', gateway: '10.9.0.1' }] },
    'fixed 10.9.0.7/24 via 10.9.0.1',
  ],
  [
    'everything wrong is named',
    {
      rnage: '10.1.0.0/16',
      range: '10.1.0.0/16',
      range_start: '10.2.0.1',
      exclude: ['10.1.0.0/16', 'nonsense', 7],
      gateway: '10.7.0.1',
      node_slice_size: '/8',
      routes: [{ dst: '0.0.0.0' }, 3],
      addresses: 'none',
    },
    [
      'ipam.rnage: is not known; correct it, or leave it out',
      'ipam.addresses: is no list',
      'ipam.routes[0].dst: "0.0.0.0" is no prefix; write one like "10.1.0.0/16"',
      'ipam.routes[1].dst: nothing is no prefix; write one like "10.1.0.0/16"',
      'ipam.range.start: 10.2.0.1 is not within 10.1.0.0/16; correct one of them',
      'ipam.exclude[1]: "nonsense" is neither an address nor a prefix',
      'ipam.exclude[2]: 7 is neither an address nor a prefix',
      'ipam.node_slice_size: "/8" is no prefix length for 10.1.0.0/16; write one between 16 and 32',
      'ipam.gateway: 10.7.0.1 is in none of the ranges; correct one of them',
    ].join('\n'),
  ],
  [
    'a range that is none',
    { range: '10.1.0.0' },
    'ipam.range: "10.1.0.0" is no range; write "10.1.0.0/16" or "10.1.0.10-10.1.0.20/16"',
  ],
  [
    'a range backwards',
    { range: '10.1.0.20-10.1.0.10/16' },
    'ipam.range: start 10.1.0.20 is above end 10.1.0.10; exchange them',
  ],
  [
    'ranges over each other',
    { ipRanges: [{ range: '10.1.0.0/16' }, { range: '10.1.2.0/24' }] },
    'ipam.ipRanges[1].range: 10.1.2.0/24 overlaps another range of the same configuration; keep one',
  ],
  [
    'ranges without end, each of which would be leased from',
    { ipRanges: Array.from({ length: 2000 }, (_, i) => ({ range: `10.${i >> 8}.${i & 255}.0/24` })) },
    'ipam.ipRanges: has 2000 entries; write at most 16',
  ],
  [
    'subnets without end',
    { subnets: Array.from({ length: 17 }, (_, i) => ({ cidr: `10.1.${i}.0/24` })) },
    'ipam.subnets: has 17 entries; write at most 16',
  ],
  [
    'exclusions without end',
    { range: '10.1.0.0/16', exclude: Array(257).fill('10.1.0.1') },
    'ipam.exclude: has 257 entries; write at most 256',
  ],
  [
    'no addresses at all',
    { type: 'polynet-ipam' },
    'ipam: names no addresses; write "network": "namespace/name", "subnets" or "range"',
  ],
  [
    'a Network without its namespace',
    { network: 'blue' },
    'ipam.network: "blue" is no Network; write "namespace/name"',
  ],
  ['no section', undefined, 'ipam: is missing; write {"type": "polynet-ipam", …}'],
  ['a list', [], 'ipam: is missing; write {"type": "polynet-ipam", …}'],
]

for (const [title, ipam, want] of cases) test(title, () => assert.equal(read(ipam), want))

const ids = (ipam: object, name = 'nad'): string[] => {
  const parsed = parseIpam(name, ipam)
  assert.ok(parsed.ok)
  return parsed.value.pools.map((p) => `${p.metadata.uid} ${p.addressGroup ?? '-'}`)
}

test('the same range is the same pool wherever it is named; a named network’s is another', () => {
  const range = '10.1.0.0/24'
  const plain = ids({ range })
  assert.deepEqual(ids({ range: '10.1.0.7/24', log_level: 'debug' }, 'other'), plain)
  assert.notDeepEqual(ids({ range, network_name: 'red' }), plain)
  assert.notDeepEqual(ids({ range: '10.1.1.0/24' }), plain)
})

test('pools of one network_name share one group, so that overlapping ranges have no address in common', () => {
  const groups = [{ range: '10.1.0.0/24' }, { range: '10.1.0.0/16' }].map(
    (ipam) => ids(ipam)[0]?.split(' ')[1],
  )
  assert.equal(groups[0], groups[1])
})

test('inline subnets belong to the configuration that names them', () => {
  const subnets = [{ cidr: '10.1.0.0/24' }]
  assert.deepEqual(ids({ subnets }, 'a'), ids({ subnets }, 'a'))
  assert.notDeepEqual(ids({ subnets }, 'a'), ids({ subnets }, 'b'))
})
