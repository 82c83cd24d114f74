import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sentence } from '../lib/fault.ts'
import { allowedPluginsKey, ipamNetworks, kindProblem, pluginProblems } from './allowed-plugins.ts'

const macvlan = { type: 'macvlan', master: 'eth1', ipam: { type: 'polynet-ipam', network: 'tenant-a/blue' } }
const hostLocal = (more = {}) => ({
  type: 'bridge',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]], ...more },
})
const deep = (levels: number): unknown => (levels === 0 ? 'x' : [deep(levels - 1)])

const cases: [what: string, allowed: string | undefined, plugin: Record<string, unknown>, want: string][] = [
  ['nothing is allowed', undefined, macvlan, 'plugins[0].type: macvlan is not for namespace tenant-a'],
  ['it is allowed', 'macvlan', macvlan, ''],
  ['it is allowed among others', 'bridge, macvlan', macvlan, ''],
  ['another is allowed', 'bridge', macvlan, 'plugins[0].type: macvlan is not for namespace tenant-a'],
  [
    'its address plugin is not',
    'bridge',
    hostLocal(),
    'plugins[0].ipam.type: host-local is not for namespace tenant-a',
  ],
  ['both are', 'bridge,host-local', hostLocal(), ''],
  [
    'it writes files where it likes',
    'bridge,host-local',
    hostLocal({ dataDir: '/etc/cron.d' }),
    'plugins[0].ipam.dataDir: /etc/cron.d may be a file of the node',
  ],
  [
    'it does so from where it is started',
    'bridge,host-local',
    hostLocal({ dataDir: 'etc/cron.d' }),
    'plugins[0].ipam.dataDir: etc/cron.d may be a file of the node',
  ],
  [
    'it does so by the key of a Network',
    'bridge,host-local',
    hostLocal({ network: '../../etc' }),
    'plugins[0].ipam.network: ../../etc may be a file of the node',
  ],
  ['it does so and may', '*', hostLocal({ dataDir: '/etc/cron.d' }), ''],
  [
    'ranges are no files',
    'macvlan,whereabouts',
    {
      type: 'macvlan',
      ipam: {
        type: 'whereabouts',
        range: '10.1.0.10-10.1.0.20/16',
        exclude: ['fd00:10:1::/64'],
        node_slice_size: '/26',
      },
    },
    '',
  ],
  [
    'it names one in the spelling of a program in Go, which takes the last',
    'macvlan',
    { ...macvlan, ipam: { ...macvlan.ipam, Type: 'host-device', device: 'eth0' } },
    'plugins[0].ipam.Type: host-device is not for namespace tenant-a',
  ],
  [
    'addresses are all it gives',
    undefined,
    { type: 'polynet-ipam', ipam: { type: 'polynet-ipam', range: '10.1.0.0/16' } },
    'plugins[0].type: polynet-ipam is not for namespace tenant-a',
  ],
  [
    'a file ends as a range does',
    'bridge,host-local',
    hostLocal({ dataDir: '/etc/cron.d/x-10.1.0.0/16' }),
    'plugins[0].ipam.dataDir: /etc/cron.d/x-10.1.0.0/16 may be a file of the node',
  ],
  [
    'a plugin within a plugin',
    'flannel',
    { type: 'flannel', delegate: { type: 'host-device', device: 'eth0' } },
    'plugins[0].delegate.type: host-device is not for namespace tenant-a',
  ],
  [
    'it is nested without end',
    'x',
    { type: 'x', a: deep(5000) },
    'plugins[0].a[0][0][0][0][0][0][0][0][0][0',
  ],
]
for (const [what, allowed, plugin, want] of cases)
  test(`a tenant's configuration where ${what}: ${want ? 'refused' : 'executed'}`, () => {
    const annotations: Record<string, string> = allowed === undefined ? {} : { [allowedPluginsKey]: allowed }
    const said = sentence(pluginProblems({ plugins: [plugin] }, { namespace: 'tenant-a', annotations }))
    assert.equal(said.slice(0, want.length), want)
    assert.equal(said === '', want === '')
  })

test('what every namespace may execute, tenants may; the namespaces that are everybody’s may execute all', () => {
  const conf = { plugins: [hostLocal({ dataDir: '/srv' })] }
  assert.deepEqual(pluginProblems(conf, { namespace: 'default' }), [])
  assert.deepEqual(pluginProblems(conf, { namespace: 'tenant-a', everywhere: ['*'] }), [])
  assert.equal(
    pluginProblems(conf, { namespace: 'tenant-a', everywhere: ['bridge', 'host-local'] }).length,
    1,
  )
  assert.equal(kindProblem('host-device', { namespace: 'tenant-a', everywhere: ['host-device'] }), undefined)
  assert.match(kindProblem('host-device', { namespace: 'tenant-a' }) ?? '', /^host-device is not for/)
})

test('the Networks that a configuration takes addresses of are found wherever they stand', () => {
  const ipam = { type: 'polynet-ipam', network: 'tenant-b/red' }
  const confs: [Record<string, unknown>, string[]][] = [
    [{ type: 'bridge', ipam }, ['tenant-b/red']],
    [{ type: 'polynet-ipam', ipam: { network: 'tenant-b/red' } }, ['tenant-b/red']],
    [{ type: 'flannel', delegate: { type: 'bridge', ipam } }, ['tenant-b/red']],
    [{ type: 'bridge', ipam: { ...ipam, type: 'whereabouts' } }, ['tenant-b/red']],
    [{ type: 'bridge', ipam: { network: 'tenant-b/red', TYPE: 'polynet-ipam' } }, ['tenant-b/red']],
    [{ type: 'bridge', ipam: { type: 'host-local', network: 'mine' } }, []],
  ]
  for (const [plugin, want] of confs) assert.deepEqual(ipamNetworks({ plugins: [plugin] }), want)
})
