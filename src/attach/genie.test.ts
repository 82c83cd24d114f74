import assert from 'node:assert/strict'
import { test } from 'node:test'
import { genieConf } from './genie.ts'
import { confOf, defaultConf, pluginNameOf } from './plugin-name.ts'

// The names, types and subnets that CNI-Genie generated: pods and their neighbours know them.
test('a bridge', () =>
  assert.deepEqual(genieConf('bridge'), {
    name: 'mybridgenet',
    cniVersion: '0.3.1',
    plugins: [{ type: 'bridge', ipam: { type: 'host-local', subnet: '10.10.0.0/16' } }],
    source: 'generated for bridge',
  }))

test('a macvlan on the NIC of the host’s default route, with a subnet of one’s own', () =>
  assert.deepEqual(genieConf('macvlan', '10.1.0.0/16', 'ens3'), {
    name: 'macvlannet',
    cniVersion: '0.3.1',
    plugins: [{ type: 'macvlan', master: 'ens3', ipam: { type: 'host-local', subnet: '10.1.0.0/16' } }],
    source: 'generated for macvlan',
  }))

test('an SR-IOV device', () =>
  assert.deepEqual(genieConf('sriov'), {
    name: 'sriovnet',
    cniVersion: '0.3.1',
    plugins: [
      {
        type: 'sriov',
        master: 'eth0',
        ipam: {
          type: 'fixipam',
          subnet: '10.55.206.0/26',
          routes: [{ dst: '0.0.0.0/0' }],
          gateway: '10.55.206.1',
        },
      },
    ],
    source: 'generated for sriov',
  }))

for (const other of ['weave', 'calico', '__proto__', 'constructor'])
  test(`nothing is generated for ${other}`, () => assert.equal(genieConf(other), undefined))

const files: [file: string, plugin: string][] = [
  ['10-calico.conflist', 'calico'],
  ['/etc/cni/net.d/weave.conf', 'weave'],
  ['/etc/cni/net.d/100-crio-bridge.conf', 'crio-bridge'],
  ['-odd.conf', '-odd'],
  ['.conf', '.conf'],
  ['bare', 'bare'],
]
for (const [file, plugin] of files)
  test(`${file} stands for ${plugin}`, () => assert.equal(pluginNameOf(file), plugin))

const confs = [
  { name: 'lo', source: '99-loopback.conf' },
  { name: 'multus-cni-network', source: '00-multus.conf' },
  { name: 'weave', source: '10-flannel.conflist' },
  { name: 'mesh', source: '20-weave.conf' },
]
test('a plugin’s conf is the one whose file stands for it, before one of that name', () => {
  assert.deepEqual(confOf('weave', confs), confs[3])
  assert.deepEqual(confOf('mesh', confs), confs[3])
  assert.equal(confOf('calico', confs), undefined)
})
test('the default network is given by the first conf that is a network', () => {
  assert.deepEqual(defaultConf(confs), confs[2])
  assert.equal(defaultConf(confs.slice(0, 2)), undefined)
  const loopback = { name: 'lo', source: '200-lo.conflist', plugins: [{ type: 'loopback' }] }
  assert.equal(defaultConf([loopback]), undefined)
  assert.deepEqual(defaultConf([loopback, ...confs]), confs[2])
})
