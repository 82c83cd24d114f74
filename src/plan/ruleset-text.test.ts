import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { isFault } from '../lib/fault.ts'
import { type Field, share, type Table } from './ruleset.ts'
import { nftText } from './ruleset-text.ts'

const routed: Table = {
  family: 'inet',
  name: 'polynet',
  sets: [
    {
      name: 'ports',
      key: ['iifname', 'ether saddr', 'ip saddr'],
      elements: [
        { key: ['pn1', '0a:58:0a:01:01:02', '10.1.1.2'] },
        { key: ['pn2', '0a:58:0a:01:01:03', '10.1.1.3'] },
      ],
    },
    { name: 'ports6', key: ['iifname', 'ether saddr', 'ip6 saddr'], elements: [] },
    {
      name: 'inside',
      key: ['ip daddr'],
      interval: true,
      elements: [{ key: ['10.1.0.0/16'] }, { key: ['10.2.0.1-10.2.0.9'] }],
    },
    { name: 'rates', key: ['iifname', 'ip saddr'], dynamic: { timeoutS: 50, size: 65535 }, elements: [] },
    { name: 'held', key: ['iifname', share], dynamic: { size: 65535 }, elements: [] },
    {
      name: 'from',
      key: ['iifname'],
      map: 'verdict',
      elements: [
        { key: ['pn1'], verdict: { jump: 'from-ports' } },
        { key: ['pn3'], verdict: 'drop' },
      ],
    },
  ],
  chains: [
    {
      name: 'arriving',
      base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
      rules: [
        { do: [{ vmap: ['iifname'], map: 'from' }] },
        {
          do: [{ match: 'th dport', is: [67, 547] }, { notrack: true }],
        },
        { do: [{ match: 'mark', is: 7 }, { setMark: 8 }, { verdict: 'return' }] },
      ],
    },
    {
      name: 'from-ports',
      rules: [
        { do: [{ lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' }, { verdict: 'accept' }] },
        { do: [{ lookup: ['ip daddr'], notIn: 'inside' }, { verdict: { goto: 'new-ones' } }] },
        { comment: 'not its "MAC" and address', do: [{ counter: true }, { verdict: 'drop' }] },
      ],
    },
    {
      name: 'new-ones',
      rules: [
        { do: [{ match: 'ct state', is: ['established', 'related'] }, { verdict: 'accept' }] },
        {
          do: [
            { match: 'ct state', is: 'new' },
            {
              update: 'rates',
              key: ['iifname', 'ip saddr'],
              limitOver: { rate: 100, per: 'second', burst: 200 },
            },
            { verdict: 'drop' },
          ],
        },
        {
          do: [
            { match: 'ct status', not: 'confirmed' },
            { add: 'held', key: ['iifname', share], countOver: 300 },
            { verdict: 'drop' },
          ],
        },
        {
          do: [
            { match: 'fib daddr type', not: 'local' },
            { limitOver: { rate: 5, per: 'minute', burst: 6 } },
            { verdict: 'drop' },
          ],
        },
      ],
    },
    {
      name: 'leaving',
      base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
      rules: [
        {
          do: [
            { match: 'oifname', is: 'pnup' },
            { match: 'ip6 saddr', not: 'fd00:10:1::/64' },
            { masquerade: true },
          ],
        },
      ],
    },
  ],
}

const routedText = `table inet polynet {
	set ports {
		type ifname . ether_addr . ipv4_addr
		elements = { "pn1" . 0a:58:0a:01:01:02 . 10.1.1.2, "pn2" . 0a:58:0a:01:01:03 . 10.1.1.3 }
	}

	set ports6 {
		type ifname . ether_addr . ipv6_addr
	}

	set inside {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16, 10.2.0.1-10.2.0.9 }
	}

	set rates {
		type ifname . ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 50s
	}

	set held {
		type ifname . mark
		size 65535
		flags dynamic
	}

	map from {
		type ifname : verdict
		elements = { "pn1" : jump from-ports, "pn3" : drop }
	}

	chain arriving {
		type filter hook prerouting priority -300; policy accept;
		iifname vmap @from
		th dport { 67, 547 } notrack
		meta mark 0x00000007 meta mark set 0x00000008 return
	}

	chain from-ports {
		iifname . ether saddr . ip saddr @ports accept
		ip daddr != @inside goto new-ones
		counter drop comment "not its 'MAC' and address"
	}

	chain new-ones {
		ct state established,related accept
		ct state new update @rates { iifname . ip saddr limit rate over 100/second burst 200 packets } drop
		ct status ! confirmed add @held { iifname . numgen inc mod 64 ct count over 300 } drop
		fib daddr type != local limit rate over 5/minute burst 6 packets drop
	}

	chain leaving {
		type nat hook postrouting priority 100; policy accept;
		oifname "pnup" ip6 saddr != fd00:10:1::/64 masquerade
	}
}
`

test('a table is written as nft prints it', () => {
  assert.equal(nftText(routed), routedText)
})

const values: Record<Field, string | number> = {
  iifname: 'pn1',
  oifname: 'pn1',
  'meta nfproto': 'ipv4',
  'meta l4proto': 'icmpv6',
  'meta pkttype': 'broadcast',
  mark: 1,
  'ether saddr': '0a:58:0a:01:01:02',
  'ether daddr': '0a:58:0a:01:01:02',
  'ether type': 'arp',
  'arp operation': 'reply',
  'arp saddr ether': '0a:58:0a:01:01:02',
  'arp saddr ip': '10.1.1.2',
  'ip saddr': '10.1.1.2',
  'ip daddr': '10.1.1.2',
  'ip6 saddr': 'fd00:10:1::2',
  'ip6 daddr': 'fd00:10:1::2',
  'icmp type': 'echo-request',
  'icmpv6 type': 'nd-router-advert',
  'icmpv6 taddr': 'fd00:10:1::2',
  'th sport': 53,
  'th dport': 53,
  '@th,96,16': 1,
  'ct state': 'new',
  'ct status': 'confirmed',
  'ct mark': 1,
  'fib daddr type': 'local',
  [share]: 1,
}

/** Every field, matched, not matched, and looked up in a set of its own. */
function everyField(family: Table['family'], fields: Field[]): Table {
  const base = { type: 'filter', hook: 'prerouting', priority: 0, policy: 'accept' } as const
  const set = (field: Field) => `of-${field.replaceAll(' ', '-')}`
  return {
    family,
    name: 'every',
    sets: fields.map((field) => ({ name: set(field), key: [field], elements: [{ key: [values[field]] }] })),
    chains: [
      {
        name: 'c',
        base: family === 'netdev' ? { ...base, hook: 'ingress', devices: ['lo'] } : base,
        rules: fields.flatMap((field) => [
          { do: [{ match: field, is: values[field] }, { verdict: 'accept' }] },
          { do: [{ match: field, not: [values[field]] }, { verdict: 'accept' }] },
          { do: [{ lookup: [field], in: set(field) }, { verdict: 'accept' }] },
          { do: [{ lookup: [field], notIn: set(field) }, { verdict: 'accept' }] },
        ]),
      },
    ],
  }
}

const link: Field[] = ['iifname', 'meta pkttype', 'mark', 'ether saddr', 'ether daddr', 'ether type']
const network: Field[] = [
  'meta l4proto',
  'ip saddr',
  'ip daddr',
  'ip6 saddr',
  'ip6 daddr',
  'icmp type',
  'icmpv6 type',
  // icmpv6 taddr: nft has it since 1.0.8.
]
const transport: Field[] = ['th sport', 'th dport']
const arp: Field[] = ['arp operation', 'arp saddr ether', 'arp saddr ip']
const tables: Table[] = [
  routed,
  everyField('inet', [
    ...link,
    'meta nfproto',
    ...network,
    ...transport,
    'ct state',
    'ct status',
    'ct mark',
    'fib daddr type',
  ]),
  everyField('bridge', [...link, ...network, ...transport, ...arp]),
  everyField('netdev', [...link, ...network, ...transport, ...arp]),
]

const alone = spawnSync('unshare', ['-rn', 'nft', 'list', 'ruleset'])
const skip = alone.status === 0 ? false : 'needs nft and user namespaces'

for (const table of tables)
  test(`nft takes table ${table.family} ${table.name}`, { skip }, () => {
    const { status, stderr } = spawnSync('unshare', ['-rn', 'nft', '-c', '-f', '-'], {
      input: nftText(table),
      encoding: 'utf8',
    })
    assert.equal(stderr, '')
    assert.equal(status, 0)
  })

test('nft prints a loaded table as it is written, but for counts and the names of priorities', {
  skip,
}, () => {
  const script = 'nft -f - && nft -s list ruleset'
  const { stdout, stderr } = spawnSync('unshare', ['-rn', 'sh', '-c', script], {
    input: nftText(routed),
    encoding: 'utf8',
  })
  assert.equal(stderr, '')
  const named = nftText(routed)
    .replace('priority -300', 'priority raw')
    .replace('priority 100', 'priority srcnat')
  assert.equal(lines(stdout), lines(named))
})

/** nft breaks long element lists over lines. */
const lines = (text: string): string => text.replaceAll(/,\s+/g, ', ').replaceAll(/^\s+/gm, '')

for (const name of ['a b', 'x; drop', 'a{', 'a"b', '', '@x'])
  test(`${JSON.stringify(name)} is no name`, () => {
    const table: Table = {
      family: 'inet',
      name: 't',
      sets: [{ name, key: ['mark'], elements: [] }],
      chains: [],
    }
    assert.throws(
      () => nftText(table),
      (error) => isFault(error, 'invalid'),
    )
  })
