import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../api/address-block.ts'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import { consistency, leaks, type NodeHoldings } from './consistency.ts'

const block = (cidr: string, node: string, holder?: string, networkUID = 'blue'): AddressBlock => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AddressBlock',
  metadata: { namespace: 'lab', name: `${networkUID} ${cidr}` },
  spec: { network: networkUID, networkUID, cidr, node, nodeUID: node, ...(holder ? { holder } : {}) },
})

/** A node that holds `pod address cidr` for each line. */
const holds = (node: string, ...lines: string[]): NodeHoldings => ({
  node,
  nodeUID: node,
  blocks: new Map(
    lines.map((line) => {
      const cidr = line.split(' ')[2]!
      return [`blue ${cidr}`, { cidr, networkUID: 'blue', nodeUID: node }]
    }),
  ),
  leases: lines.map((line) => {
    const [pod = '', address = '', cidr = ''] = line.split(' ')
    return {
      owner: { pod: `lab/${pod}`, containerID: `sandbox-${pod}`, interface: 'eth1' },
      network: 'lab/blue',
      addresses: [{ address: `${address}/16`, block: `blue ${cidr}` }],
    }
  }),
})

const slice = (node: string, ...lines: string[]): AttachmentSlice => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AttachmentSlice',
  metadata: { namespace: 'lab', name: `blue-${node}` },
  network: 'blue',
  networkUID: 'blue-uid',
  node,
  nodeUID: node,
  attachments: lines.map((line) => {
    const [pod = '', ip = ''] = line.split(' ')
    return {
      pod,
      podNamespace: 'lab',
      podUID: 'u',
      containerID: `sandbox-${pod}`,
      interface: 'eth1',
      ips: [ip],
    }
  }),
})

const one = block('10.1.0.0/26', 'n1')
const two = block('10.1.0.64/26', 'n2')
const web = holds('n1', 'web 10.1.0.7 10.1.0.0/26')
const n2 = 'pod lab/db on node n2 holds'

const cases: [title: string, args: Parameters<typeof consistency>, want: string[]][] = [
  [
    'all is well',
    [
      [one, two],
      [web, holds('n2', 'db 10.1.0.70 10.1.0.64/26')],
      [slice('n1', 'web 10.1.0.7'), slice('n2', 'db 10.1.0.70')],
    ],
    [],
  ],
  ['networks may overlap', [[one, block('10.1.0.0/24', 'n2', undefined, 'green')], []], []],
  [
    'a single address within a block',
    [[one, block('10.1.0.7/32', 'n2', 'pod lab/db'), two], []],
    ['network lab/blue: 10.1.0.0/26 of node n1 overlaps 10.1.0.7/32 of node n2'],
  ],
  [
    'a block under two names',
    [[block('10.1.0.0/25', 'n2'), one], []],
    ['network lab/blue: 10.1.0.0/25 of node n2 overlaps 10.1.0.0/26 of node n1'],
  ],
  [
    'a block that is gone',
    [[one], [holds('n2', 'db 10.1.0.70 10.1.0.64/26')]],
    [`${n2} 10.1.0.70/16 of lab/blue, but its block blue 10.1.0.64/26 does not exist`],
  ],
  [
    'a block of another node',
    [[one], [holds('n2', 'db 10.1.0.7 10.1.0.0/26')]],
    [`${n2} 10.1.0.7/16 of lab/blue, but its block is node n1's`],
  ],
  [
    'an address outside its block',
    [[two], [holds('n2', 'db 10.1.0.7 10.1.0.64/26')]],
    [`${n2} 10.1.0.7/16 of lab/blue, which is not in its block blue 10.1.0.64/26`],
  ],
  [
    'an address held twice on one node',
    [[one], [holds('n1', 'web 10.1.0.7 10.1.0.0/26', 'db 10.1.0.7 10.1.0.0/26')]],
    [
      '10.1.0.7/16 of lab/blue is held twice: by pod lab/web (sandbox-web/eth1) on node n1 and by pod lab/db (sandbox-db/eth1) on node n1',
    ],
  ],
  [
    'held and not attached',
    [[one], [web], []],
    ['pod lab/web on node n1 holds 10.1.0.7/16 of lab/blue but is not attached with it'],
  ],
  [
    'attached and not held',
    [[], [], [slice('n1', 'web 10.1.0.7')]],
    ['pod lab/web on node n1 is attached with 10.1.0.7, which it does not hold'],
  ],
]

for (const [title, args, want] of cases) test(title, () => assert.deepEqual(consistency(...args), want))

test('a block in which nobody holds anything leaks, unless it is kept for somebody', () => {
  const kept = [block('10.1.240.7/32', 'n1', 'claim lab/vm'), block('10.1.240.8/32', 'n1', 'pod lab/gone')]
  assert.deepEqual(leaks([one, two, ...kept], [web]), [
    'block 10.1.0.64/26 of lab/blue is leased to node n2, where nobody uses it',
    'block 10.1.240.8/32 of lab/blue is leased to node n1, where nobody uses it',
  ])
})
