import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sentence } from '../lib/fault.ts'
import { parseAny } from './kinds.ts'

const problems = (kind: string, rest: object, name = 'n1'): string[] => {
  const parsed = parseAny({ apiVersion: 'polynet.dev/v1alpha1', kind, metadata: { name }, ...rest })
  return parsed?.ok ? [] : (parsed?.problems ?? []).map((p) => sentence([p]))
}

const block = {
  network: 'blue',
  networkUID: '5f0c',
  cidr: '10.1.0.64/26',
  node: 'n1',
  nodeUID: '77aa',
  endpoint: '192.168.10.11',
}

const attachment = {
  pod: 'web-1',
  podNamespace: 'default',
  podUID: '11',
  containerID: 'c0ffee',
  interface: 'eth1',
  ips: ['10.1.0.7', 'fd00:10:1::7'],
}

const cases: [kind: string, object: object, want: string[]][] = [
  [
    'PhysicalNetwork',
    {
      spec: {
        description: 'Rack switch',
        mtu: 9000,
        vlanRange: { min: 10, max: 20 },
        tunnelPort: 5789,
        nics: [
          { nodeSelector: { matchLabels: { rack: 'a' } }, match: { name: 'ens*', driver: 'ixgbe' } },
          { match: { pciAddress: '0000:3b:00.1' } },
          { match: { mac: '0A-58-0A-01-00-07' } },
        ],
        tenants: ['acme'],
      },
    },
    [],
  ],
  ['PhysicalNetwork', { spec: {} }, []],
  ['PhysicalNetwork', {}, ['spec: is missing; add it: What the wire is.']],
  [
    'PhysicalNetwork',
    {
      spec: {
        mtu: 100,
        vlanRange: { min: 20, max: 10 },
        tunnelPort: 80,
        nics: [
          { match: {} },
          {},
          { match: { name: 'a-name-that-is-too-long' } },
          { match: { name: 'eth 1', driver: 'a b', pciAddress: '3b:00.1', mac: 'ff:ff:ff:ff:ff:ff' } },
          { nodeSelector: { matchLabels: { 'a b': 'c' } }, match: { name: 'eth1' } },
        ],
        tenants: ['acme', 'acme'],
      },
    },
    [
      'spec.mtu: 100 is out of bounds; use 576–65535',
      'spec.tunnelPort: 80 is out of bounds; use 1024–65535',
      'spec.nics[1].match: is missing; add it: Which NIC is meant; all that is given must hold.',
      'spec.nics[2].match.name: a-name-that-is-too-long is not an interface name; write at most 15 of A-Z a-z 0-9 _ . - and the wildcards * and ?, such as eth1 or ens*',
      'spec.nics[3].match.name: "eth 1" is not an interface name; write at most 15 of A-Z a-z 0-9 _ . - and the wildcards * and ?, such as eth1 or ens*',
      'spec.nics[3].match.driver: "a b" is not a driver such as ixgbe; `ethtool -i` names it',
      'spec.nics[3].match.pciAddress: 3b:00.1 is not a PCI address such as 0000:3b:00.1',
      'spec.nics[3].match.mac: ff:ff:ff:ff:ff:ff is not the MAC of one interface such as 0a:58:0a:01:00:07',
      'spec.tenants[1]: acme is in spec.tenants[0] too; leave one out',
      'spec.vlanRange: min 20 is above max 10; exchange them',
      'spec.nics[0].match: matches every NIC; give at least one of name, driver, pciAddress, mac',
      'spec.nics[4].nodeSelector.matchLabels["a b"]: "a b" is not a label key; write [domain/]name, the name at most 63 of A-Z a-z 0-9 - _ .',
    ],
  ],
  [
    'PhysicalNetwork',
    { spec: { tunnelPort: 4789 } },
    ['spec.tunnelPort: other network plugins use ports 4789 and 8472; choose another, or none'],
  ],
  ['HostPhysicalNetwork', { spec: {} }, []],
  [
    'HostPhysicalNetwork',
    {
      spec: { mappings: [{ physicalNetwork: 'phy-net0', match: { name: 'eth1' } }] },
      status: {
        nics: [
          {
            name: 'eth1',
            mac: '0a:58:c0:a8:0a:0b',
            mtu: 1500,
            up: true,
            addresses: ['192.168.10.11/24', 'fe80::1/64'],
          },
        ],
        mappings: [{ physicalNetwork: 'phy-net0', nic: 'eth1', usable: true, message: '' }],
        nicNames: 'eth1',
        mapped: 'phy-net0=eth1',
        conditions: [],
      },
    },
    [],
  ],
  [
    'HostPhysicalNetwork',
    {
      spec: {
        mappings: [
          { physicalNetwork: 'phy_net0', match: { name: 'eth1' } },
          { physicalNetwork: 'phy-net1', match: {} },
          { physicalNetwork: 'phy-net1', match: { name: 'eth2' } },
        ],
      },
    },
    [
      'spec.mappings[0].physicalNetwork: phy_net0 is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9',
      'spec.mappings[2].physicalNetwork: phy-net1 is in spec.mappings[1] too; leave one out',
      'spec.mappings[1].match: matches every NIC; give at least one of name, driver, pciAddress, mac',
    ],
  ],
  ['AddressBlock', { spec: block }, []],
  ['AddressBlock', { spec: { ...block, cidr: '10.1.0.7/32', holder: 'claim default/web' } }, []],
  [
    'AddressBlock',
    { spec: { ...block, cidr: '10.1.0.65/26', endpoint: 'eth1', nodeUID: null } },
    [
      'spec.cidr: 10.1.0.65/26 has host bits set; write 10.1.0.64/26 if that is the prefix meant',
      'spec.nodeUID: is missing; add it: UID of the Node: another of the same name has to lease anew.',
      'spec.endpoint: eth1 is not an address such as 10.1.0.7 or fd00:10:1::7',
    ],
  ],
  [
    'AttachmentSlice',
    { network: 'blue', networkUID: '5f0c', node: 'n1', nodeUID: '77aa', attachments: [attachment] },
    [],
  ],
  [
    'AttachmentSlice',
    { network: 'blue', networkUID: '5f0c', node: 'n1', nodeUID: '77aa', attachments: [] },
    [],
  ],
  [
    'AttachmentSlice',
    {
      network: 'blue',
      networkUID: '5f0c',
      node: 'n1',
      nodeUID: '77aa',
      attachments: [
        attachment,
        { ...attachment, interface: 'eth 1', mac: 'x', ips: ['10.1.0.7/16', '10.1.0.7', '10.1.0.7'] },
      ],
    },
    [
      'attachments[1].interface: "eth 1" is not an interface name such as eth1, at most 15 bytes',
      'attachments[1].mac: x is not the MAC of one interface such as 0a:58:0a:01:00:07',
      'attachments[1].ips[0]: 10.1.0.7/16 is a prefix, not an address; leave out the length',
      'attachments[1].ips[2]: 10.1.0.7 is in attachments[1].ips[1] too; leave one out',
    ],
  ],
]

for (const [kind, object, want] of cases)
  test(`${want.length > 0 ? 'refused' : 'taken'}: ${kind} ${JSON.stringify(object).slice(0, 200)}`, () =>
    assert.deepEqual(problems(kind, object), want))

test('a host may have dots in its name, a physical network may not', () =>
  assert.deepEqual(
    [
      problems('HostPhysicalNetwork', { spec: {} }, 'n1.example.org'),
      problems('PhysicalNetwork', { spec: {} }, 'phy.net0'),
    ],
    [
      [],
      [
        'metadata.name: phy.net0 is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9',
      ],
    ],
  ))

test('what is not Polynet’s is left alone', () =>
  assert.equal(parseAny({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web-1' } }), undefined))
