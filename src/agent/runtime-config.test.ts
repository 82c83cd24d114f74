import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import type { Making } from '../attach/making.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import { withRuntimeConfig } from './runtime-config.ts'

const network = (namespace: string, name: string): Making => ({
  kind: 'polynet',
  network: { metadata: { namespace, name }, spec: {} } as Network,
})
const bridge: Making = {
  kind: 'plugin',
  name: 'bridge',
  conf: {
    name: 'bridge',
    cniVersion: '1.0.0',
    source: '/etc/cni/net.d/20-bridge.conflist',
    plugins: [{ type: 'bridge' }, { type: 'portmap', capabilities: { portMappings: true } }],
  },
  args: {},
  capabilityArgs: {},
}
const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }]
const bandwidth = { ingressRate: 1_000_000, ingressBurst: 4294967295, egressRate: 0, egressBurst: 0 }
const runtimeConfig = { portMappings, bandwidth }

const cases: [string, string, Making, object, string][] = [
  [
    'the default network',
    'eth0',
    network('polynet-system', 'default'),
    runtimeConfig,
    'portmap bandwidth follow',
  ],
  [
    'the default network, ports',
    'eth0',
    network('polynet-system', 'default'),
    { portMappings },
    'portmap follow',
  ],
  [
    'the default network, a limit',
    'eth0',
    network('polynet-system', 'default'),
    { bandwidth },
    'bandwidth follow',
  ],
  [
    'the default network, a limit as containerd writes it',
    'eth0',
    network('polynet-system', 'default'),
    { bandwidth: { IngressRate: 0, IngressBurst: 0, EgressRate: 1_000_000, EgressBurst: 4294967295 } },
    'bandwidth follow',
  ],
  [
    'the default network, no limit',
    'eth0',
    network('polynet-system', 'default'),
    { bandwidth: { ingressRate: 0, egressRate: 0 } },
    'nothing',
  ],
  [
    'the default network, no port',
    'eth0',
    network('polynet-system', 'default'),
    { portMappings: [] },
    'nothing',
  ],
  ['the default network, nothing said', 'eth0', network('polynet-system', 'default'), {}, 'nothing'],
  ['another interface', 'net1', network('polynet-system', 'default'), runtimeConfig, 'nothing'],
  ['another network as eth0', 'eth0', network('default', 'blue'), runtimeConfig, 'nothing'],
  ['a plugin makes eth0', 'eth0', bridge, runtimeConfig, 'it gets portMappings'],
  ['a plugin makes another interface', 'net1', bridge, runtimeConfig, 'nothing'],
]

for (const [title, name, by, given, want] of cases)
  test(`${title}: ${want}`, () => {
    const request = { interface: name, default: name === 'eth0' } as AttachmentRequest
    const config = { cniVersion: '1.1.0', name: 'polynet', type: 'polynet-cni', runtimeConfig: { ...given } }
    const [one] = withRuntimeConfig([{ request, by }], config, { K8S_POD_NAME: 'web' })
    const told = one?.ports ?? (one?.by.kind === 'plugin' ? one.by : undefined)
    const names = Object.keys(told?.capabilityArgs ?? {}).join()
    const following = one?.ports?.conf.plugins.map(({ type }) => type).join(' ')
    assert.equal(following ? `${following} follow` : names ? `it gets ${names}` : 'nothing', want)
    for (const [name, value] of Object.entries(told?.capabilityArgs ?? {}))
      assert.deepEqual(value, (given as Record<string, unknown>)[name])
  })
