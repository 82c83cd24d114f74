import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Attached, networkStatus } from './network-status.ts'

const management: Attached = {
  name: 'blue/management',
  interface: 'eth0',
  default: true,
  result: {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', mac: '0a:58:0a:01:00:07', mtu: 1450, sandbox: '/run/netns/web' }],
    ips: [
      { address: '10.1.0.7/16', gateway: '10.1.0.1', interface: 0 },
      { address: 'fd00:10:1::7/64', interface: 0 },
    ],
    routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1' }, { dst: '::/0', gw: 'fe80::1' }, { dst: '10.1.0.0/16' }],
    dns: { nameservers: ['10.1.0.2'], search: ['blue.example'], domain: '', options: [] },
  },
}
const bridge: Attached = {
  name: 'red/bridge-conf',
  interface: 'net1',
  default: false,
  result: {
    cniVersion: '1.0.0',
    interfaces: [
      { name: 'br0', mac: '02:00:00:00:00:01' },
      { name: 'veth1', mac: '02:00:00:00:00:02' },
      { name: 'net1', mac: '02:00:00:00:00:03', sandbox: '/run/netns/web' },
    ],
    ips: [{ address: '10.2.0.9/16', gateway: '10.2.0.1', interface: 2 }],
    routes: [{ dst: '0.0.0.0/0' }],
  },
  deviceInfo: { type: 'pci', version: '1.1.0', pci: { 'pci-address': '0000:81:00.1' } },
}
const empty: Attached = { name: 'lonely', interface: 'net2', default: false, result: { cniVersion: '0.4.0' } }

test('network-status has the fields of the de-facto standard, one entry an attachment', () => {
  const { 'k8s.v1.cni.cncf.io/network-status': status, ...others } = networkStatus([
    management,
    bridge,
    empty,
  ])
  assert.deepEqual(others, {})
  assert.equal(
    status,
    `[
    {
        "name": "blue/management",
        "interface": "eth0",
        "ips": [
            "10.1.0.7",
            "fd00:10:1::7"
        ],
        "mac": "0a:58:0a:01:00:07",
        "mtu": 1450,
        "default": true,
        "dns": {
            "nameservers": [
                "10.1.0.2"
            ],
            "search": [
                "blue.example"
            ]
        },
        "gateway": [
            "169.254.1.1",
            "fe80::1"
        ]
    },
    {
        "name": "red/bridge-conf",
        "interface": "net1",
        "ips": [
            "10.2.0.9"
        ],
        "mac": "02:00:00:00:00:03",
        "dns": {},
        "device-info": {
            "type": "pci",
            "version": "1.1.0",
            "pci": {
                "pci-address": "0000:81:00.1"
            }
        },
        "gateway": [
            "10.2.0.1"
        ]
    },
    {
        "name": "lonely",
        "interface": "net2",
        "dns": {}
    }
]`,
  )
})

const npwg = 'k8s.v1.cni.cncf.io/networks'
const preferences: [
  title: string,
  attached: Attached[],
  annotations: Record<string, string>,
  want?: string,
][] = [
  [
    'two plugins of CNI-Genie',
    [management, bridge],
    { cni: 'calico,weave', 'multi-ip-preferences': 'the user’s own' },
    '{"multi_entry":2,"ips":{"ip1":{"ip":"10.1.0.7","interface":"eth0"},"ip2":{"ip":"10.2.0.9","interface":"net1"}}}',
  ],
  [
    'an attachment without address',
    [management, empty],
    { cni: '' },
    '{"multi_entry":2,"ips":{"ip1":{"ip":"10.1.0.7","interface":"eth0"},"ip2":{"interface":"net2"}}}',
  ],
  ['one plugin', [management], { cni: 'calico' }],
  ['the talk’s spelling', [management, bridge], { networks: 'a b' }],
  ['NPWG beside it', [management, bridge], { cni: 'calico', [npwg]: 'a' }],
]

for (const [title, attached, annotations, want] of preferences)
  test(`multi-ip-preferences: ${title}: ${want ? 'written' : 'not written'}`, () =>
    assert.equal(networkStatus(attached, annotations)['multi-ip-preferences'], want))
