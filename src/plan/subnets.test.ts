import assert from 'node:assert/strict'
import { test } from 'node:test'
import { subnetsOf } from './subnets.ts'
import type { NetworkView } from './view.ts'

const view = (...cidrs: string[]): NetworkView => ({
  network: {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'polynet-system', name: 'default' },
    spec: { subnets: cidrs.map((cidr) => ({ cidr })) },
  },
  place: 'host',
  wire: { nic: 'eth0', endpoint: '192.168.1.11', tunnelPort: 14789 },
  remotes: [],
  local: [],
  peers: [],
})

test('a subnet that lies in another of the network is no element of its own, which the kernel would refuse', () => {
  const of = view(
    '10.244.128.0/17',
    '10.244.0.0/16',
    'fd00:10:244::/56',
    '10.244.0.0/16',
    'fd00:10:244:7::/64',
  )
  assert.deepEqual(subnetsOf(of, 4), [{ key: ['10.244.0.0/16'] }])
  assert.deepEqual(subnetsOf(of, 6), [{ key: ['fd00:10:244::/56'] }])
})
