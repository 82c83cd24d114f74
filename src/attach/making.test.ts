import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkAttachmentDefinition } from '../api/core.ts'
import { makingsOf, resourceNameKey } from './making.ts'
import type { AttachmentRequest } from './request.ts'

const definition = (name: string, config?: object, resource?: string): NetworkAttachmentDefinition => ({
  apiVersion: 'k8s.cni.cncf.io/v1',
  kind: 'NetworkAttachmentDefinition',
  metadata: {
    namespace: 'blue',
    name,
    ...(resource ? { annotations: { [resourceNameKey]: resource } } : {}),
  },
  spec: config ? { config: JSON.stringify(config) } : {},
})
const definitions = [
  definition(
    'vf',
    { cniVersion: '1.0.0', plugins: [{ type: 'sriov' }, { type: 'tuning' }] },
    'intel.com/sriov',
  ),
  definition('conf', { type: 'sriov', capabilities: { deviceID: true } }, 'intel.com/sriov'),
  definition('on-the-node', undefined, 'intel.com/sriov'),
  definition('tap', { type: 'tap' }, 'example.com/tap'),
  definition('plain', { type: 'dummy' }),
]
const request = (name: string, i: number, more: Partial<AttachmentRequest> = {}): AttachmentRequest => ({
  interface: `net${i}`,
  target: { kind: 'NetworkAttachmentDefinition', namespace: 'blue', name },
  source: 'k8s.v1.cni.cncf.io/networks',
  default: false,
  ...more,
})
const given = new Map([
  ['intel.com/sriov', ['0000:81:00.1', '0000:81:00.2']],
  ['example.com/other', ['tap7']],
])

/** `<device in the first plugin> <in the others> <in the runtime's arguments>` of each. */
function devices(
  requests: AttachmentRequest[],
  { allowed = 'sriov,tap,tuning,dummy', devices = given }: { allowed?: string; devices?: typeof given } = {},
): string[] {
  const makings = makingsOf({ namespace: 'blue', name: 'a' }, requests, {
    network: () => undefined,
    definition: (_, name) => definitions.find(({ metadata }) => metadata.name === name),
    namespace: () => ({ annotations: { 'polynet.dev/allowed-plugins': allowed } }),
    confs: [
      { name: 'on-the-node', cniVersion: '1.0.0', plugins: [{ type: 'sriov' }], source: '/etc/cni/net.d/20' },
    ],
    devices: () => devices,
    args: {},
  })
  return makings.map((making) => {
    assert.ok(making?.kind === 'plugin')
    const [first, ...rest] = making.conf.plugins
    const of = (plugin: Record<string, unknown> | undefined) =>
      plugin?.deviceID === plugin?.pciBusID ? (plugin?.deviceID ?? '-') : 'two'
    return [of(first), ...rest.map(of), making.capabilityArgs.deviceID ?? '-'].join(' ')
  })
}

test('each attachment has the next device that the kubelet gave of its resource, where SR-IOV plugins look for it', () => {
  assert.deepEqual(devices([request('vf', 1), request('plain', 2), request('conf', 3)]), [
    '0000:81:00.1 - 0000:81:00.1',
    '- -',
    '0000:81:00.2 0000:81:00.2',
  ])
})

test("a conf of the node's has one as well, and nobody has to allow what the kubelet gave", () => {
  assert.deepEqual(devices([request('on-the-node', 1)], { allowed: '' }), ['0000:81:00.1 0000:81:00.1'])
})

test('a resource that has no devices, or too few, leaves the plugin to itself', () => {
  assert.deepEqual(devices([request('tap', 1), request('conf', 2), request('conf', 3), request('conf', 4)]), [
    '- -',
    '0000:81:00.1 0000:81:00.1',
    '0000:81:00.2 0000:81:00.2',
    '- -',
  ])
})

test('a pod that names a device itself gets that one where it may, and the kubelet’s goes to nobody else', () => {
  assert.deepEqual(devices([request('conf', 1, { deviceID: '0000:c1:00.1' }), request('conf', 2)]), [
    '0000:c1:00.1 0000:c1:00.1',
    '0000:81:00.2 0000:81:00.2',
  ])
})
