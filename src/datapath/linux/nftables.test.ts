import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { emptyNamespace } from '../../plan/node-plan.ts'
import { type Chain, type Rule, share, type Table } from '../../plan/ruleset.ts'
import { nftText } from '../../plan/ruleset-text.ts'
import { applyNamespaces } from './namespaces.ts'
import { createNamespace, removeNamespace } from './netns.ts'
import { Place } from './place.ts'
import { impossible } from './possible.ts'
import { udpSocket } from './sockets.ts'
import { renderTables } from './tables.ts'

const hasNft = spawnSync('nft', ['--version']).status === 0
const skip = impossible() ?? false

const drop = { verdict: 'drop' as const }
const accept = { verdict: 'accept' as const }
const base = (hook: 'prerouting' | 'input' | 'postrouting', priority = -300): Chain['base'] => ({
  type: 'filter',
  hook,
  priority,
  policy: 'accept',
})

/** Every field, statement and kind of set at least once. */
const everything: Table[] = [
  {
    family: 'inet',
    name: 'polynet',
    sets: [
      {
        name: 'ports',
        key: ['iifname', 'ether saddr', 'ip saddr'],
        elements: [{ key: ['pn1', '0a:58:0a:01:00:05', '10.1.0.5'] }],
      },
      {
        name: 'ports6',
        key: ['iifname', 'ether saddr', 'ip6 saddr'],
        elements: [{ key: ['pn1', '0a:58:0a:01:00:05', 'fd00:10:1::5'] }],
      },
      {
        name: 'tunnels',
        key: ['iifname', 'ip saddr', 'th dport'],
        elements: [{ key: ['eth1', '192.168.10.12', 5789] }],
      },
      { name: 'senders', key: ['iifname'], dynamic: { timeoutS: 60, size: 1024 }, elements: [] },
      { name: 'held', key: ['ether saddr', share], dynamic: { size: 1024 }, elements: [] },
      {
        name: 'closed',
        key: ['ip daddr'],
        interval: true,
        elements: [{ key: ['10.0.0.0/8'] }, { key: ['192.168.1.1-192.168.1.5'] }, { key: ['255.0.0.0/8'] }],
      },
      { name: 'closed6', key: ['ip6 daddr'], interval: true, elements: [{ key: ['fd00:10:1::/64'] }] },
      {
        name: 'to',
        key: ['iifname', 'th dport'],
        map: 'verdict',
        elements: [
          { key: ['a', 5], verdict: 'drop' },
          { key: ['b', 6], verdict: { jump: 'later' } },
        ],
      },
      { name: 'marks', key: ['mark'], elements: [{ key: [16] }] },
    ],
    chains: [
      { name: 'later', rules: [] },
      {
        name: 'first',
        base: base('prerouting'),
        rules: [
          {
            comment: 'its own MAC and address',
            do: [{ lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' }, accept],
          },
          { do: [{ lookup: ['iifname', 'ether saddr', 'ip6 saddr'], notIn: 'ports6' }, drop] },
          {
            do: [
              { match: 'meta l4proto', is: 'udp' },
              { lookup: ['iifname', 'ip saddr', 'th dport'], in: 'tunnels' },
              { notrack: true },
            ],
          },
          { do: [{ vmap: ['iifname', 'th dport'], map: 'to' }] },
          { do: [{ lookup: ['ip daddr'], in: 'closed' }, drop] },
          { do: [{ lookup: ['ip6 daddr'], notIn: 'closed6' }, drop] },
          { do: [{ lookup: ['mark'], in: 'marks' }, drop] },
          { do: [{ match: 'ip saddr', is: '10.1.0.0/16' }, drop] },
          { do: [{ match: 'ip saddr', not: '10.1.128.0/17' }, drop] },
          { do: [{ match: 'ip saddr', is: ['10.1.0.0/16', '10.3.0.0/16'] }, drop] },
          { do: [{ match: 'ip saddr', not: ['10.1.0.1', '10.3.0.1'] }, drop] },
          { do: [{ match: 'ip6 daddr', not: 'fe80::/10' }, drop] },
          { do: [{ match: 'iifname', is: ['a', 'b'] }, { counter: true }] },
          { do: [{ match: 'iifname', is: 'pn*' }, drop] },
          { do: [{ match: 'iifname', not: 'pn1' }, drop] },
          { do: [{ match: 'meta nfproto', is: 'ipv6' }, { match: 'ip6 saddr', is: 'fd00:10:1::5' }, drop] },
          {
            do: [
              { match: 'meta l4proto', is: 'udp' },
              { match: 'th dport', is: 53 },
              { limitOver: { rate: 10, per: 'second', burst: 5 } },
              drop,
            ],
          },
          {
            do: [
              { match: 'meta l4proto', is: ['udp', 'tcp'] },
              { match: 'th sport', is: [53, 67] },
              { limitOver: { rate: 10, per: 'minute', burst: 5 } },
              drop,
            ],
          },
          {
            do: [
              { update: 'senders', key: ['iifname'], limitOver: { rate: 100, per: 'second', burst: 50 } },
              drop,
            ],
          },
          { do: [{ match: 'ct state', is: ['new', 'established'] }, drop] },
          { do: [{ match: 'ct state', is: 'new' }, drop] },
          { do: [{ match: 'ct state', not: 'new' }, drop] },
          { do: [{ match: '@th,96,16', is: [0, 1, 15] }, drop] },
          { do: [{ match: 'ct status', is: 'confirmed' }, drop] },
          {
            do: [
              { match: 'ct status', not: 'confirmed' },
              { add: 'held', key: ['ether saddr', share], countOver: 100 },
              drop,
            ],
          },
          { do: [{ match: 'ct mark', is: 16 }, drop] },
          { do: [{ match: 'mark', is: 16 }, drop] },
          { do: [{ match: 'fib daddr type', is: 'local' }, drop] },
          { do: [{ match: 'fib daddr type', is: ['local', 'broadcast'] }, drop] },
          { do: [{ match: 'icmpv6 type', is: 'nd-router-advert' }, drop] },
          { do: [{ match: 'icmpv6 type', is: ['nd-router-advert', 'nd-redirect'] }, drop] },
          { do: [{ match: 'icmp type', is: 'echo-request' }, drop] },
          { do: [{ setMark: 5 }] },
          { do: [{ match: 'meta pkttype', is: 'broadcast' }, drop] },
          { do: [{ match: 'ether type', is: 'arp' }, drop] },
          { do: [{ match: 'ether daddr', is: '01:00:00:00:00:00' }, { verdict: { goto: 'later' } }] },
          { do: [{ verdict: { jump: 'later' } }] },
        ],
      },
      {
        name: 'last',
        base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
        rules: [
          { do: [{ match: 'oifname', is: 'up0' }, { masquerade: true }] },
          { do: [{ verdict: 'return' }] },
        ],
      },
    ],
  },
  {
    family: 'bridge',
    name: 'polynet',
    sets: [
      {
        name: 'ports',
        key: ['iifname', 'ether saddr', 'ip saddr'],
        elements: [{ key: ['pn1', '0a:58:0a:01:00:05', '10.1.0.5'] }],
      },
      {
        name: 'arps',
        key: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'],
        elements: [{ key: ['pn1', '0a:58:0a:01:00:05', '0a:58:0a:01:00:05', '10.1.0.5'] }],
      },
    ],
    chains: [
      {
        name: 'first',
        base: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'drop' },
        rules: [
          {
            do: [
              { match: 'ether type', is: 'arp' },
              { lookup: ['iifname', 'ether saddr', 'arp saddr ether', 'arp saddr ip'], in: 'arps' },
              accept,
            ],
          },
          {
            do: [
              { match: 'ether type', is: 'ip6' },
              { match: 'icmpv6 type', is: ['nd-router-advert', 'nd-redirect'] },
              drop,
            ],
          },
          {
            do: [
              { match: 'ether type', is: 'ip' },
              { lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'ports' },
              drop,
            ],
          },
          { do: [{ match: 'ip saddr', is: '10.1.0.5' }, drop] },
          { do: [{ match: 'ip6 saddr', is: 'fe80::1' }, drop] },
          { do: [{ match: 'arp operation', is: 'request' }, drop] },
          { do: [{ match: 'icmp type', is: 'echo-request' }, drop] },
          { do: [{ match: 'meta l4proto', is: 'udp' }, { match: 'th sport', is: [67, 547] }, drop] },
          { do: [{ match: 'oifname', is: 'pnvx' }, { match: 'ether saddr', is: '0a:58:a9:fe:01:01' }, drop] },
        ],
      },
    ],
  },
  {
    family: 'netdev',
    name: 'polynet-lo',
    sets: [{ name: 'own-arp', key: ['arp saddr ip'], elements: [{ key: ['10.1.0.5'] }] }],
    chains: [
      {
        name: 'leaving',
        base: { type: 'filter', hook: 'egress', priority: 0, policy: 'drop', devices: ['lo'] },
        rules: [
          { do: [{ match: 'ether saddr', not: '0a:58:0a:01:00:05' }, drop] },
          { do: [{ match: 'ether type', is: 'arp' }, { lookup: ['arp saddr ip'], in: 'own-arp' }, accept] },
          { do: [{ match: 'ip saddr', is: '10.1.0.5' }, drop] },
          { do: [{ match: 'icmpv6 type', is: 'nd-router-advert' }, drop] },
        ],
      },
    ],
  },
  {
    family: 'arp',
    name: 'polynet',
    sets: [],
    chains: [
      {
        name: 'first',
        base: base('input', 0),
        rules: [
          {
            do: [{ match: 'arp operation', is: 'request' }, { match: 'arp saddr ip', is: '10.1.0.5' }, drop],
          },
          { do: [{ match: 'ether saddr', is: '0a:58:0a:01:00:05' }, drop] },
        ],
      },
    ],
  },
]

describe('tables in the kernel', { skip }, () => {
  let dir = ''
  const at = (name: string) => join(dir, name)
  const nft = (name: string, args: string[], input?: string): string => {
    const { status, stdout, stderr } = spawnSync('nsenter', [`--net=${at(name)}`, 'nft', ...args], {
      input,
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
    return stdout
  }
  const apply = (name: string, tables: Table[]): string[] => {
    const place = new Place(at(name))
    try {
      return renderTables(place, name, { tables, elements: [] }, () => true)
    } finally {
      place.close()
    }
  }

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'polynet-nft-'))
    for (const name of ['a', 'b']) createNamespace(at(name))
    applyNamespaces(
      [
        {
          ...emptyNamespace('a'),
          links: [
            {
              kind: 'veth',
              name: 'to-b',
              mac: '0a:58:0a:01:00:01',
              mtu: 1500,
              peer: { netns: 'b', name: 'to-a' },
            },
          ],
          addresses: [
            { link: 'to-b', address: '10.1.0.1/16' },
            { link: 'to-b', address: 'fd00:10:1::1/64' },
          ],
        },
        {
          ...emptyNamespace('b'),
          addresses: [
            { link: 'to-a', address: '10.1.0.2/16' },
            { link: 'to-a', address: 'fd00:10:1::2/64' },
          ],
        },
      ],
      { a: at('a'), b: at('b') },
    )
  })

  after(() => {
    for (const name of ['a', 'b']) removeNamespace(at(name))
    rmSync(dir, { recursive: true })
  })

  test('read back as what nft makes of the same text', {
    skip: hasNft ? false : 'nft is not installed',
  }, () => {
    apply('a', everything)
    const ours = nft('a', ['list', 'ruleset'])
      .replace(/^\tcomment "polynet [0-9a-f]{16}"\n/gm, '')
      // Of mere numbers in a set nft notes that they are to be hexadecimal.
      .replace('@th,96,16 { 0, 1, 15 }', '@th,96,16 { 0x0, 0x1, 0xf }')
    nft('b', ['-f', '-'], everything.map(nftText).join(''))
    assert.equal(ours, nft('b', ['list', 'ruleset']))
  })

  test('are made once, then only their elements change', () => {
    apply('a', [])
    const change = (edit: (tables: Table[]) => void): string[] => {
      const tables = structuredClone(everything)
      edit(tables)
      return apply('a', tables)
    }
    const made = ['inet polynet', 'bridge polynet', 'netdev polynet-lo', 'arp polynet'].map(
      (t) => `+ table a ${t}`,
    )
    assert.deepEqual(
      change(() => {}),
      made,
    )
    assert.deepEqual(
      change(() => {}),
      [],
    )
    const more = (tables: Table[]) => {
      tables[0]!.sets[0]!.elements.push({ key: ['pn2', '0a:58:0a:01:00:06', '10.1.0.6'] })
      tables[0]!.sets[5]!.elements.shift()
      tables[0]!.sets[7]!.elements[0]!.verdict = 'accept'
    }
    assert.deepEqual(change(more), [
      '+ element a inet polynet ports: pn2 . 0a:58:0a:01:00:06 . 10.1.0.6',
      '- element a inet polynet closed: 10.0.0.0/8',
      '- element a inet polynet to: a . 5 : drop',
      '+ element a inet polynet to: a . 5 : accept',
    ])
    assert.deepEqual(change(more), [])
    assert.deepEqual(
      change((tables) => tables[3]!.chains[0]!.rules.pop()),
      [
        '- element a inet polynet ports: pn2 . 0a:58:0a:01:00:06 . 10.1.0.6',
        '+ element a inet polynet closed: 10.0.0.0/8',
        '- element a inet polynet to: a . 5 : accept',
        '+ element a inet polynet to: a . 5 : drop',
        '~ table a arp polynet',
      ],
    )
    assert.deepEqual(apply('a', everything.slice(1)), ['- table a inet polynet', '~ table a arp polynet'])
  })

  test('that somebody took a rule from are made again', {
    skip: hasNft ? false : 'nft is not installed',
  }, () => {
    apply('a', everything)
    nft('a', ['flush', 'chain', 'inet', 'polynet', 'last'])
    assert.deepEqual(apply('a', everything), ['~ table a inet polynet'])
    nft('a', ['delete', 'element', 'inet', 'polynet', 'tunnels', '{ "eth1" . 192.168.10.12 . 5789 }'])
    assert.deepEqual(apply('a', everything), [
      '+ element a inet polynet tunnels: eth1 . 192.168.10.12 . 5789',
    ])
    apply('a', [])
  })

  test('that the kernel refuses leave the old ones in place', () => {
    apply('b', [everything[3]!])
    const bad: Table = {
      ...everything[3]!,
      chains: [{ name: 'x', base: base('input', 0), rules: [{ do: [{ verdict: { jump: 'nowhere' } }] }] }],
    }
    assert.throws(() => apply('b', [bad]), /add rule to chain x of table polynet: ENOENT/)
    assert.deepEqual(apply('b', [everything[3]!]), [])
    apply('b', [])
  })

  /** Which of two datagrams from a, to ports 1000 and 2000 of b, arrive in each family. */
  const cases: [string, Rule['do'], string][] = [
    ['no rule', [], '1000 2000 1000/6 2000/6'],
    ['a port', [{ match: 'th dport', is: 1000 }], '2000 2000/6'],
    ['not a port', [{ match: 'th dport', not: 1000 }], '1000 1000/6'],
    ['ports', [{ match: 'th dport', is: [1000, 1001] }], '2000 2000/6'],
    ['an address', [{ match: 'ip saddr', is: '10.1.0.1' }], '1000/6 2000/6'],
    ['another address', [{ match: 'ip saddr', is: '10.1.0.9' }], '1000 2000 1000/6 2000/6'],
    ['not an address: IPv6 has none', [{ match: 'ip saddr', not: '10.1.0.9' }], '1000/6 2000/6'],
    ['a prefix', [{ match: 'ip saddr', is: '10.1.0.0/20' }], '1000/6 2000/6'],
    ['a prefix of IPv6', [{ match: 'ip6 saddr', is: 'fd00:10:1::/64' }], '1000 2000'],
    ['prefixes', [{ match: 'ip saddr', is: ['10.0.0.0/16', '10.1.0.0/24'] }], '1000/6 2000/6'],
    [
      'a protocol and a port',
      [
        { match: 'meta l4proto', is: 'tcp' },
        { match: 'th dport', is: 1000 },
      ],
      '1000 2000 1000/6 2000/6',
    ],
    ['a family', [{ match: 'meta nfproto', is: 'ipv6' }], '1000 2000'],
    ['a device', [{ match: 'iifname', is: 'to-a' }], ''],
    ['devices by their beginning', [{ match: 'iifname', is: 'to*' }], ''],
    ['not a device', [{ match: 'iifname', not: 'to-a' }], '1000 2000 1000/6 2000/6'],
    ['a MAC', [{ match: 'ether saddr', is: '0a:58:0a:01:00:01' }], ''],
    ['what comes to this machine', [{ match: 'fib daddr type', is: 'local' }], ''],
    ['a new connection', [{ match: 'ct state', is: ['new', 'related'] }], ''],
    ['an established one', [{ match: 'ct state', is: 'established' }], '1000 2000 1000/6 2000/6'],
    [
      'an element of a set',
      [{ lookup: ['iifname', 'ether saddr', 'ip saddr'], in: 'known' }],
      '1000/6 2000/6',
    ],
    ['what is not in a set', [{ lookup: ['iifname', 'ip6 saddr'], notIn: 'none' }], '1000 2000'],
    ['a range of a set', [{ lookup: ['ip saddr'], in: 'range' }], '1000/6 2000/6'],
    [
      'a verdict of a map',
      [{ vmap: ['ip saddr', 'th dport'], map: 'verdicts' }, { verdict: 'accept' }],
      '2000 1000/6 2000/6',
    ],
    ['what is over a rate', [{ limitOver: { rate: 1, per: 'minute', burst: 2 } }], '1000 2000'],
    [
      'what is over its own rate',
      [{ update: 'seen', key: ['th dport'], limitOver: { rate: 1, per: 'minute', burst: 1 } }],
      '1000 2000',
    ],
    // The payload begins with a VXLAN header's flags.
    ['bytes that say 101', [{ match: '@th,96,16', is: [1, 0x6f00, 0x6f00 + 1] }], '1000 2000 1000/6 2000/6'],
    ['the first packet of a connection', [{ match: 'ct status', not: 'confirmed' }], ''],
    ['a later packet of a connection', [{ match: 'ct status', is: 'confirmed' }], '1000 2000 1000/6 2000/6'],
    [
      'more connections than may be open',
      [{ add: 'held', key: ['iifname'], countOver: 3 }],
      '1000 2000 1000/6',
    ],
    [
      'a mark that was set',
      [{ setMark: 7 }, { match: 'mark', is: 7 }, { match: 'th dport', is: 1000 }],
      '2000 2000/6',
    ],
  ]
  const filter = (rule: Rule['do']): Table => ({
    family: 'inet',
    name: 'polynet',
    sets: [
      {
        name: 'known',
        key: ['iifname', 'ether saddr', 'ip saddr'],
        elements: [{ key: ['to-a', '0a:58:0a:01:00:01', '10.1.0.1'] }],
      },
      { name: 'none', key: ['iifname', 'ip6 saddr'], elements: [] },
      { name: 'range', key: ['ip saddr'], interval: true, elements: [{ key: ['10.1.0.0/30'] }] },
      {
        name: 'verdicts',
        key: ['ip saddr', 'th dport'],
        map: 'verdict',
        elements: [{ key: ['10.1.0.1', 1000], verdict: { jump: 'dropped' } }],
      },
      { name: 'seen', key: ['th dport'], dynamic: { timeoutS: 60, size: 16 }, elements: [] },
      { name: 'held', key: ['iifname'], dynamic: { size: 16 }, elements: [] },
    ],
    chains: [
      { name: 'dropped', rules: [{ do: [drop] }] },
      {
        name: 'first',
        base: base('prerouting', -150),
        rules:
          rule.length === 0
            ? []
            : [{ do: [{ match: 'meta l4proto', is: ['icmp', 'icmpv6'] }, accept] }, { do: [...rule, drop] }],
      },
    ],
  })
  test('decide about packets as their words say', async () => {
    for (const [what, rule, expected] of cases) {
      apply('b', [filter(rule)])
      const ends = ([4, 6] as const).flatMap((family) =>
        [1000, 2000].map((port) => ({
          name: `${port}${family === 6 ? '/6' : ''}`,
          to: family === 4 ? '10.1.0.2' : 'fd00:10:1::2',
          port,
          socket: udpSocket(at('b'), { family, port }),
          from: udpSocket(at('a'), { family }),
        })),
      )
      for (const { from, to, port } of ends) from.send(to, port, Buffer.from('hello'))
      const arrived: string[] = []
      for (const { name, socket } of ends) if (await socket.receive(20)) arrived.push(name)
      for (const { from, socket } of ends) {
        from.close()
        socket.close()
      }
      assert.equal(arrived.join(' '), expected, what)
    }
    apply('b', [])
  })
})
