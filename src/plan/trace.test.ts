import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Chain,
  type Field,
  type NftSet,
  type Rule,
  type Statement,
  share,
  shares,
  type Table,
} from './ruleset.ts'
import { connectionOf, freshState, type Hook, type Packet, trace } from './trace.ts'

const atPrerouting: Hook = { family: 'inet', hook: 'prerouting' }

/** Says "drop" exactly when `statements` match. */
const table = (statements: Statement[], sets: NftSet[] = [], family: Table['family'] = 'inet'): Table => ({
  family,
  name: 'polynet',
  sets,
  chains: [
    {
      name: 'c',
      base: { type: 'filter', hook: 'prerouting', priority: 0, policy: 'accept' },
      rules: [{ do: [...statements, { verdict: 'drop' }] }],
    },
  ],
})

const matches = (
  statements: Statement[],
  packet: Packet,
  sets?: NftSet[],
  family: Table['family'] = 'inet',
) => trace([table(statements, sets, family)], packet, { family, hook: 'prerouting' }).verdict === 'drop'

const ether = { saddr: '0a:58:0a:01:01:02', daddr: '0a:58:a9:fe:01:01' }
const udp: Packet = {
  iifname: 'pn1',
  ether,
  ip: { saddr: '10.1.1.2', daddr: '10.1.2.3' },
  l4proto: 'udp',
  sport: 5000,
  dport: 53,
}
const udp6: Packet = { ...udp, ip: { saddr: 'fd00:10:1::2', daddr: 'fd00:10:1::3' } }
const echo: Packet = { ether, ip: udp.ip, l4proto: 'icmp', icmpType: 'echo-request' }
const arp: Packet = {
  iifname: 'pn1',
  ether: { saddr: ether.saddr, daddr: 'ff:ff:ff:ff:ff:ff' },
  arp: { operation: 'request', senderMac: ether.saddr, senderIp: '10.1.1.2', targetIp: '10.1.1.3' },
}

const fields: [boolean, Packet, Statement][] = [
  [true, udp, { match: 'iifname', is: 'pn1' }],
  [false, udp, { match: 'iifname', is: 'pn*' }],
  [false, udp, { match: 'iifname', is: 'pn' }],
  [false, udp, { match: 'oifname', is: 'pn1' }],
  // No device has the empty name.
  [true, udp, { match: 'oifname', not: 'pn1' }],
  [true, udp, { match: 'meta nfproto', is: 'ipv4' }],
  [true, udp6, { match: 'meta nfproto', is: 'ipv6' }],
  [true, udp, { match: 'meta l4proto', is: 17 }],
  [true, { ...udp, l4proto: 17 }, { match: 'meta l4proto', is: ['tcp', 'udp'] }],
  [false, echo, { match: 'meta l4proto', is: ['tcp', 'udp'] }],
  [true, udp, { match: 'meta pkttype', is: 'host' }],
  [true, arp, { match: 'meta pkttype', is: 'broadcast' }],
  [true, udp, { match: 'mark', is: 0 }],
  [true, { ...udp, mark: 7 }, { match: 'mark', not: 0 }],
  [true, udp, { match: 'ether saddr', is: ether.saddr }],
  [true, udp, { match: 'ether type', is: 'ip' }],
  [true, udp6, { match: 'ether type', is: 0x86dd }],
  [true, arp, { match: 'ether type', is: 'arp' }],
  [true, arp, { match: 'arp operation', is: 'request' }],
  [true, arp, { match: 'arp saddr ip', is: '10.1.0.0/16' }],
  [true, udp, { match: 'ip saddr', is: '10.1.0.0/16' }],
  [false, udp, { match: 'ip saddr', not: '10.1.0.0/16' }],
  [true, udp, { match: 'ip daddr', is: ['10.9.0.0/16', '10.1.2.0/24'] }],
  [true, udp6, { match: 'ip6 saddr', is: 'fd00:10:1::/64' }],
  // A header that is not there matches neither "is" nor "not", as in the kernel.
  [false, udp6, { match: 'ip saddr', is: '10.1.1.2' }],
  [false, udp6, { match: 'ip saddr', not: '10.1.1.2' }],
  [false, udp, { match: 'ip6 saddr', not: 'fd00::/8' }],
  [false, echo, { match: 'th dport', not: 53 }],
  [true, echo, { match: 'icmp type', is: 'echo-request' }],
  [false, echo, { match: 'icmpv6 type', is: 'echo-request' }],
  [true, udp, { match: 'th dport', is: [53, 67] }],
  [false, udp, { match: 'th dport', is: 67 }],
  [true, { ...udp, ctState: 'established' }, { match: 'ct state', is: ['established', 'related'] }],
  [false, udp, { match: 'ct state', is: 'new' }],
  [true, { ...udp, ctMark: 3 }, { match: 'ct mark', is: 3 }],
  [true, udp, { match: 'fib daddr type', not: 'local' }],
  [true, { ...udp, daddrType: 'local' }, { match: 'fib daddr type', is: 'local' }],
]
for (const [want, packet, statement] of fields) {
  const is = 'is' in statement ? `is ${statement.is}` : 'not' in statement ? `is not ${statement.not}` : ''
  const what = packet.arp ? 'arp' : `${packet.ip?.saddr} ${packet.l4proto}`
  test(`${what}: ${'match' in statement ? statement.match : ''} ${is}: ${want}`, () =>
    assert.equal(matches([statement], packet), want))
}

const ports: NftSet = {
  name: 'ports',
  key: ['iifname', 'ether saddr', 'ip saddr'],
  elements: [{ key: ['pn1', ether.saddr, '10.1.1.2'] }, { key: ['pn2', ether.saddr, '10.1.1.9'] }],
}
const portKey: Field[] = ports.key
const inside: NftSet = {
  name: 'inside',
  key: ['ip daddr'],
  interval: true,
  elements: [{ key: ['10.2.0.0/16'] }, { key: ['10.1.2.3-10.1.2.4'] }],
}
const low: NftSet = {
  name: 'low',
  key: ['th dport'],
  interval: true,
  elements: [{ key: ['1-1023'] }, { key: [8080] }],
}
const lookups: [string, boolean, Packet, Statement][] = [
  ['a concatenation that is in', true, udp, { lookup: portKey, in: 'ports' }],
  ['one part of it differs', false, { ...udp, iifname: 'pn2' }, { lookup: portKey, in: 'ports' }],
  [
    'one part of it differs, asked for not in',
    true,
    { ...udp, iifname: 'pn2' },
    { lookup: portKey, notIn: 'ports' },
  ],
  ['a part is not there, asked for not in', false, udp6, { lookup: portKey, notIn: 'ports' }],
  ['in a range', true, udp, { lookup: ['ip daddr'], in: 'inside' }],
  [
    'in a prefix',
    true,
    { ...udp, ip: { saddr: '10.1.1.2', daddr: '10.2.9.9' } },
    { lookup: ['ip daddr'], in: 'inside' },
  ],
  [
    'beside a range',
    false,
    { ...udp, ip: { saddr: '10.1.1.2', daddr: '10.1.2.5' } },
    { lookup: ['ip daddr'], in: 'inside' },
  ],
]
for (const [title, want, packet, statement] of lookups)
  test(`lookup: ${title}`, () => assert.equal(matches([statement], packet, [ports, inside, low]), want))

const chain = (
  name: string,
  rules: Rule[],
  priority?: number,
  policy: 'accept' | 'drop' = 'accept',
): Chain => ({
  name,
  rules,
  ...(priority === undefined ? {} : { base: { type: 'filter', hook: 'prerouting', priority, policy } }),
})
const does = (...statements: Statement[]): Rule => ({ do: statements })
const jump = (to: string): Rule => does({ verdict: { jump: to } })
const leaf = (verdict: 'accept' | 'drop' | 'return'): Rule => does({ verdict })
const mark = (value: number): Rule => does({ setMark: value })

const flows: [string, Chain[], string][] = [
  ['an empty chain’s policy decides', [chain('a', [], 0, 'drop')], 'drop: table inet t chain a: policy drop'],
  ['the first verdict decides', [chain('a', [leaf('accept'), leaf('drop')], 0)], 'accept'],
  [
    'a jump comes back',
    [chain('a', [jump('b'), leaf('drop')], 0), chain('b', [mark(1)])],
    'drop: table inet t chain a: drop',
  ],
  [
    'return comes back early',
    [chain('a', [jump('b')], 0), chain('b', [leaf('return'), leaf('drop')])],
    'accept',
  ],
  [
    'return in a base chain is its policy',
    [chain('a', [leaf('return'), leaf('accept')], 0, 'drop')],
    'drop: table inet t chain a: policy drop',
  ],
  [
    'goto does not come back',
    [chain('a', [does({ verdict: { goto: 'b' } }), leaf('drop')], 0), chain('b', [mark(1)])],
    'accept',
  ],
  [
    'goto inside a jump comes back to the jump',
    [
      chain('a', [jump('b'), leaf('drop')], 0),
      chain('b', [does({ verdict: { goto: 'c' } })]),
      chain('c', [mark(1)]),
    ],
    'drop: table inet t chain a: drop',
  ],
  [
    'lower priority is asked first',
    [chain('late', [leaf('drop')], 10), chain('early', [leaf('drop')], -10)],
    'drop: table inet t chain early: drop',
  ],
  [
    'an accept does not spare the next chain',
    [chain('a', [leaf('accept')], 0), chain('b', [], 1, 'drop')],
    'drop: table inet t chain b: policy drop',
  ],
  [
    'a mark is seen by later chains',
    [chain('b', [does({ match: 'mark', is: 5 }, { verdict: 'drop' })], 1), chain('a', [mark(5)], 0)],
    'drop: table inet t chain b: drop',
  ],
]
for (const [title, chains, want] of flows)
  test(title, () => {
    const { verdict, reason } = trace([{ family: 'inet', name: 't', sets: [], chains }], udp, atPrerouting)
    assert.equal(reason === undefined ? verdict : `${verdict}: ${reason}`, want)
  })

test('a verdict map sends a packet to its chain, and does not match what it lacks', () => {
  const from: NftSet = {
    name: 'from',
    key: ['iifname'],
    map: 'verdict',
    elements: [{ key: ['pn1'], verdict: { jump: 'ports' } }],
  }
  const rules = [does({ vmap: ['iifname'], map: 'from' }), leaf('accept')]
  const tables: Table[] = [
    {
      family: 'inet',
      name: 't',
      sets: [from],
      chains: [
        chain('a', rules, 0),
        chain('ports', [{ comment: 'not its address', do: [{ verdict: 'drop' }] }]),
      ],
    },
  ]
  assert.deepEqual(trace(tables, udp, atPrerouting), {
    verdict: 'drop',
    path: ['table inet t chain a: jump ports', 'table inet t chain ports: not its address'],
    reason: 'table inet t chain ports: not its address',
  })
  assert.equal(trace(tables, { ...udp, iifname: 'pn2' }, atPrerouting).verdict, 'accept')
})

test('only the chains of the family, hook and device are asked', () => {
  const netdev: Table = {
    family: 'netdev',
    name: 't',
    sets: [],
    chains: [
      {
        name: 'c',
        base: { type: 'filter', hook: 'egress', priority: 0, policy: 'drop', devices: ['eth0'] },
        rules: [],
      },
    ],
  }
  const ask = (hook: Hook) => trace([netdev, table([])], udp, hook).verdict
  assert.equal(ask({ family: 'netdev', hook: 'egress', device: 'eth0' }), 'drop')
  assert.equal(ask({ family: 'netdev', hook: 'egress', device: 'eth1' }), 'accept')
  assert.equal(ask({ family: 'netdev', hook: 'ingress', device: 'eth0' }), 'accept')
  assert.equal(ask({ family: 'bridge', hook: 'prerouting' }), 'accept')
  assert.equal(ask(atPrerouting), 'drop')
})

test('what a rule asks for beside a verdict is told', () => {
  const rules = [does({ notrack: true }, { setMark: 9 }, { masquerade: true })]
  assert.deepEqual(
    trace([{ family: 'inet', name: 't', sets: [], chains: [chain('a', rules, 0)] }], udp, atPrerouting),
    {
      verdict: 'accept',
      path: ['table inet t chain a: accept'],
      mark: 9,
      notrack: true,
      masquerade: true,
    },
  )
})

test('a rate is exceeded after its burst, until tokens come back', () => {
  const limited = [table([{ limitOver: { rate: 10, per: 'second', burst: 2 } }])]
  const state = freshState()
  const send = () => trace(limited, udp, atPrerouting, state).verdict
  assert.deepEqual([send(), send(), send()], ['accept', 'accept', 'drop'])
  state.nowMs += 100
  assert.deepEqual([send(), send()], ['accept', 'drop'])
  assert.equal(trace(limited, udp, atPrerouting).verdict, 'accept')
})

test('a dynamic set counts each key for itself, takes no more than its size, and forgets', () => {
  const rates: NftSet = { name: 'rates', key: ['ip saddr'], dynamic: { timeoutS: 60, size: 2 }, elements: [] }
  const limited = [
    table([{ update: 'rates', key: ['ip saddr'], limitOver: { rate: 1, per: 'minute', burst: 1 } }], [rates]),
  ]
  const state = freshState()
  const send = (n: number) =>
    trace(limited, { ...udp, ip: { saddr: `10.1.1.${n}`, daddr: '10.1.2.3' } }, atPrerouting, state).verdict
  assert.deepEqual([send(1), send(1), send(2), send(2)], ['accept', 'drop', 'accept', 'drop'])
  // Full: the third key cannot be counted, so its rule does not match.
  assert.deepEqual([send(3), send(3)], ['accept', 'accept'])
  state.nowMs += 61_000
  assert.deepEqual([send(3), send(3), send(1)], ['accept', 'drop', 'accept'])
})

test('open connections are counted for each key, until they end', () => {
  const held: NftSet = { name: 'held', key: ['ip saddr'], dynamic: { size: 9 }, elements: [] }
  const limited = [
    table(
      [
        { match: 'ct status', not: 'confirmed' },
        { add: 'held', key: ['ip saddr'], countOver: 2 },
      ],
      [held],
    ),
  ]
  const open = new Set<string>()
  const state = freshState(0, (connection) => open.has(connection))
  const send = (n: number, sport: number, more: Partial<Packet> = {}) => {
    const ip = { saddr: `10.1.1.${n}`, daddr: '10.1.2.3' }
    const packet: Packet = { ...udp, ip, sport, ctState: 'new', ...more }
    const { verdict } = trace(limited, packet, atPrerouting, state)
    if (verdict === 'accept') open.add(connectionOf(packet))
    return verdict
  }
  assert.deepEqual([send(1, 1), send(1, 2), send(1, 3), send(2, 1)], ['accept', 'accept', 'drop', 'accept'])
  assert.equal(send(1, 2, { ctConfirmed: true }), 'accept')
  assert.equal(send(1, 4, { ctState: 'untracked' }), 'accept')
  open.clear()
  assert.deepEqual([send(1, 5), send(1, 6), send(1, 7)], ['accept', 'accept', 'drop'])
})

test('shares take turns', () => {
  const held: NftSet = { name: 'held', key: ['iifname', share], dynamic: { size: 99 }, elements: [] }
  const limited = [table([{ add: 'held', key: ['iifname', share], countOver: 2 }], [held])]
  const state = freshState()
  const send = (sport: number) =>
    trace(limited, { ...udp, iifname: 'pn1', sport, ctState: 'new' }, atPrerouting, state).verdict
  const verdicts = Array.from({ length: 3 * shares }, (_, i) => send(i))
  assert.equal(verdicts.indexOf('drop'), 2 * shares)
  assert.equal(verdicts.lastIndexOf('accept'), 2 * shares - 1)
})

test('a jump to a chain that is not there is an error, not an accept', () => {
  assert.throws(
    () =>
      trace(
        [{ family: 'inet', name: 't', sets: [], chains: [chain('a', [jump('b')], 0)] }],
        udp,
        atPrerouting,
      ),
    /table inet t has no chain b/,
  )
})
