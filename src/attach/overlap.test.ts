import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import { overlapWith } from './overlap.ts'

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
