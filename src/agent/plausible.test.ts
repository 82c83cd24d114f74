import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBlock } from '../api/address-block.ts'
import type { Attachment } from '../api/attachment-slice.ts'
import type { Network } from '../api/network.ts'
import { parsePrefix } from '../lib/ip.ts'
import { cidrOf, endpointOf, peersBehind } from './plausible.ts'

const blue = { spec: { subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }] } } as Network

const blocks: [what: string, name: string, cidr: string, want: string | undefined][] = [
  ['is the network’s', 'uid-0a010040-26', '10.1.0.64/26', '10.1.0.64/26'],
  ['has another name', 'mine-too', '10.1.0.64/26', undefined],
  ['has a name of other addresses', 'uid-0a010080-26', '10.1.0.64/26', undefined],
  ['is outside of the subnets', 'uid-c0a80100-24', '192.168.1.0/24', undefined],
  [
    'is one address for a holder, of the part that is for those',
    'uid-0a01f007-32',
    '10.1.240.7/32',
    '10.1.240.7/32',
  ],
  ['is one address out of a block that may be another node’s', 'uid-0a010047-32', '10.1.0.71/32', undefined],
  ['is half of such a block', 'uid-0a010040-27', '10.1.0.64/27', undefined],
  ['is as large as many', 'uid-0a010000-17', '10.1.0.0/17', undefined],
  ['is as large as the whole part of single addresses', 'uid-0a01f000-20', '10.1.240.0/20', undefined],
  ['is a block of the part of single addresses', 'uid-0a01f000-26', '10.1.240.0/26', undefined],
  ['is everything', 'uid-00000000-0', '0.0.0.0/0', undefined],
  ['is nothing', 'uid-0a010040-26', '10.1.0.64/33', undefined],
  [
    'is IPv6, oddly written',
    'uid-fd000010000100000000000000000000-122',
    'FD00:10:1:0::/122',
    'fd00:10:1::/122',
  ],
]
for (const [what, name, cidr, want] of blocks)
  test(`a block that ${what}: ${want ?? 'not believed'}`, () => {
    const block = { metadata: { name }, spec: { cidr, networkUID: 'uid' } } as AddressBlock
    assert.equal(cidrOf(block, blue), want)
  })

const endpoints: [text: string | undefined, own: string, want: string | undefined][] = [
  ['192.168.10.12', '192.168.10.11', '192.168.10.12'],
  ['FD00::0:12', 'fd00::11', 'fd00::12'],
  ['192.168.10.11', '192.168.10.11', undefined],
  ['fd00::12', '192.168.10.11', undefined],
  ['127.0.0.1', '192.168.10.11', undefined],
  ['239.1.1.1', '192.168.10.11', undefined],
  ['255.255.255.255', '192.168.10.11', undefined],
  ['169.254.1.1', '192.168.10.11', undefined],
  ['fe80::1', 'fd00::11', undefined],
  ['::', 'fd00::11', undefined],
  ['somewhere', '192.168.10.11', undefined],
  [undefined, '192.168.10.11', undefined],
]
for (const [text, own, want] of endpoints)
  test(`a tunnel from ${own} to ${text}: ${want ?? 'not believed'}`, () => {
    assert.equal(endpointOf(text, own), want)
  })

test('peers have MACs that no other has, and that are not the gateway’s', () => {
  const at = (ips: string[], mac?: string) => ({ ips, ...(mac ? { mac } : {}) }) as Attachment
  const peers = peersBehind(
    '192.168.10.12',
    [
      at(['10.1.0.70']),
      at(['10.1.0.71'], '02:00:00:00:00:01'),
      at(['10.1.0.72'], '02:00:00:00:00:01'),
      at(['10.1.0.70']),
      at(['10.1.0.73'], '01:00:5e:00:00:01'),
      at(['10.1.0.74'], '0a:58:a9:fe:01:01'),
      at([]),
      at(['nothing']),
    ],
    new Set(),
    [parsePrefix('10.1.0.64/26')!],
  )
  assert.deepEqual(
    peers.map(({ attachment: { ips, mac } }) => [...ips, mac ?? ''].join(' ')),
    ['10.1.0.70 ', '10.1.0.71 02:00:00:00:00:01'],
  )
})

test('nobody on another node has the MAC of an address that its blocks do not hold', () => {
  const at = (ip: string, mac?: string) => ({ ips: [ip], ...(mac ? { mac } : {}) }) as Attachment
  const attachments = [
    at('10.1.0.7'),
    at('10.1.0.70', '0a:58:0a:01:00:07'),
    at('10.1.0.7', '0a:58:0a:01:00:07'),
    at('10.1.0.71', '0a:58:0a:01:00:47'),
    at('fd00:10:1::7'),
    at('fd00:10:1::47'),
  ]
  const blocks = [parsePrefix('10.1.0.64/26')!, parsePrefix('fd00:10:1::40/122')!]
  assert.deepEqual(
    peersBehind('192.168.10.12', attachments, new Set(), blocks).map(({ attachment: { ips } }) => ips[0]),
    ['10.1.0.71', 'fd00:10:1::47'],
  )
})
