import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkAttachmentDefinition, Pod } from '../api/core.ts'
import { crds } from '../api/crds.ts'
import type { Network } from '../api/network.ts'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { wantedBy } from './wanted.ts'
import { watch } from './watched.ts'

// Tenant a's pod asks for what her namespace has; blue is hers, red is tenant b's.

const network = (namespace: string, name: string, spec: Network['spec']) => ({
  metadata: { namespace, name },
  spec,
})
const networks = [
  network('polynet-system', 'default', { subnets: [{ cidr: '10.244.0.0/16' }] }),
  network('tenant-a', 'blue', { subnets: [{ cidr: '10.1.0.0/16' }] }),
  network('tenant-b', 'red', { subnets: [{ cidr: '10.2.0.0/16' }] }),
  network('tenant-a', 'wire', { topology: 'Direct', subnets: [{ cidr: '192.168.1.0/24' }] }),
  network('tenant-a', 'nic', {
    topology: 'Direct',
    direct: { mode: 'host-device' },
    physicalNetwork: 'phy-net0',
    subnets: [{ cidr: '192.168.10.0/24' }],
  }),
  network('tenant-a', 'dedicated', {
    topology: 'Direct',
    physicalNetwork: 'phy-net0',
    subnets: [{ cidr: '192.168.10.0/24' }],
  }),
  network('tenant-a', 'odd', { plugin: 'node-bridge', subnets: [{ cidr: '192.168.1.0/24' }] }),
  network('tenant-a', 'plain', { plugin: 'node-bridge' }),
  network('tenant-a', 'own', { plugin: 'host-device', config: '{"type":"host-device","device":"eth0"}' }),
]
const ipam = (name: string) => `{"type":"dummy","ipam":{"type":"polynet-ipam","network":"${name}"}}`
const definitions: [name: string, config: string | undefined][] = [
  ['nic', '{"type":"host-device","device":"eth0"}'],
  ['blue-ips', ipam('tenant-a/blue')],
  ['red-ips', ipam('tenant-b/red')],
  ['no-ips', ipam('tenant-b/none')],
  ['macvlan', undefined],
  ['node-bridge', undefined],
  ['sriov-net', '{"type":"dummy","name":"x"}'],
  ['long', JSON.stringify({ type: 'dummy', name: 'x'.repeat(70_000) })],
]

async function asked(annotations: Record<string, string>, allowed: string | undefined): Promise<string> {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  for (const name of ['polynet-system', 'tenant-a', 'tenant-b'])
    await kube.create(resources.namespaces, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name,
        ...(allowed !== undefined ? { annotations: { 'polynet.dev/allowed-plugins': allowed } } : {}),
      },
    })
  for (const one of networks)
    await kube.create(resources.networks, {
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      ...one,
    } as Network)
  for (const [name, config] of definitions)
    await kube.create(resources.networkAttachmentDefinitions, {
      apiVersion: 'k8s.cni.cncf.io/v1',
      kind: 'NetworkAttachmentDefinition',
      metadata: { namespace: 'tenant-a', name },
      spec: config === undefined ? {} : { config },
    } as NetworkAttachmentDefinition)
  const watched = watch({ kube, clock, log: silentLog, node: 'n1' })
  await watched.synced()
  const pod = { metadata: { namespace: 'tenant-a', name: 'evil', annotations }, spec: { containers: [] } }
  const conf = {
    name: 'node-bridge',
    cniVersion: '1.0.0',
    plugins: [{ type: 'bridge', isGateway: true }],
    source: '/etc/cni/net.d/20-node-bridge.conf',
  }
  try {
    const wanted = wantedBy(
      pod as unknown as Pod,
      {
        watched,
        views: { overlap: () => undefined },
        confs: [conf],
      },
      {},
    )
    return wanted
      .map(({ by }) => (by.kind === 'plugin' ? String(by.conf.plugins[0]?.type) : by.kind))
      .join(' ')
  } catch (error) {
    return (error as Error).message
  } finally {
    watched.close()
  }
}

const npwg = (name: string, more = {}) => ({
  'k8s.v1.cni.cncf.io/networks': JSON.stringify([{ name, ...more }]),
  'polynet.dev/default-network': 'polynet-system/default',
})

const cases: [
  what: string,
  annotations: Record<string, string>,
  allowed: string | undefined,
  want: RegExp,
][] = [
  ['a NIC of the host', npwg('nic'), undefined, /host-device is not for namespace tenant-a/],
  ['a NIC of the host, where that is allowed', npwg('nic'), '*', /host-device$/],
  ['addresses of her own network', npwg('blue-ips'), 'dummy', /dummy$/],
  [
    "addresses of another's network",
    npwg('red-ips'),
    'dummy',
    /no Network tenant-b\/red that admits pods of namespace tenant-a;/,
  ],
  ["addresses of another's network, with all plugins", npwg('red-ips'), '*', /that admits pods of/],
  [
    "addresses of another's network that is not there",
    npwg('no-ips'),
    '*',
    /no Network tenant-b\/none that admits/,
  ],
  ['the conf that CNI-Genie made', npwg('macvlan'), undefined, /macvlan is not for namespace tenant-a/],
  ['the same by its name', { cni: 'macvlan@eth1' }, undefined, /macvlan is not for namespace tenant-a/],
  ["the node's conf", npwg('node-bridge'), undefined, /bridge$/],
  ['a device of her choice', npwg('sriov-net', { deviceID: '0000:81:00.0' }), undefined, /dummy is not for/],
  ['the same, where that is allowed', npwg('sriov-net', { deviceID: '0000:81:00.0' }), 'dummy', /dummy$/],
  ['more than the journal should keep', npwg('long'), '*', /write at most 65536/],
  ["the nodes' own wire", { networks: 'wire' }, undefined, /macvlan is not for namespace tenant-a/],
  ['a NIC by a Network', { networks: 'nic' }, undefined, /host-device is not for namespace tenant-a/],
  ['a wire that is there for networks', { networks: 'dedicated' }, undefined, /polynet$/],
  ["the node's conf with addresses of hers", { networks: 'odd' }, undefined, /bridge is not for/],
  ["the node's conf as it is, by a Network", { networks: 'plain' }, undefined, /bridge$/],
  [
    'two networks that she does not get',
    { networks: 'own wire' },
    undefined,
    /^attach pod tenant-a\/evil: attach eth1 by Network tenant-a\/own: .*; attach eth2 to Network tenant-a\/wire: /,
  ],
  ["a plugin of a Network's own", { networks: 'own' }, undefined, /host-device is not for/],
]
for (const [what, annotations, allowed, want] of cases)
  test(`a tenant's pod asks for ${what}: ${want.source}`, async () => {
    assert.match(await asked(annotations, allowed), want)
  })
