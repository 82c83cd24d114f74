import type { NamespacePlan, NodePlan } from '../plan/node-plan.ts'
import type { Chain, Field, NftSet, Rule, Statement, Table } from '../plan/ruleset.ts'

/**
 * What rules do to packets, as nft(8) says: a table each, and what becomes of
 * two IPv4 datagrams and one IPv6 datagram that the first pod of network blue
 * on n1 sends the second one there. The memory datapath asks `trace`, the
 * Linux one the kernel; the answers are the same.
 */
export interface RuleCase {
  title: string
  sets?: NftSet[]
  chains: Chain[]
  /** `4`, `4` and `6` for those that arrive, `-` for those that do not. */
  arrives: string
}

/** The plan with the case's sets and chains in blue's table. */
export function withRules(plan: NodePlan, { sets = [], chains }: RuleCase): NodePlan {
  const add = (table: Table): Table => ({
    ...table,
    sets: [...table.sets, ...sets],
    chains: [...table.chains, ...chains],
  })
  const change = (n: NamespacePlan): NamespacePlan =>
    n.netns === 'pn-blue' ? { ...n, tables: n.tables.map(add) } : n
  return { ...plan, namespaces: plan.namespaces.map(change) }
}

type Base = NonNullable<Chain['base']>

const base = (hook: Base['hook'], more: Partial<Base> = {}): Base => ({
  type: 'filter',
  hook,
  priority: 0,
  policy: 'accept',
  ...more,
})
const does = (...statements: Statement[]): Rule => ({ do: statements })
const drop: Statement = { verdict: 'drop' }

/** Drops at `forward` what all the statements match. */
const dropping = (...statements: Statement[]): Chain[] => [
  { name: 'test', base: base('forward'), rules: [does(...statements, drop)] },
]

const set = (key: Field[], ...elements: (string | number)[][]): NftSet => ({
  name: 'test-set',
  key,
  elements: elements.map((e) => ({ key: e })),
})

const here = '10.1.1.2'
const here6 = 'fd00:10:1::1:2'

export const ruleCases: RuleCase[] = [
  { title: 'no rule', chains: [], arrives: '446' },
  { title: 'a name', chains: dropping({ match: 'oifname', is: 'pnblue2' }), arrives: '---' },
  { title: 'another name', chains: dropping({ match: 'oifname', is: 'pnblue' }), arrives: '446' },
  { title: 'names', chains: dropping({ match: 'iifname', is: ['pnblue1', 'pnblue9'] }), arrives: '---' },
  { title: 'not a name', chains: dropping({ match: 'iifname', not: 'pnblue1' }), arrives: '446' },
  { title: 'a family', chains: dropping({ match: 'meta nfproto', is: 'ipv6' }), arrives: '44-' },
  { title: 'an address', chains: dropping({ match: 'ip daddr', is: here }), arrives: '--6' },
  { title: 'a prefix', chains: dropping({ match: 'ip6 daddr', is: 'fd00:10:1::/64' }), arrives: '44-' },
  {
    title: 'prefixes',
    chains: dropping({ match: 'ip saddr', is: ['10.9.0.0/16', '10.1.0.0/16'] }),
    arrives: '--6',
  },
  {
    title: 'not an address, and a header that is not there',
    chains: dropping({ match: 'ip daddr', not: '10.9.9.9' }),
    arrives: '--6',
  },
  { title: 'a protocol', chains: dropping({ match: 'meta l4proto', is: 'tcp' }), arrives: '446' },
  {
    title: 'a port',
    chains: dropping({ match: 'meta l4proto', is: 'udp' }, { match: 'th dport', not: [53, 67] }),
    arrives: '---',
  },
  {
    title: 'ports in a set of ranges',
    sets: [{ ...set(['th dport'], ['20000-65535'], [53]), interval: true }],
    chains: dropping({ match: 'meta nfproto', is: 'ipv4' }, { lookup: ['th dport'], in: 'test-set' }),
    arrives: '--6',
  },
  {
    title: 'not the host itself',
    chains: dropping({ match: 'fib daddr type', is: 'local' }),
    arrives: '446',
  },
  { title: 'unicast', chains: dropping({ match: 'meta pkttype', is: 'broadcast' }), arrives: '446' },
  {
    title: 'a concatenation in a set',
    sets: [set(['iifname', 'ip daddr'], ['pnblue1', here], ['pnblue2', '10.1.1.1'])],
    chains: dropping({ lookup: ['iifname', 'ip daddr'], in: 'test-set' }),
    arrives: '--6',
  },
  {
    title: 'a concatenation not in a set',
    sets: [set(['oifname', 'ip6 daddr'], ['pnblue1', here6])],
    chains: dropping({ lookup: ['oifname', 'ip6 daddr'], notIn: 'test-set' }),
    arrives: '44-',
  },
  {
    title: 'a concatenation of numbers and symbols',
    sets: [set(['meta l4proto', 'meta nfproto'], ['udp', 'ipv4'])],
    chains: dropping({ lookup: ['meta l4proto', 'meta nfproto'], in: 'test-set' }),
    arrives: '--6',
  },
  {
    title: 'prefixes and ranges in a set',
    sets: [{ ...set(['ip daddr'], ['10.2.0.0/16'], ['10.1.1.2-10.1.1.9']), interval: true }],
    chains: dropping({ lookup: ['ip daddr'], in: 'test-set' }),
    arrives: '--6',
  },
  {
    title: 'beside prefixes and ranges in a set',
    sets: [{ ...set(['ip daddr'], ['10.2.0.0/16'], ['10.1.1.3-10.1.1.9']), interval: true }],
    chains: dropping({ lookup: ['ip daddr'], in: 'test-set' }),
    arrives: '446',
  },
  {
    title: 'a verdict map, and what it does not have',
    sets: [
      {
        name: 'test-map',
        key: ['ip daddr'],
        map: 'verdict',
        elements: [
          { key: [here], verdict: { jump: 'other' } },
          { key: ['10.1.1.1'], verdict: 'accept' },
        ],
      },
    ],
    chains: [
      { name: 'other', rules: [does(drop)] },
      { name: 'test', base: base('forward'), rules: [does({ vmap: ['ip daddr'], map: 'test-map' })] },
    ],
    arrives: '--6',
  },
  {
    title: 'a jump comes back, a goto does not',
    chains: [
      {
        name: 'jumped',
        rules: [does({ match: 'meta nfproto', is: 'ipv6' }, { verdict: 'return' }), does({ counter: true })],
      },
      { name: 'gone', rules: [does({ counter: true })] },
      {
        name: 'test',
        base: base('forward'),
        rules: [
          does({ verdict: { jump: 'jumped' } }),
          does({ match: 'meta nfproto', is: 'ipv6' }, { verdict: { goto: 'gone' } }),
          does(drop),
        ],
      },
    ],
    arrives: '--6',
  },
  {
    title: 'a policy',
    chains: [
      {
        name: 'test',
        base: base('forward', { policy: 'drop' }),
        rules: [does({ match: 'ip daddr', is: here }, { verdict: 'accept' })],
      },
    ],
    arrives: '44-',
  },
  {
    title: 'an accept does not spare the next chain, a mark reaches it',
    chains: [
      {
        name: 'late',
        base: base('forward', { priority: 10 }),
        rules: [does({ match: 'mark', is: 7 }, drop)],
      },
      {
        name: 'early',
        base: base('prerouting', { priority: -10 }),
        rules: [does({ match: 'meta nfproto', is: 'ipv4' }, { setMark: 7 }, { verdict: 'accept' })],
      },
    ],
    arrives: '--6',
  },
  {
    title: 'the state of a connection',
    chains: dropping({ match: 'ct state', is: ['new', 'invalid'] }),
    arrives: '---',
  },
  {
    title: 'a connection that is not tracked',
    chains: [
      {
        name: 'raw',
        base: base('prerouting', { priority: -300 }),
        rules: [does({ match: 'meta nfproto', is: 'ipv4' }, { notrack: true })],
      },
      ...dropping({ match: 'ct state', is: 'untracked' }),
    ],
    arrives: '--6',
  },
  {
    title: 'a rate',
    chains: dropping(
      { match: 'meta nfproto', is: 'ipv4' },
      { limitOver: { rate: 1, per: 'minute', burst: 1 } },
    ),
    arrives: '4-6',
  },
  {
    title: 'a rate for each key',
    sets: [
      { name: 'rates', key: ['iifname', 'ip saddr'], dynamic: { timeoutS: 60, size: 100 }, elements: [] },
    ],
    chains: dropping({
      update: 'rates',
      key: ['iifname', 'ip saddr'],
      limitOver: { rate: 1, per: 'minute', burst: 1 },
    }),
    arrives: '4-6',
  },
  {
    title: 'the first packet of a connection',
    chains: dropping({ match: 'meta nfproto', is: 'ipv4' }, { match: 'ct status', not: 'confirmed' }),
    arrives: '--6',
  },
  {
    title: 'a connection that is known',
    chains: dropping({ match: 'ct status', is: 'confirmed' }),
    arrives: '446',
  },
  {
    title: 'open connections for each key',
    sets: [{ name: 'held', key: ['iifname', 'ip saddr'], dynamic: { size: 100 }, elements: [] }],
    chains: dropping({ add: 'held', key: ['iifname', 'ip saddr'], countOver: 1 }),
    arrives: '4-6',
  },
  {
    title: 'translation leaves what stays inside alone',
    chains: [
      {
        name: 'nat',
        base: base('postrouting', { type: 'nat', priority: 100 }),
        rules: [does({ match: 'oifname', is: 'pnvx' }, { masquerade: true })],
      },
    ],
    arrives: '446',
  },
]
