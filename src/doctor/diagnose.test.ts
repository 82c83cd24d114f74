import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SandboxRecord } from '../agent/journal/record.ts'
import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { Node, Pod } from '../api/core.ts'
import { elementLine, namespaceLine, neighbourLine, routeLine } from '../datapath/lines.ts'
import { namespaceName, portName, uplinkName } from '../plan/names.ts'
import type { PortPlan } from '../plan/node-plan.ts'
import { diagnose } from './diagnose.ts'
import { findingText, type SeenNode, type View } from './view.ts'

/** Pod default/web on node n1, on network blue (10.1.0.0/16), where all is well. */

const at = namespaceName('blue-uid')
const link = portName('c0ffee0000001111/eth1')
const block = 'blue-0a010000-26'

const node: Node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', uid: 'n1-uid' }, spec: {} }
const web: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    namespace: 'default',
    name: 'web',
    uid: 'web-uid',
    annotations: { 'k8s.v1.cni.cncf.io/network-status': '[]' },
  },
  spec: { nodeName: 'n1', containers: [] },
  status: { phase: 'Running' },
}
const port: PortPlan = {
  key: 'c0ffee0000001111/eth1',
  network: 'default/blue',
  pod: 'default/web',
  netns: at,
  link: { kind: 'veth', name: link, mac: '0a:58:a9:fe:01:01', noarp: true },
  inside: {
    netns: '/run/netns/web',
    name: 'eth1',
    mtu: 1450,
    addresses: ['10.1.0.7/32'],
    routes: [],
    neighbours: [],
    sysctls: {},
    tables: [],
  },
  routes: [{ to: '10.1.0.7/32', link }],
  neighbours: [{ link, address: '10.1.0.7', mac: '0a:58:0a:01:00:07' }],
  forwarding: [],
  elements: [{ family: 'inet', set: 'ports', key: [link, '0a:58:0a:01:00:07', '10.1.0.7'] }],
}
const sandbox: SandboxRecord = {
  containerID: 'c0ffee0000001111',
  pod: { namespace: 'default', name: 'web', uid: 'web-uid' },
  netns: '/run/netns/web',
  state: 'added',
  attachments: [
    {
      kind: 'polynet',
      interface: 'eth1',
      network: { namespace: 'default', name: 'blue', uid: 'blue-uid' },
      default: false,
      held: {
        networkUID: 'blue-uid',
        containerID: 'c0ffee0000001111',
        interface: 'eth1',
        pod: 'default/web',
        netns: '/run/netns/web',
        addresses: [{ address: '10.1.0.7/16' }],
        index: 0,
      },
      port,
    },
  ],
}
const blueBlock: AddressBlock = {
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AddressBlock',
  metadata: { namespace: 'default', name: block },
  spec: { network: 'blue', networkUID: 'blue-uid', cidr: '10.1.0.0/26', node: 'n1', nodeUID: 'n1-uid' },
}
const slice: AttachmentSlice = {
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AttachmentSlice',
  metadata: { namespace: 'default', name: 'blue-1' },
  network: 'blue',
  networkUID: 'blue-uid',
  node: 'n1',
  nodeUID: 'n1-uid',
  attachments: [
    {
      pod: 'web',
      podNamespace: 'default',
      podUID: 'web-uid',
      containerID: 'c0ffee0000001111',
      interface: 'eth1',
      ips: ['10.1.0.7'],
    },
  ],
}
const owner = { pod: 'default/web', podUID: 'web-uid', containerID: 'c0ffee0000001111', interface: 'eth1' }
const seen: SeenNode = {
  name: 'n1',
  kernel: [
    namespaceLine(at),
    `link ${at} ${link} veth mac 0a:58:a9:fe:01:01 mtu 1450 noarp up`,
    `link host ${uplinkName('blue-uid')} veth up`,
    ...port.routes.map((each) => routeLine(at, each)),
    ...port.neighbours.map((each) => neighbourLine(at, each)),
    ...port.elements.map((each) => elementLine(at, each.family, 'polynet', each.set, each)),
    // What the kernel counts by itself.
    elementLine(at, 'inet', 'polynet', 'opened', { key: [link] }),
  ],
  differences: [],
  networks: ['blue-uid'],
  sandboxes: [sandbox],
  holdings: {
    node: 'n1',
    nodeUID: 'n1-uid',
    blocks: new Map([[block, blueBlock.spec]]),
    leases: [{ owner, network: 'default/blue', addresses: [{ address: '10.1.0.7/16', block }] }],
  },
  goneNamespaces: [],
  confs: ['00-polynet.conflist', '10-bridge.conflist'],
  adaptors: [],
  spooled: 0,
}
const well: View = { nodes: [node], pods: [web], blocks: [blueBlock], slices: [slice], seen: [seen] }

const on = (changes: Partial<SeenNode>): View => ({ ...well, seen: [{ ...seen, ...changes }] })
const without = (changes: Partial<View>): View => ({ ...well, seen: [], ...changes })
const [first] = slice.attachments
const other = 'pn0123456789ab'

const cases: [title: string, view: View, problems: string[]][] = [
  ['all is well', well, []],
  ['all is well, as the API server has it', without({}), []],
  [
    'an interface of nobody, and what leads to it',
    on({
      kernel: [
        ...seen.kernel,
        `link ${at} ${other} veth up`,
        routeLine(at, { to: '10.1.0.9/32', link: other }),
      ],
    }),
    [`node n1: link ${other} in namespace ${at} belongs to no pod`],
  ],
  [
    'an address that a port may send though it is not its own',
    on({
      kernel: [
        ...seen.kernel,
        elementLine(at, 'inet', 'polynet', 'ports', { key: [link, '0a:58:0a:01:00:07', '10.1.0.9'] }),
      ],
    }),
    [`node n1: element ${at} inet polynet ports: ${link} . 0a:58:0a:01:00:07 . 10.1.0.9 belongs to no pod`],
  ],
  [
    'a namespace of no network with an interface in it, and its uplink',
    on({
      kernel: [
        ...seen.kernel,
        'namespace pn-none',
        `link pn-none ${other} veth up`,
        `link host ${uplinkName('none')} up`,
      ],
    }),
    [
      'node n1: namespace pn-none belongs to no network',
      `node n1: link ${uplinkName('none')} in namespace host belongs to no network`,
    ],
  ],
  [
    'an interface that is not as planned',
    on({ differences: ['default/web eth1: link eth1 is missing'] }),
    ['node n1: default/web eth1: link eth1 is missing'],
  ],
  [
    'a sandbox whose pod is gone',
    { ...well, pods: [] },
    ['node n1: the journal has sandbox c0ffee000000 of pod default/web, but there is no such pod'],
  ],
  [
    'a sandbox of a pod that is gone, which a plugin holds on to',
    {
      ...on({
        sandboxes: [{ ...sandbox, state: 'deleting', problem: 'it will not let go' }],
      }),
      ...{ pods: [], slices: [] },
    },
    ['node n1: the DEL of sandbox c0ffee000000 of pod default/web has not ended: it will not let go'],
  ],
  [
    'a sandbox whose namespace is gone',
    on({ goneNamespaces: ['/run/netns/web'] }),
    [
      'node n1: the journal has sandbox c0ffee000000 of pod default/web, but its namespace /run/netns/web is gone',
    ],
  ],
  [
    'a lease without a sandbox',
    on({
      holdings: {
        ...seen.holdings,
        leases: [
          ...seen.holdings.leases,
          {
            owner: { ...owner, pod: 'default/old', containerID: 'dead00000000beef' },
            network: 'default/blue',
            addresses: [{ address: '10.1.0.8/16', block }],
          },
        ],
      },
    }),
    [
      'node n1: 10.1.0.8 of network default/blue is leased to pod default/old (sandbox dead00000000), which the journal does not have',
    ],
  ],
  [
    'an interface whose address was never leased',
    on({ holdings: { ...seen.holdings, leases: [] } }),
    ['node n1: eth1 of sandbox c0ffee000000 of pod default/web has 10.1.0.7, which is not leased to it'],
  ],
  [
    "a lease from another node's block",
    { ...well, blocks: [{ ...blueBlock, spec: { ...blueBlock.spec, nodeUID: 'n1-old' } }] },
    [
      "AddressBlock 10.1.0.0/26 of network default/blue is node n1's with UID n1-old, which is not there",
      "pod default/web on node n1 holds 10.1.0.7/16 of default/blue, but its block is node n1's",
    ],
  ],
  [
    'a pod without its interfaces, and its slice',
    on({ sandboxes: [], kernel: [], holdings: { ...seen.holdings, leases: [] } }),
    [
      'node n1: pod default/web runs, but the journal has no sandbox of it',
      'node n1: AttachmentSlice default/blue-1 has eth1 of pod default/web with 10.1.0.7 of network default/blue, which the journal does not have',
    ],
  ],
  [
    'a pod that nobody published',
    { ...well, slices: [] },
    [
      'node n1: no AttachmentSlice has eth1 of sandbox c0ffee000000 of pod default/web, with 10.1.0.7 of network default/blue',
    ],
  ],
  [
    'another program that reads the same annotations',
    on({
      confs: ['0-polynet.conflist', '00-multus.conf', '10-bridge.conflist'],
      adaptors: ['00-multus.conf'],
    }),
    ['node n1: 00-multus.conf is of a program that attaches pods by the same annotations as Polynet'],
  ],
  ['DELs that wait', on({ spooled: 2 }), ['node n1: 2 DELs wait in the spool']],
  [
    'two pods with one address',
    without({
      nodes: [node, { ...node, metadata: { name: 'n2', uid: 'n2-uid' } }],
      pods: [
        web,
        { ...web, metadata: { ...web.metadata, uid: 'db-uid' }, spec: { nodeName: 'n2', containers: [] } },
      ],
      slices: [
        slice,
        {
          ...slice,
          node: 'n2',
          nodeUID: 'n2-uid',
          attachments: [{ ...(first as NonNullable<typeof first>), pod: 'db', podUID: 'db-uid' }],
        },
      ],
    }),
    [
      '10.1.0.7 of network default/blue is held by pod default/web (eth1) on node n1 and by pod default/db (eth1) on node n2',
    ],
  ],
  [
    'an attachment of no pod',
    without({ pods: [] }),
    ['node n1: eth1 of pod default/web is attached to network default/blue, but there is no such pod'],
  ],
  [
    'what a node left that is gone',
    without({ nodes: [] }),
    [
      'AttachmentSlice default/blue-1 is of node n1 with UID n1-uid, which is not there',
      "AddressBlock 10.1.0.0/26 of network default/blue is node n1's with UID n1-uid, which is not there",
    ],
  ],
]

for (const [title, view, problems] of cases)
  test(`diagnosed: ${title}`, () => {
    const found = diagnose(view)
    assert.deepEqual(
      found.map(({ node: where, problem }) => (where ? `node ${where}: ${problem}` : problem)),
      problems,
    )
    for (const finding of found) assert.match(findingText(finding), /; \S/)
  })
