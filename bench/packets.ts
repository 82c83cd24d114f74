import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Network } from '../src/api/network.ts'
import { linuxDatapath } from '../src/datapath/linux/linux.ts'
import { applyNamespaces } from '../src/datapath/linux/namespaces.ts'
import { createNamespace, ownNetns, removeNamespace } from '../src/datapath/linux/netns.ts'
import { emptyNamespace, type Link, type NamespacePlan } from '../src/plan/node-plan.ts'
import { planNode } from '../src/plan/plan-node.ts'
import type { Chain, Table } from '../src/plan/ruleset.ts'
import type { NetworkView, NodeView } from '../src/plan/view.ts'
import { median, textOf } from './figures.ts'
import { output, packetsProgram } from './peers/on-node.ts'
import { Talk } from './peers/talk.ts'

/**
 * What a packet from pod to pod costs, without Kubernetes: two nodes of
 * Polynet, and two whose pods have a bridge and flannel's VXLAN as the
 * reference plugins and flannel make them, all taking turns on one CPU. It
 * takes root, at least in a user namespace, a C compiler, nsenter and taskset.
 */
const rounds = Number(process.argv[2] ?? 15)
const ms = Number(process.argv[3] ?? 50)
const dir = mkdtempSync(join(tmpdir(), 'polynet-bench-'))
const program = packetsProgram({ dir })
const cpu = String(availableParallelism() - 1)
const port = '7000'
const numbers = [1, 2] as const
type Nth = (typeof numbers)[number]
const other = (n: Nth): Nth => (n === 1 ? 2 : 1)
const nic = (n: Nth): string => `192.168.10.1${n}`
/** Two pods on the first node, one on the second, of each side. */
const podsOf = (n: Nth): number[] => (n === 1 ? [1, 2] : [3])

const networks: [title: string, topology: 'Layer3' | 'Layer2', bytes: string][] = [
  ['Polynet, default network', 'Layer3', '10.244'],
  ['Polynet, Layer3', 'Layer3', '10.1'],
  ['Polynet, Layer2', 'Layer2', '10.2'],
]

const made = new Map<string, string>()
const place = (name: string): string => {
  const known = made.get(name)
  if (known !== undefined) return known
  const path = join(dir, name)
  createNamespace(path)
  made.set(name, path)
  return path
}

/** What kube-proxy has where there are few services: it finds none for these packets. */
function proxy(): Table {
  const base = (hook: 'prerouting' | 'forward' | 'postrouting', priority: number, type: 'filter' | 'nat') =>
    ({ type, hook, priority, policy: 'accept' }) as const
  const asks = (name: string, base: Chain['base']): Chain => ({
    name,
    base,
    rules: [{ do: [{ match: 'ct state', is: 'new' }, { verdict: { jump: 'services' } }] }],
  })
  return {
    family: 'inet',
    name: 'kube-proxy',
    sets: [{ name: 'service-ips', key: ['ip daddr', 'meta l4proto', 'th dport'], elements: [] }],
    chains: [
      asks('filter-prerouting', base('prerouting', -110, 'filter')),
      asks('filter-forward', base('forward', -110, 'filter')),
      asks('nat-prerouting', base('prerouting', -100, 'nat')),
      {
        name: 'nat-postrouting',
        base: base('postrouting', 100, 'nat'),
        rules: [{ do: [{ match: 'mark', is: 0x4000 }, { masquerade: true }] }],
      },
      {
        name: 'services',
        rules: [
          {
            do: [
              { lookup: ['ip daddr', 'meta l4proto', 'th dport'], in: 'service-ips' },
              { verdict: 'drop' },
            ],
          },
        ],
      },
    ],
  }
}

const wire = (side: string, n: Nth): NamespacePlan => ({
  ...emptyNamespace(`${side}${n}`),
  links:
    n === 1
      ? [{ kind: 'veth', name: 'eth1', mtu: 1500, peer: { netns: `${side}2`, name: 'eth1' } }]
      : [{ kind: 'existing', name: 'eth1' }],
  addresses: [{ link: 'eth1', address: `${nic(n)}/24` }],
  tables: [proxy()],
})

/** A node whose pods are on two bridges: one with routes between nodes, one with flannel's tunnel. */
function theirs(n: Nth): NamespacePlan {
  const mac = (n: Nth) => `02:00:00:00:00:0${n}`
  const bridges: Link[] = [
    { kind: 'bridge', name: 'cni0', mtu: 1500 },
    { kind: 'bridge', name: 'cni-flannel', mtu: 1450 },
  ]
  const ports = podsOf(n).flatMap((pod): Link[] =>
    bridges.map(({ name }, i) => ({
      kind: 'veth',
      name: `port${pod}-${i}`,
      mtu: i === 0 ? 1500 : 1450,
      bridge: name,
      peer: { netns: `their-pod${pod}`, name: `eth${i}` },
    })),
  )
  return {
    ...emptyNamespace(`their${n}`),
    sysctls: { 'ipv4/ip_forward': '1' },
    links: [
      { kind: 'existing', name: 'eth1' },
      ...bridges,
      {
        ...{ kind: 'vxlan', name: 'flannel.1', vni: 1, port: 8472, local: nic(n), underlay: 'eth1' },
        ...{ mac: mac(n), mtu: 1450 },
      },
      ...ports,
    ],
    addresses: [
      { link: 'cni0', address: `10.245.${n}.254/24` },
      { link: 'cni-flannel', address: `10.246.${n}.254/24` },
      { link: 'flannel.1', address: `10.246.${n}.0/32` },
    ],
    routes: [
      { to: `10.245.${other(n)}.0/24`, link: 'eth1', via: nic(other(n)) },
      { to: `10.246.${other(n)}.0/24`, link: 'flannel.1', via: `10.246.${other(n)}.0` },
    ],
    neighbours: [{ link: 'flannel.1', address: `10.246.${other(n)}.0`, mac: mac(other(n)) }],
    forwarding: [{ link: 'flannel.1', mac: mac(other(n)), endpoint: nic(other(n)) }],
  }
}

const theirPod = (n: Nth, pod: number): NamespacePlan => ({
  ...emptyNamespace(`their-pod${pod}`),
  links: ['eth0', 'eth1'].map((name) => ({ kind: 'existing', name })),
  addresses: [5, 6].map((byte, i) => ({ link: `eth${i}`, address: `10.24${byte}.${n}.${pod}/24` })),
  routes: [
    { to: '0.0.0.0/0', link: 'eth0', via: `10.245.${n}.254` },
    { to: '10.246.0.0/16', link: 'eth1', via: `10.246.${n}.254` },
  ],
})

function ours(n: Nth): NodeView {
  const far = other(n)
  const view = ([title, topology, bytes]: (typeof networks)[number], i: number): NetworkView => ({
    network: {
      ...{ apiVersion: 'polynet.dev/v1alpha1', kind: 'Network' },
      metadata: { namespace: 'bench', name: title, uid: title },
      spec: { topology, subnets: [{ cidr: `${bytes}.0.0/16` }] },
      status: { vni: 4096 + i, mtu: 1450 },
    } satisfies Network,
    place: i === 0 ? 'host' : 'own',
    wire: { nic: 'eth1', endpoint: nic(n), tunnelPort: 14790 },
    remotes: [{ cidr: `${bytes}.${far}.0/24`, endpoint: nic(far) }],
    local: i === 0 ? [] : [`${bytes}.${n}.0/24`],
    peers: podsOf(far).map((pod) => ({
      attachment: { ips: [`${bytes}.${far}.${pod}`] },
      endpoint: nic(far),
    })),
  })
  return {
    closed: ['192.168.10.0/24', '169.254.0.0/16'],
    networks: networks.map(view),
    attachments: podsOf(n).flatMap((pod) =>
      networks.map(([networkUID, , bytes], index) => ({
        ...{ networkUID, containerID: `pod${pod}`, interface: `eth${index}`, pod: `bench/pod${pod}` },
        ...{ netns: place(`pod${pod}`), addresses: [{ address: `${bytes}.${n}.${pod}/16` }], index },
        ...(index === 0 && { defaultRoute: [] }),
      })),
    ),
  }
}

interface Path {
  where: 'one node' | 'across nodes'
  by: string
  from: string
  address: string
  beside: string
}

const ways: [by: string, pods: string, bytes: string][] = [
  ...networks.map(([by, , bytes]): [string, string, string] => [by, 'pod', bytes]),
  ['bridge plugin', 'their-pod', '10.245'],
  ['flannel VXLAN', 'their-pod', '10.246'],
]
const paths = ways.flatMap(([by, pods, bytes]): Path[] => [
  ...(by.startsWith('flannel')
    ? []
    : [
        {
          where: 'one node',
          by,
          from: `${pods}1`,
          address: `${bytes}.1.2`,
          beside: 'bridge plugin',
        } as const,
      ]),
  { where: 'across nodes', by, from: `${pods}1`, address: `${bytes}.2.3`, beside: 'flannel VXLAN' },
])

/** `host`: whose NICs tunnels leave by. */
const apply = (plans: NamespacePlan[], host = ownNetns): unknown =>
  applyNamespaces(plans, { host, ...Object.fromEntries(plans.map(({ netns }) => [netns, place(netns)])) })

/** Ahead of all others on its CPU, where that is allowed: what they do in between takes the caches. */
const ahead = spawnSync('chrt', ['-r', '1', 'true']).status === 0 ? ['chrt', '-r', '1'] : []
const inside = (name: string): string[] => [
  'nsenter',
  `--net=${place(name)}`,
  'taskset',
  '-c',
  cpu,
  ...ahead,
  program,
]
const measure = async (path: Path, what: 'flood' | 'latency') =>
  JSON.parse(await output([...inside(path.from), what, path.address, port, String(ms)]))

const ending: (() => unknown)[] = []
try {
  apply(numbers.flatMap((n) => [wire('our', n), wire('their', n)]))
  for (const n of numbers) apply([theirs(n), ...podsOf(n).map((pod) => theirPod(n, pod))], place(`their${n}`))
  for (const n of numbers) {
    const runDir = join(dir, `run${n}`)
    const datapath = await linuxDatapath({ runDir, hostNetns: place(`our${n}`) })
    ending.push(() => {
      for (const name of readdirSync(join(runDir, 'netns'))) removeNamespace(join(runDir, 'netns', name))
    })
    await datapath.replace(planNode(ours(n)))
    await datapath.close()
  }
  for (const name of ['pod2', 'pod3', 'their-pod2', 'their-pod3']) {
    const server = new Talk([...inside(name), 'serve', port])
    ending.push(() => server.close())
    await server.line()
  }
  const key = ({ where, by }: Pick<Path, 'where' | 'by'>): string => `${where} ${by}`
  const found = new Map(paths.map((path) => [key(path), { cpu: [] as number[], trip: [] as number[] }]))
  for (const path of paths) await measure(path, 'latency')
  for (let round = 0; round < rounds; round++)
    for (const path of round % 2 === 0 ? paths : paths.toReversed()) {
      const one = found.get(key(path))!
      const { cpu, received } = await measure(path, 'flood')
      one.cpu.push(cpu / received)
      one.trip.push((await measure(path, 'latency')).median)
    }
  const figures = {
    title: `Packets of 64 bytes from pod to pod on one CPU, ${rounds} rounds in which all take turns, medians`,
    columns: ['where', 'by', 'CPU µs a packet', 'min', 'round trip, µs', 'beside', 'CPU', 'round trip'],
    rows: paths.map((path) => {
      const [one, peer] = [found.get(key(path))!, found.get(key({ ...path, by: path.beside }))!]
      const ratio = (name: 'cpu' | 'trip') =>
        `${median(one[name].map((each, i) => each / peer[name][i]!)).toFixed(2)}×`
      return [
        ...[path.where, path.by, median(one.cpu), Math.min(...one.cpu), median(one.trip)],
        ...[path.beside, ratio('cpu'), ratio('trip')],
      ]
    }),
    notes: ['CPU: of sender and receiver with the kernel’s work for them. Medians of the rounds’ ratios.'],
  }
  console.log(textOf(figures))
} finally {
  for (const end of ending.reverse()) await end()
  for (const path of made.values()) removeNamespace(path)
  rmSync(dir, { recursive: true, force: true })
}
