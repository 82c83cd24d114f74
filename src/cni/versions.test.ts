import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CniResult } from './result.ts'
import { atLeast, convertResult, parseResult, resultVersions } from './versions.ts'

// Network blue 10.1.0.0/16 and fd00:10:1::/64.
const full: CniResult = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'br0', mac: '0a:58:0a:01:00:01' },
    { name: 'eth0', mac: '0a:58:0a:01:00:07', mtu: 1450, sandbox: '/run/netns/web', pciID: '0000:00:1f.6' },
  ],
  ips: [
    { address: '10.1.0.7/16', gateway: '10.1.0.1', interface: 1 },
    { address: 'fd00:10:1::7/64', interface: 1 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1', priority: 100 }, { dst: '::/0' }],
  dns: { nameservers: ['10.1.0.53'], search: ['blue.example'] },
}
const oldInterfaces = [
  { name: 'br0', mac: '0a:58:0a:01:00:01' },
  { name: 'eth0', mac: '0a:58:0a:01:00:07', sandbox: '/run/netns/web' },
]
const oldIps = [
  { version: '4', address: '10.1.0.7/16', gateway: '10.1.0.1', interface: 1 },
  { version: '6', address: 'fd00:10:1::7/64', interface: 1 },
]
const written: Record<string, object> = {
  '0.2.0': {
    ip4: { ip: '10.1.0.7/16', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
    ip6: { ip: 'fd00:10:1::7/64', routes: [{ dst: '::/0' }] },
    dns: full.dns,
  },
  '0.3.1': { interfaces: oldInterfaces, ips: oldIps, routes: full.routes, dns: full.dns },
  '1.1.0': full,
}
Object.assign(written, {
  '0.1.0': written['0.2.0'],
  '0.3.0': written['0.3.1'],
  '0.4.0': written['0.3.1'],
  '1.0.0': full,
})

for (const version of resultVersions)
  test(`a result in ${version} says what that version has words for`, () => {
    assert.deepEqual(convertResult(full, version), { ...written[version], cniVersion: version })
  })

/** What is left of `full` after a plugin of that version had it. */
const left: Record<string, CniResult> = {
  '0.2.0': {
    cniVersion: '1.1.0',
    ips: [{ address: '10.1.0.7/16', gateway: '10.1.0.1' }, { address: 'fd00:10:1::7/64' }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: '::/0' }],
    dns: full.dns,
  },
  '0.4.0': { ...full, interfaces: oldInterfaces },
  '1.0.0': full,
  '1.1.0': full,
}
Object.assign(left, { '0.1.0': left['0.2.0'], '0.3.0': left['0.4.0'], '0.3.1': left['0.4.0'] })

for (const version of resultVersions)
  test(`a result in ${version} is read back`, () => {
    assert.deepEqual(parseResult(convertResult(full, version), 'unused'), { ok: true, value: left[version] })
  })

test('an empty result is empty in every version that can say so', () => {
  for (const version of resultVersions.slice(2))
    assert.deepEqual(convertResult({ cniVersion: '1.1.0', dns: {} }, version), { cniVersion: version })
  assert.throws(() => convertResult({ cniVersion: '1.1.0' }, '0.2.0'), /needs an address and there is none/)
  assert.throws(() => convertResult(full, '9.0.0'), /answer in CNI 9\.0\.0: Polynet speaks 0\.1\.0, /)
})

const read: [string, object, CniResult][] = [
  [
    'of no version is of the version asked for',
    { ips: [{ address: '10.1.0.7/16' }] },
    { cniVersion: '1.1.0', ips: [{ address: '10.1.0.7/16' }] },
  ],
  [
    'with nulls, as Go writes what is absent, has them not',
    { cniVersion: '0.4.0', interfaces: null, ips: null, routes: null, dns: {} },
    { cniVersion: '1.1.0' },
  ],
  [
    'with an address on an interface that is not listed has it on none',
    { ips: [{ address: '10.1.0.7/16', interface: 3 }] },
    { cniVersion: '1.1.0', ips: [{ address: '10.1.0.7/16' }] },
  ],
]
for (const [what, printed, want] of read)
  test(`a result ${what}`, () => {
    assert.deepEqual(parseResult(printed, '0.3.1'), { ok: true, value: want })
  })

const wrong: [unknown, string[]][] = [
  [[], [': the result is no JSON object']],
  [{ cniVersion: '7' }, ['cniVersion: "7" is not known']],
  [
    {
      interfaces: [{ mac: 7 }],
      ips: [{ address: '10.1.0.7', gateway: 'blue', interface: '0' }],
      routes: [{ dst: '10.1.0.0/33', gw: 1, mtu: 'big' }],
      dns: { nameservers: '10.1.0.53' },
    },
    [
      'interfaces[0].name: undefined is not a name',
      'interfaces[0].mac: 7 is not a string',
      'ips[0].gateway: "blue" is not an address',
      'ips[0].interface: "0" is not a number',
      'ips[0].address: "10.1.0.7" is not an address with a prefix length',
      'routes[0].gw: 1 is not an address',
      'routes[0].mtu: "big" is not a number',
      'routes[0].dst: "10.1.0.0/33" is not an address with a prefix length',
      'dns.nameservers: it is not a list of strings',
    ],
  ],
  [{ ips: [null], routes: 'x' }, ['ips: it is not a list of objects', 'routes: it is not a list of objects']],
  [
    { cniVersion: '0.2.0', ip4: [], ip6: { ip: 'x', routes: 1 } },
    [
      'ip4: it is not an object',
      'ip6.ip: "x" is not an address with a prefix length',
      'ip6.routes: it is not a list of objects',
    ],
  ],
]
for (const [printed, want] of wrong)
  test(`says all that is wrong with ${JSON.stringify(printed).slice(0, 60)}`, () => {
    const parsed = parseResult(printed, '1.0.0')
    assert.deepEqual(parsed.ok ? [] : parsed.problems.map((p) => `${p.path}: ${p.problem}`), want)
  })

test('versions are ordered by number, not by letter', () => {
  const ordered = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0', '1.10.0']
  for (const [i, a] of ordered.entries())
    for (const [j, b] of ordered.entries()) assert.equal(atLeast(a, b), i >= j, `${a} ${b}`)
})
