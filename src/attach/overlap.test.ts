import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import { overlapOf, overlapWith, subnetsOverlap } from './overlap.ts'

const network = (cidr: string, more: Partial<Network['spec']> = {}, namespace = 'tenant-a'): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace, name: 'default', uid: 'uid' },
  spec: { subnets: [{ cidr: '10.1.0.0/16' }, { cidr }], ...more },
})

const taken = new Map([
  ['192.168.1.0/24', "the network of the nodes' eth0"],
  ['10.96.0.0/12', 'a closed range'],
])

const cases: [string, Network, string | undefined][] = [
  ['the wire of the nodes', network('192.168.1.176/28'), "the network of the nodes' eth0 (192.168.1.0/24)"],
  ['more than the wire', network('192.168.0.0/16'), "the network of the nodes' eth0 (192.168.1.0/24)"],
  ['services', network('10.100.0.0/16'), 'a closed range (10.96.0.0/12)'],
  ['the internet', network('203.0.113.0/24'), 'addresses of the internet (203.0.113.0/24)'],
  ['the internet, among others', network('0.0.0.0/1'), 'a closed range (10.96.0.0/12)'],
  ['the IPv6 internet', network('2001:db8::/64'), 'addresses of the internet (2001:db8::/64)'],
  ['nothing', network('10.2.0.0/16'), undefined],
  ['nothing, in IPv6', network('fd00:10:2::/64'), undefined],
  ['the wire that it is on', network('192.168.1.0/24', { topology: 'Direct' }), undefined],
  ['what another plugin knows', network('192.168.1.0/24', { plugin: 'bridge' }), undefined],
  ['the default network', network('192.168.1.0/24', {}, 'polynet-system'), undefined],
]
for (const [what, given, want] of cases)
  test(`a subnet that overlaps ${what}: ${want ?? 'fits'}`, () => {
    assert.equal(overlapWith(given, taken), want)
  })

const pairs: [one: string, other: string, overlap: boolean][] = [
  ['10.1.0.0/16', '10.1.255.0/24', true],
  ['10.1.0.0/16', '10.2.0.0/16', false],
  ['10.1.0.0/16', '10.0.0.0/8', true],
  ['10.3.0.0/16 10.1.0.0/16', '10.2.0.0/16 10.1.7.0/24', true],
  ['10.3.0.0/16 10.1.0.0/16', '10.4.0.0/16 10.2.0.0/16', false],
  ['10.1.0.0/16', 'fd00:10:1::/64', false],
  ['10.1.0.0/16 fd00:10:1::/64', 'fd00:10:1::/96 10.2.0.0/16', true],
  // One lies in another of the same network, which nothing but a webhook refuses.
  ['10.0.0.0/8 10.1.0.0/24', '10.2.0.0/16', true],
  ['::a01:0/112', '10.1.0.0/16', false],
]
for (const [one, other, overlap] of pairs)
  test(`${one} and ${other} ${overlap ? 'overlap' : 'share no address'}`, () => {
    const of = (cidrs: string) => network('', { subnets: cidrs.split(' ').map((cidr) => ({ cidr })) })
    assert.equal(subnetsOverlap(of(one), of(other)), overlap)
    assert.equal(subnetsOverlap(of(other), of(one)), overlap)
  })

test('networks of as many subnets as may be, by the thousand, are compared in no time', () => {
  const all = Array.from({ length: 2000 }, (_, n): Network => {
    const subnets = Array.from({ length: 16 }, (_, i) => ({ cidr: `10.${n >> 3}.${(n & 7) * 32 + i}.0/24` }))
    const { metadata, ...rest } = network('', { subnets })
    return { ...rest, metadata: { ...metadata, name: `n${n}`, uid: `uid-${n}` } }
  })
  const began = performance.now()
  for (const one of all.slice(0, 40)) assert.equal(overlapOf(one, all), undefined)
  assert.ok(performance.now() - began < 2000)
})
