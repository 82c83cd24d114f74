import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sentence } from '../lib/fault.ts'
import { blockSizeOf, parseNetwork, shownOf } from './network.ts'

const blue = { cidr: '10.1.0.0/16' }

const parse = (spec: unknown, name: unknown = 'blue') =>
  parseNetwork({
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { name, namespace: 'default' },
    spec,
  })

const problems = (spec: unknown, name?: unknown): string[] => {
  const parsed = parse(spec, name)
  return parsed.ok ? [] : parsed.problems.map((p) => sentence([p]))
}

const defaults: [title: string, spec: unknown, want: object][] = [
  [
    'a Network that says no more than its subnet is routed, and for its own namespace',
    { subnets: [blue] },
    {
      plugin: 'polynet',
      topology: 'Layer3',
      subnets: [blue],
      blockSize: { ipv4: 26 },
      allowedNamespaces: { from: 'Same' },
    },
  ],
  [
    'addresses come out in their one spelling, both families have blocks',
    {
      subnets: [
        {
          cidr: 'FD00:10:1:0::/64',
          gateway: 'fd00:010:1::1',
          exclude: ['FD00:10:1::2', 'fd00:10:1:0:0:0:0:100/120'],
        },
        blue,
      ],
    },
    {
      plugin: 'polynet',
      topology: 'Layer3',
      subnets: [
        {
          cidr: 'fd00:10:1::/64',
          gateway: 'fd00:10:1::1',
          exclude: ['fd00:10:1::2', 'fd00:10:1::100/120'],
        },
        blue,
      ],
      blockSize: { ipv4: 26, ipv6: 122 },
      allowedNamespaces: { from: 'Same' },
    },
  ],
  [
    'a Direct Network is a macvlan',
    { topology: 'Direct', vlan: 7, physicalNetwork: 'phy-net0', subnets: [{ cidr: '192.168.10.0/24' }] },
    {
      physicalNetwork: 'phy-net0',
      plugin: 'polynet',
      topology: 'Direct',
      vlan: 7,
      direct: { mode: 'macvlan' },
      subnets: [{ cidr: '192.168.10.0/24' }],
      blockSize: { ipv4: 30 },
      allowedNamespaces: { from: 'Same' },
    },
  ],
  [
    'a Network of another plugin needs nothing else, and has no topology of ours',
    { plugin: 'flannel' },
    { plugin: 'flannel', allowedNamespaces: { from: 'Same' } },
  ],
  [
    'null is absent, and fields that nobody knows are left out',
    { subnets: [blue], vlan: null, subnet: '10.9.0.0/16' },
    {
      plugin: 'polynet',
      topology: 'Layer3',
      subnets: [blue],
      blockSize: { ipv4: 26 },
      allowedNamespaces: { from: 'Same' },
    },
  ],
]

for (const [title, spec, want] of defaults)
  test(title, () => {
    const parsed = parse(spec)
    assert.deepEqual(parsed.ok ? parsed.value.spec : parsed.problems, want)
  })

const subnet = (part: object) => ({ subnets: [{ ...blue, ...part }] })

test('what is parsed parses to itself', () => {
  for (const [, spec] of defaults) {
    const first = parse(spec)
    assert.deepEqual(first.ok && parseNetwork(first.value), first)
  }
})

const taken: [title: string, spec: unknown][] = [
  ['the smallest subnets', { subnets: [{ cidr: '10.1.0.0/30' }, { cidr: 'fd00:10:1::/126' }] }],
  [
    'one address left',
    { subnets: [{ cidr: '10.1.0.0/30', exclude: ['10.1.0.2'], ranges: [] }], topology: 'Layer3' },
  ],
  [
    'ranges that touch and overlap',
    subnet({
      ranges: [
        { start: '10.1.0.1', end: '10.1.0.9' },
        { start: '10.1.0.5', end: '10.1.0.5' },
      ],
    }),
  ],
  ['another plugin with subnets for its addresses', { plugin: 'bridge', subnets: [blue] }],
  [
    'a conf and a conflist',
    { plugin: 'bridge', config: '{"cniVersion":"1.0.0","plugins":[{"type":"bridge"},{"type":"portmap"}]}' },
  ],
  [
    'a route by the other networks of the wire',
    { subnets: [blue], routes: [{ to: '0.0.0.0/0', via: '10.1.0.1' }] },
  ],
]

for (const [title, spec] of taken) test(`taken: ${title}`, () => assert.deepEqual(problems(spec), []))

const refused: [spec: unknown, want: string[]][] = [
  // subnets
  [{}, ['spec.subnets: is missing; give at least one cidr, such as 10.1.0.0/16']],
  [{ subnets: [] }, ['spec.subnets: is missing; give at least one cidr, such as 10.1.0.0/16']],
  [{ subnets: '10.1.0.0/16' }, ['spec.subnets: 10.1.0.0/16 is not a list']],
  [{ subnets: ['10.1.0.0/16'] }, ['spec.subnets[0]: 10.1.0.0/16 is not an object']],
  [
    { subnets: [{}] },
    [
      'spec.subnets[0].cidr: is missing; add it: The addresses, as a prefix. Cannot be changed later; another subnet can be appended.',
    ],
  ],
  [{ subnets: [{ cidr: 7 }] }, ['spec.subnets[0].cidr: 7 is not a string']],
  [
    { subnets: [{ cidr: 'blue' }] },
    ['spec.subnets[0].cidr: blue is not a prefix such as 10.1.0.0/16 or fd00:10:1::/64'],
  ],
  [
    { subnets: [{ cidr: '10.1.0.0' }] },
    ['spec.subnets[0].cidr: 10.1.0.0 is an address, not a prefix; add a length (0–32)'],
  ],
  [
    { subnets: [blue, { cidr: '10.2.0.0/33' }] },
    ['spec.subnets[1].cidr: 10.2.0.0/33 is not a prefix (0–32); correct its length'],
  ],
  [
    { subnets: [{ cidr: 'fd00::/129' }] },
    ['spec.subnets[0].cidr: fd00::/129 is not a prefix (0–128); correct its length'],
  ],
  [
    { subnets: [{ cidr: '10.1.2.3/16' }] },
    ['spec.subnets[0].cidr: 10.1.2.3/16 has host bits set; write 10.1.0.0/16 if that is the prefix meant'],
  ],
  [
    { subnets: [{ cidr: '10.1.0.0/16"; drop\ntable' }] },
    ['spec.subnets[0].cidr: "10.1.0.0/16\\"; drop\\ntable" is not a prefix (0–32); correct its length'],
  ],
  [
    { subnets: [{ cidr: '10.1.0.0/31' }] },
    ['spec.subnets[0].cidr: 10.1.0.0/31 is too small; the smallest is a /30'],
  ],
  [
    { subnets: [{ cidr: 'fd00:10:1::/127' }] },
    ['spec.subnets[0].cidr: fd00:10:1::/127 is too small; the smallest is a /126'],
  ],
  [{ subnets: [blue, blue] }, ['spec.subnets[1].cidr: 10.1.0.0/16 is in spec.subnets[0] too; leave one out']],
  [
    { subnets: [blue, { cidr: 'fd00:10:1::/64' }, { cidr: '10.1.128.0/17' }] },
    [
      'spec.subnets[2].cidr: 10.1.128.0/17 overlaps spec.subnets[0] 10.1.0.0/16; use prefixes that share no address',
    ],
  ],
  [
    { subnets: [{ cidr: '169.254.0.0/17' }] },
    ['spec.subnets[0].cidr: 169.254.0.0/17 overlaps 169.254.0.0/16 (link-local); use another prefix'],
  ],
  [
    { subnets: [{ cidr: 'fe80::/64' }] },
    ['spec.subnets[0].cidr: fe80::/64 overlaps fe80::/10 (link-local); use another prefix'],
  ],
  [
    { subnets: [{ cidr: '127.1.0.0/16' }] },
    ['spec.subnets[0].cidr: 127.1.0.0/16 overlaps 127.0.0.0/8 (loopback); use another prefix'],
  ],
  [
    { subnets: [{ cidr: '239.0.0.0/8' }] },
    ['spec.subnets[0].cidr: 239.0.0.0/8 overlaps 224.0.0.0/4 (multicast); use another prefix'],
  ],
  // gateway
  [
    subnet({ gateway: '10.2.0.1' }),
    ['spec.subnets[0].gateway: 10.2.0.1 is not within spec.subnets[0].cidr 10.1.0.0/16; correct one of them'],
  ],
  [
    subnet({ gateway: '10.1.0.0' }),
    ['spec.subnets[0].gateway: 10.1.0.0 is the address of the network itself; use 10.1.0.1'],
  ],
  [
    subnet({ gateway: '10.1.255.255' }),
    ['spec.subnets[0].gateway: 10.1.255.255 is the broadcast address of the network; use 10.1.0.1'],
  ],
  [
    subnet({ gateway: '10.1.0.1/16' }),
    ['spec.subnets[0].gateway: 10.1.0.1/16 is a prefix, not an address; leave out the length'],
  ],
  // ranges and exclusions
  [
    subnet({
      ranges: [
        { start: '10.1.0.9', end: '10.1.0.1' },
        { start: '10.0.0.1', end: '10.1.0.1' },
        { start: '10.1.0.1' },
      ],
    }),
    ['spec.subnets[0].ranges[2].end: is missing; add it: The last address.'].concat([
      'spec.subnets[0].ranges[0]: start 10.1.0.9 is above end 10.1.0.1; exchange them',
      'spec.subnets[0].ranges[1].start: 10.0.0.1 is not within spec.subnets[0].cidr 10.1.0.0/16; correct one of them',
    ]),
  ],
  [
    subnet({ exclude: ['10.1.0.1', '10.2.0.0/24', 'ten'] }),
    [
      'spec.subnets[0].exclude[2]: ten is not an address such as 10.1.0.7 or fd00:10:1::7',
      'spec.subnets[0].exclude[1]: 10.2.0.0/24 is not within spec.subnets[0].cidr 10.1.0.0/16; correct one of them',
    ],
  ],
  [
    subnet({
      gateway: '10.1.0.1',
      ranges: [{ start: '10.1.0.0', end: '10.1.0.3' }],
      exclude: ['10.1.0.2/31'],
    }),
    ['spec.subnets[0]: no address is left for pods; widen cidr or ranges, or exclude less'],
  ],
  [
    { subnets: [{ cidr: '10.1.0.0/30', exclude: ['10.1.0.1', '10.1.0.2'] }] },
    ['spec.subnets[0]: no address is left for pods; widen cidr or ranges, or exclude less'],
  ],
  // pods that share a link have a gateway, whether it is named or not
  [
    { topology: 'Layer2', subnets: [{ cidr: '10.1.0.0/30', exclude: ['10.1.0.2'] }] },
    ['spec.subnets[0]: no address is left for pods; widen cidr or ranges, or exclude less'],
  ],
  // what only follows from another problem is not told
  [
    {
      subnets: [
        { cidr: '10.1.0.0' },
        { cidr: 'fd00:10:1::/64', ranges: [{ start: 'x', end: 'fd00:10:1::9' }] },
      ],
      blockSize: { ipv4: 26 },
      routes: [{ to: '10.9.0.0/16', via: '10.1.0.1' }],
      topology: 'Direct',
      direct: { mode: 'vlan' },
      vlan: 0,
    },
    [
      'spec.subnets[0].cidr: 10.1.0.0 is an address, not a prefix; add a length (0–32)',
      'spec.subnets[1].ranges[0].start: x is not an address such as 10.1.0.7 or fd00:10:1::7',
      'spec.vlan: 0 is out of bounds; use 1–4094',
    ],
  ],
  // blocks
  [
    { subnets: [{ cidr: '10.1.0.0/28' }], blockSize: { ipv4: 24 } },
    ['spec.blockSize.ipv4: blocks of /24 do not fit into 10.1.0.0/28; use 28–32'],
  ],
  [
    { subnets: [blue], blockSize: { ipv4: 33, ipv6: 120 } },
    [
      'spec.blockSize.ipv4: 33 is out of bounds; use 16–32',
      'spec.blockSize.ipv6: no subnet is of that family; leave it out',
    ],
  ],
  [
    { subnets: [blue, { cidr: '10.9.0.0/28' }] },
    [
      'spec.subnets[1].cidr: 10.9.0.0/28 is smaller than the blocks of the network (/26); use a larger prefix or set spec.blockSize.ipv4',
    ],
  ],
  // plugin, topology and what belongs to them
  [
    { plugin: '../../bin/sh' },
    [
      'spec.plugin: ../../bin/sh is not a CNI plugin; write its type or its name on the nodes, such as flannel',
    ],
  ],
  [
    { plugin: 'flannel', topology: 'Layer2' },
    ['spec.topology: plugin flannel has a topology of its own; leave it out'],
  ],
  [{ subnets: [blue], topology: 'Layer4' }, ['spec.topology: Layer4 is unknown; use Layer3, Layer2, Direct']],
  [
    { subnets: [blue], vlan: 5, direct: { mode: 'ipvlan' } },
    [
      'spec.vlan: is for topology Direct; set spec.topology to that, or leave it out',
      'spec.direct: is for topology Direct; set spec.topology to that, or leave it out',
    ],
  ],
  [{ subnets: [blue], topology: 'Direct', vlan: 4095 }, ['spec.vlan: 4095 is out of bounds; use 1–4094']],
  [
    { subnets: [blue], topology: 'Direct', direct: { mode: 'vlan' } },
    ['spec.vlan: is missing; direct.mode vlan needs one (1–4094)'],
  ],
  [
    { subnets: [blue], config: '{"type":"bridge"}' },
    ['spec.config: plugin polynet takes none; name another plugin in spec.plugin, or leave it out'],
  ],
  [
    { plugin: 'bridge', config: '{"type":' },
    ['spec.config: is not JSON ("Unexpected end of JSON input"); write a CNI conf or conflist'],
  ],
  [{ plugin: 'bridge', config: '[]' }, ['spec.config: is not a JSON object; write a CNI conf or conflist']],
  [
    { plugin: 'bridge', config: '{}' },
    ['spec.config: has neither type nor plugins; a conf has a type, a conflist has plugins'],
  ],
  [
    { plugin: 'bridge', config: '{"cniVersion":1,"type":"bridge"}' },
    ['spec.config: cniVersion 1 is not a string; write such as "1.1.0"'],
  ],
  [
    { plugin: 'bridge', config: '{"plugins":[]}' },
    ['spec.config: plugins is not a list of at least one plugin'],
  ],
  [
    { plugin: 'bridge', config: '{"plugins":[{"type":"bridge"},{},{"type":"../sh"},7]}' },
    [
      'spec.config plugins[1]: has no type; name the plugin to execute',
      'spec.config plugins[2]: type ../sh is not a CNI plugin; write its type or its name on the nodes, such as flannel',
      'spec.config plugins[3]: is not an object',
    ],
  ],
  // routes, MTU, DNS, who may attach
  [
    {
      subnets: [blue],
      routes: [
        { to: '192.168.0.0/8' },
        { to: '10.9.0.0/16', via: '10.2.0.1' },
        { to: 'fd00::/8', via: '10.1.0.1' },
      ],
    },
    [
      'spec.routes[0].to: 192.168.0.0/8 has host bits set; write 192.0.0.0/8 if that is the prefix meant',
      'spec.routes[1].via: 10.2.0.1 is in none of the subnets of the network; use an address of one',
      'spec.routes[2].via: 10.1.0.1 is of another family than fd00::/8; use one of the same',
    ],
  ],
  [{ subnets: [blue], mtu: 68 }, ['spec.mtu: 68 is out of bounds; use 576–65535']],
  [{ subnets: [blue], mtu: 1400.5 }, ['spec.mtu: 1400.5 is not a whole number']],
  [
    { subnets: [blue, { cidr: 'fd00:10:1::/64' }], mtu: 1000 },
    ['spec.mtu: 1000 is too small for IPv6; use at least 1280'],
  ],
  [{ subnets: [blue], primary: 'yes' }, ['spec.primary: yes is neither true nor false']],
  [
    { subnets: [blue], dns: { nameservers: ['ns1'], searches: ['Example..org'], options: ['a b'] } },
    [
      'spec.dns.nameservers[0]: ns1 is not an address such as 10.1.0.7 or fd00:10:1::7',
      'spec.dns.searches[0]: Example..org is not a name; write at most 253 of a-z 0-9 - . such as n1.example.org',
      'spec.dns.options[0]: "a b" is not a word without spaces',
    ],
  ],
  [
    { subnets: [blue], dns: { searches: ['example'] } },
    ['spec.dns.nameservers: is missing; add it: Servers to ask, one to three.'],
  ],
  [
    { subnets: [blue], dns: { nameservers: [] } },
    ['spec.dns.nameservers: is empty; name one to three servers that the pods reach, or leave out spec.dns'],
  ],
  [
    { subnets: [blue], dns: { nameservers: ['10.1.0.1', '10.1.0.2', '10.1.0.3', '10.1.0.4'] } },
    ['spec.dns.nameservers: has 4 entries; at most 3 are possible'],
  ],
  [
    { subnets: [blue], allowedNamespaces: { from: 'Selector' } },
    ['spec.allowedNamespaces.selector: is missing; say which namespaces, by labels'],
  ],
  [
    { subnets: [blue], allowedNamespaces: { from: 'All', selector: {} } },
    ['spec.allowedNamespaces.selector: is for from: Selector, not All; change from, or leave it out'],
  ],
  [
    {
      subnets: [blue],
      allowedNamespaces: {
        from: 'Selector',
        selector: { matchExpressions: [{ key: 'team', operator: 'In' }] },
      },
    },
    ['spec.allowedNamespaces.selector.matchExpressions[0]: In needs values; name at least one'],
  ],
  [
    {
      subnets: [blue],
      allowedNamespaces: { from: 'Selector', selector: { matchLabels: { team: 7 } } },
    },
    ['spec.allowedNamespaces.selector.matchLabels[team]: 7 is not a string; quote it'],
  ],
  [undefined, ['spec: is missing; add it: What the network is.']],
  [7, ['spec: 7 is not an object']],
]

test('domains to look names up in have as much room as resolv.conf gives them', () => {
  const dns = (last: string) => ({
    nameservers: ['10.1.0.53'],
    searches: [
      ...Array.from({ length: 31 }, (_, i) => `${String(i).padStart(2, '0')}.${'x'.repeat(60)}`),
      last,
    ],
  })
  assert.deepEqual(problems({ subnets: [blue], dns: dns('y'.repeat(63)) }), [])
  assert.deepEqual(problems({ subnets: [blue], dns: dns(`${'y'.repeat(60)}.zzzz`) }), [
    'spec.dns.searches: has 2049 characters, a space between domains included; at most 2048 are possible',
  ])
})

for (const [spec, want] of refused)
  test(`refused: ${JSON.stringify(spec)}`, () => assert.deepEqual(problems(spec), want))

const names: [name: unknown, want: string[]][] = [
  ['blue', []],
  ['b', []],
  ['x'.repeat(63), []],
  [
    'x'.repeat(64),
    [
      `metadata.name: ${'x'.repeat(64)} is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9`,
    ],
  ],
  [
    'phy_net0',
    [
      'metadata.name: phy_net0 is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9',
    ],
  ],
  [
    'blue.red',
    [
      'metadata.name: blue.red is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9',
    ],
  ],
  [undefined, ['metadata.name: is missing; name the object']],
]

for (const [name, want] of names)
  test(`the name ${JSON.stringify(name)} is ${want.length > 0 ? 'refused' : 'taken'}`, () =>
    assert.deepEqual(problems({ subnets: [blue] }, name === undefined ? null : name), want))

test('what is not a Network at all is told so', () => {
  const wrong = (input: unknown) => {
    const parsed = parseNetwork(input)
    return parsed.ok ? '' : sentence(parsed.problems)
  }
  assert.deepEqual(
    [
      wrong(null),
      wrong([]),
      wrong({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec: { subnets: [blue] } }),
    ],
    [
      'null is not a Network',
      '[] is not a Network',
      'apiVersion: v1 is not polynet.dev/v1alpha1; kind: Pod is not Network',
    ],
  )
})

const blocks: [
  cidrs: string[],
  blockSize: object | undefined,
  ipv4: number | undefined,
  ipv6: number | undefined,
][] = [
  [['10.0.0.0/8'], undefined, 26, undefined],
  [['10.1.0.0/16'], undefined, 26, undefined],
  [['10.1.0.0/20'], undefined, 26, undefined],
  [['10.1.0.0/21'], undefined, 27, undefined],
  [['10.1.0.0/24'], undefined, 30, undefined],
  [['10.1.0.0/26'], undefined, 32, undefined],
  [['10.1.0.0/30'], undefined, 32, undefined],
  [['fd00:10:1::/64'], undefined, undefined, 122],
  [['fd00:10:1::/120'], undefined, undefined, 126],
  [['fd00:10:1::/126'], undefined, undefined, 128],
  // what is appended later changes nothing
  [['10.1.0.0/24', '10.2.0.0/16', 'fd00:10:1::/64'], undefined, 30, 122],
  [['10.1.0.0/16', 'fd00:10:1::/64'], { ipv4: 28 }, 28, 122],
]

for (const [cidrs, blockSize, ipv4, ipv6] of blocks)
  test(`${cidrs.join(', ')} ${blockSize ? `with ${JSON.stringify(blockSize)} ` : ''}is leased in blocks of ${[
    ipv4,
    ipv6,
  ]
    .filter(Boolean)
    .map((n) => `/${n}`)
    .join(' and ')}`, () => {
    const network = { spec: { subnets: cidrs.map((cidr) => ({ cidr })), blockSize } }
    assert.deepEqual([blockSizeOf(network, 4), blockSizeOf(network, 6)], [ipv4, ipv6])
  })

test('columns show the topology in effect and all subnets', () => {
  const shown = (spec: unknown) => {
    const parsed = parse(spec)
    return parsed.ok && shownOf(parsed.value)
  }
  assert.deepEqual(
    [shown({ subnets: [blue, { cidr: 'fd00:10:1::/64' }] }), shown({ plugin: 'flannel' })],
    [
      { topology: 'Layer3', subnets: '10.1.0.0/16,fd00:10:1::/64' },
      { topology: undefined, subnets: undefined },
    ],
  )
})
