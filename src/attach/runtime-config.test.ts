import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkConf } from '../cni/plugins.ts'
import { sentence } from '../lib/fault.ts'
import type { AttachmentRequest } from './request.ts'
import { argsFor, confFor, missingCapabilities, runtimeConfigFor, unheardRoute } from './runtime-config.ts'

const plain: AttachmentRequest = {
  interface: 'net1',
  target: { kind: 'NetworkAttachmentDefinition', namespace: 'blue', name: 'macvlan-conf' },
  source: 'k8s.v1.cni.cncf.io/networks',
  default: false,
}
const full: AttachmentRequest = {
  ...plain,
  ips: ['10.1.0.7/16'],
  mac: '02:00:00:00:00:07',
  portMappings: [
    { hostPort: 80, containerPort: 8080 },
    { hostPort: 53, containerPort: 53, protocol: 'udp' },
  ],
  bandwidth: { ingressRate: 1000000, ingressBurst: 80000 },
  infinibandGuid: '24:8a:07:03:00:8d:ae:2e',
  deviceID: '0000:81:00.1',
  cniArgs: { mode: 'fast' },
  ipamClaim: 'not a capability',
}
const conf = (...plugins: Record<string, unknown>[]): NetworkConf => ({
  name: 'macvlan-conf',
  cniVersion: '1.0.0',
  plugins,
  source: 'NetworkAttachmentDefinition blue/macvlan-conf',
})

test('a request that wishes nothing says nothing to plugins', () =>
  assert.deepEqual(runtimeConfigFor(plain), {}))

test('each wish becomes the argument of its capability', () =>
  assert.deepEqual(runtimeConfigFor(full), {
    ips: ['10.1.0.7/16'],
    mac: '02:00:00:00:00:07',
    portMappings: [
      { hostPort: 80, containerPort: 8080, protocol: 'tcp' },
      { hostPort: 53, containerPort: 53, protocol: 'udp' },
    ],
    bandwidth: { ingressRate: 1000000, ingressBurst: 80000 },
    infinibandGUID: '24:8a:07:03:00:8d:ae:2e',
    deviceID: '0000:81:00.1',
  }))

const told = (network: NetworkConf) => sentence(missingCapabilities(network, runtimeConfigFor(full)))
const remedy = (name: string) =>
  'no plugin of NetworkAttachmentDefinition blue/macvlan-conf takes it; ' +
  `add "capabilities": {"${name}": true} to the one that does, or do not ask for it`

test('what no plugin of the chain takes is named', () =>
  assert.equal(
    told(
      conf(
        { type: 'ipvlan', capabilities: { ips: true, mac: false } },
        { type: 'portmap', capabilities: { portMappings: true } },
      ),
    ),
    `mac: ${remedy('mac')}; bandwidth: ${remedy('bandwidth')}; infiniband-guid: ${remedy('infinibandGUID')}`,
  ))

test('one plugin of the chain is enough', () => {
  const all = { ips: true, mac: true, portMappings: true, bandwidth: true, infinibandGUID: true }
  assert.equal(told(conf({ type: 'tuning' }, { type: 'all', capabilities: all })), '')
})

test('the pod’s cni-args win over each plugin’s, and the device goes to the first', () =>
  assert.deepEqual(
    confFor(
      conf({ type: 'sriov', args: { cni: { mode: 'slow', vlan: 7 }, other: {} } }, { type: 'tuning' }),
      full,
    ).plugins,
    [
      {
        type: 'sriov',
        args: { cni: { mode: 'fast', vlan: 7 }, other: {} },
        deviceID: '0000:81:00.1',
        pciBusID: '0000:81:00.1',
      },
      { type: 'tuning', args: { cni: { mode: 'fast' } } },
    ],
  ))

const given = (...plugins: Record<string, unknown>[]) => ({
  args: argsFor(conf(...plugins), full),
  lacking: missingCapabilities(
    conf(...plugins),
    runtimeConfigFor({ ...plain, ips: full.ips, mac: full.mac }),
  ),
})

test('addresses and MACs go by CNI_ARGS to plugins that read them there and declare nothing', () => {
  assert.deepEqual(given({ type: 'macvlan', ipam: { type: 'static' } }), {
    args: { IP: '10.1.0.7/16', MAC: '02:00:00:00:00:07' },
    lacking: [],
  })
  const both = { ips: true, mac: true }
  assert.deepEqual(given({ type: 'macvlan', ipam: { type: 'static' }, capabilities: both }), {
    args: {},
    lacking: [],
  })
  assert.deepEqual(given({ type: 'ipvlan', ipam: { type: 'dhcp' } }).args, {})
  assert.equal(given({ type: 'ipvlan', ipam: { type: 'dhcp' } }).lacking.length, 2)
})

test('the default route goes to the address plugin, in place of its own, or is refused where none hears of it', () => {
  const request = { ...plain, defaultRoute: ['10.1.0.1', 'fd00:10:1::1'] }
  const routes = [{ dst: '10.2.0.0/16' }, { dst: '0.0.0.0/0', gw: '10.1.0.9' }]
  const macvlan = { type: 'macvlan', ipam: { type: 'static', routes } }
  assert.deepEqual(confFor(conf(macvlan, { type: 'tuning' }), request).plugins, [
    {
      type: 'macvlan',
      ipam: {
        type: 'static',
        routes: [
          { dst: '10.2.0.0/16' },
          { dst: '0.0.0.0/0', gw: '10.1.0.1' },
          { dst: '::/0', gw: 'fd00:10:1::1' },
        ],
      },
    },
    { type: 'tuning' },
  ])
  assert.deepEqual(unheardRoute(conf(macvlan), request), [])
  assert.equal(
    sentence(unheardRoute(conf({ type: 'macvlan', ipam: { type: 'dhcp' } }), request)),
    'default-route: no address plugin of NetworkAttachmentDefinition blue/macvlan-conf takes it; ' +
      'let it be [], and the conf name the gateway',
  )
  const own = { ...plain, defaultRoute: [] }
  assert.deepEqual(unheardRoute(conf({ type: 'macvlan' }), own), [])
  assert.deepEqual(confFor(conf(macvlan), own).plugins, [macvlan])
})
