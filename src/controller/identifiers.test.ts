import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Network } from '../api/network.ts'
import type { PhysicalNetwork } from '../api/physical-network.ts'
import { identifiersFor, tunnelPortsFor } from './identifiers.ts'

const network = (uid: string, born: number, vni?: number, topology?: 'Direct'): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { name: uid, namespace: 'default', uid, creationTimestamp: `2026-01-01T00:00:0${born}Z` },
  spec: { ...(topology ? { topology } : {}) },
  ...(vni === undefined ? {} : { status: { vni } }),
})

const cases: [string, Network[], Record<string, number>, last?: number][] = [
  ['the oldest gets the lowest', [network('b', 2), network('a', 1)], { a: 4096, b: 4097 }],
  ['one that has an identifier keeps it', [network('a', 1), network('b', 2, 4096)], { a: 4097 }],
  ['gaps are filled', [network('a', 1, 4096), network('b', 2, 4098), network('c', 3)], { c: 4097 }],
  [
    'of two with the same the older keeps it',
    [network('young', 2, 4096), network('old', 1, 4096)],
    { young: 4097 },
  ],
  ['a Direct network needs none', [network('a', 1, undefined, 'Direct')], {}],
  ['what was given back rests', [network('a', 1), network('b', 2)], { a: 4098, b: 4099 }, 4097],
  [
    'until the last that has an uplink was given',
    [network('a', 1), network('b', 2, 4096)],
    { a: 4097 },
    12287,
  ],
  ['a number from elsewhere is passed over', [network('a', 1)], { a: 4096 }, 0xffffff],
]

for (const [title, networks, want, last] of cases)
  test(`VXLAN identifiers: ${title}`, () => {
    assert.deepEqual(Object.fromEntries(identifiersFor(networks, last)), want)
  })

const physical = (name: string, spec: number | undefined, status: number | undefined): PhysicalNetwork => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'PhysicalNetwork',
  metadata: { name, uid: name, creationTimestamp: '2026-01-01T00:00:00Z' },
  spec: spec === undefined ? {} : { tunnelPort: spec },
  ...(status === undefined ? {} : { status: { tunnelPort: status } }),
})

test('tunnel ports: no two physical networks share one, and those that have one keep it', () => {
  assert.deepEqual(
    Object.fromEntries(
      tunnelPortsFor([
        physical('a', undefined, undefined),
        physical('b', 14790, undefined),
        physical('c', undefined, 14791),
        physical('d', undefined, undefined),
      ]),
    ),
    { a: 14792, d: 14793 },
  )
})
