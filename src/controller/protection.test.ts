import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AttachmentSlice } from '../api/attachment-slice.ts'
import type { Network } from '../api/network.ts'
import { finalizersOf, usersOf } from './protection.ts'

const blue = (metadata: Partial<Network['metadata']> = {}, plugin?: string): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { name: 'blue', namespace: 'tenant-a', uid: 'blue-uid', ...metadata },
  spec: plugin ? { plugin } : {},
})

const deleted = { deletionTimestamp: '2026-01-01T00:00:00Z' }
const ours = { finalizers: ['example.com/other', 'polynet.dev/pods'] }

const cases: [string, Network, used: boolean, string[]][] = [
  ['a new network gets ours', blue(), false, ['polynet.dev/pods']],
  ['and keeps that of others', blue({ finalizers: ['example.com/other'] }), true, ours.finalizers],
  ['one that has it is left as it is', blue(ours), false, ours.finalizers],
  ['one that is deleted keeps it while pods use it', blue({ ...ours, ...deleted }), true, ours.finalizers],
  ['and loses only ours with the last pod', blue({ ...ours, ...deleted }), false, ['example.com/other']],
  [
    'one whose owner took it off meanwhile does not get it again',
    blue({ finalizers: ['example.com/other'], ...deleted }),
    true,
    ['example.com/other'],
  ],
  ['one that another plugin carries needs none', blue({}, 'bridge'), false, []],
]

for (const [title, network, used, want] of cases)
  test(`finalizers: ${title}`, () => assert.deepEqual(finalizersOf(network, used), want))

const slice = (networkUID: string, node: string, ...pods: string[]): AttachmentSlice => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'AttachmentSlice',
  metadata: { name: `blue-${node}`, namespace: 'tenant-a' },
  network: 'blue',
  networkUID,
  node,
  nodeUID: node,
  attachments: pods.map((name) => {
    const [podNamespace = '', pod = ''] = name.split('/')
    return { pod, podNamespace, podUID: name, containerID: name, interface: 'eth1', ips: [] }
  }),
})

test('users are the pods of all nodes, but not those of another network that had the name', () => {
  const slices = [
    slice('blue-uid', 'n2', 'tenant-a/b', 'tenant-a/b'),
    slice('blue-uid', 'n1', 'tenant-a/a'),
    slice('old-uid', 'n3', 'tenant-a/old'),
  ]
  assert.deepEqual(usersOf(blue(), slices), ['tenant-a/a', 'tenant-a/b'])
})
