import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { emptyNamespace } from '../../plan/node-plan.ts'
import { blue, home, plan, port, type TestNetwork } from '../conformance-plan.ts'
import type { Datapath } from '../port.ts'
import { forgetConnections } from './conntrack.ts'
import { linuxDatapath } from './linux.ts'
import { applyNamespaces } from './namespaces.ts'
import { createNamespace, removeNamespace } from './netns.ts'
import { Place } from './place.ts'
import { impossible } from './possible.ts'

const tool = spawnSync('conntrack', ['--version']).status === 0
const skip = impossible() ?? (tool ? false : 'there is no conntrack here')

/** Of pod 1 and pod 2 of n1 on the default network: begun by the pod, come by a host port, come as it is. */
const of = (pod: 1 | 2): string[] => [
  `-s 10.244.1.${pod} -d 203.0.113.1 --src-nat 192.168.10.11`,
  `-s 203.0.113.1 -d 192.168.10.11 --dst-nat 10.244.1.${pod}`,
  `-s 192.168.10.12 -d 10.244.1.${pod}`,
  `-s fd00:10:244::1:${pod} -d 2001:db8::1`,
]

describe('connections of pods that are gone', { skip }, () => {
  let dir = ''
  let datapath: Datapath
  const at = (name: string) => join(dir, name)
  const conntrack = (netns: string, ...words: string[]): string => {
    const { status, stdout, stderr } = spawnSync('nsenter', [`--net=${netns}`, 'conntrack', ...words], {
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
    return stdout
  }
  const remember = (netns: string, pod: 1 | 2) => {
    for (const [n, ends] of of(pod).entries())
      conntrack(
        netns,
        ...['-I', '-p', 'tcp', '--sport', `${1000 * pod + n}`, '--dport', '80', '--timeout', '432000'],
        ...['--state', 'ESTABLISHED', ...ends.split(' ')],
      )
  }
  /** Source ports of what is remembered, which say of which pod it is. */
  const remembered = (netns: string): string =>
    conntrack(netns, '-L')
      .split('\n')
      .map((line) => /sport=(\d+)/.exec(line)?.[1])
      .filter((found) => found !== undefined)
      .sort()
      .join(' ')
  const until = async (netns: string, want: string) => {
    for (const late = performance.now() + 30_000; remembered(netns) !== want && performance.now() < late; )
      await new Promise((resolve) => setTimeout(resolve, 100))
    assert.equal(remembered(netns), want)
  }
  const attached = async (network: TestNetwork) => {
    createNamespace(at('pod'))
    const one = port(network, 'n1', 1, at('pod'))
    await datapath.replace(plan('n1', [network], [one]))
    return one
  }

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'polynet-conntrack-'))
    for (const name of ['host', 'wire']) createNamespace(at(name))
    applyNamespaces(
      [
        {
          ...emptyNamespace('host'),
          links: [{ kind: 'veth', name: 'eth1', mtu: 1500, peer: { netns: 'wire', name: 'far1' } }],
          addresses: [{ link: 'eth1', address: '192.168.10.11/24' }],
        },
        emptyNamespace('wire'),
      ],
      { host: at('host'), wire: at('wire') },
    )
    datapath = await linuxDatapath({ runDir: at('run'), hostNetns: at('host') })
  })

  afterEach(async () => {
    await datapath.close()
    for (const name of readdirSync(at('run/netns'))) removeNamespace(join(at('run/netns'), name))
    for (const name of ['host', 'wire', 'pod']) removeNamespace(at(name))
    rmSync(dir, { recursive: true })
  })

  test('are forgotten soon after the pod, whoever began them, in both families, and others’ are not', async () => {
    const one = await attached(home)
    for (const pod of [1, 2] as const) remember(at('host'), pod)
    assert.equal(remembered(at('host')), '1000 1001 1002 1003 2000 2001 2002 2003')
    await datapath.detach([one])
    await until(at('host'), '2000 2001 2002 2003')
  })

  test('are forgotten before somebody who keeps his address has it again', async () => {
    const one = await attached(home)
    remember(at('host'), 1)
    await datapath.detach([one])
    await datapath.attach([one])
    assert.equal(remembered(at('host')), '')
    remember(at('host'), 1)
    await datapath.attach([one])
    assert.equal(remembered(at('host')), '1000 1001 1002 1003', 'what is his now stays')
  })

  test('are forgotten in the namespace of the pod’s network, and no other, also when the agent ends', async () => {
    // The pod of network blue has an address that a pod of the default network may have as well.
    const one = await attached({ ...blue, ipv4: home.ipv4, ipv6: home.ipv6 })
    const netns = at('run/netns/pn-blue')
    for (const place of [netns, at('host')]) remember(place, 1)
    await datapath.detach([one])
    await datapath.close()
    assert.deepEqual([remembered(netns), remembered(at('host'))], ['', '1000 1001 1002 1003'])
  })

  test('are forgotten by the next agent when the one that took the pod away was killed', async () => {
    const one = await attached(home)
    await datapath.close()
    for (const pod of [1, 2] as const) remember(at('host'), pod)
    const detach = `
      const { linuxDatapath } = await import(${JSON.stringify(import.meta.resolve('./linux.ts'))})
      const datapath = await linuxDatapath(${JSON.stringify({ runDir: at('run'), hostNetns: at('host') })})
      await datapath.detach([${JSON.stringify(one)}])
      process.kill(process.pid, 'SIGKILL')`
    const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', detach], {
      encoding: 'utf8',
    })
    assert.equal(signal, 'SIGKILL', stderr)
    // Cut off in the middle of a word.
    appendFileSync(at('run/departed'), 'host 10.244.1.2')
    assert.equal(remembered(at('host')), '1000 1001 1002 1003 2000 2001 2002 2003')
    datapath = await linuxDatapath({ runDir: at('run'), hostNetns: at('host') })
    await datapath.replace(plan('n1', [home]))
    await until(at('host'), '2000 2001 2002 2003')
    await datapath.close()
    assert.equal(readFileSync(at('run/departed'), 'utf8'), '')
  })

  for (const [how, few] of [
    ['by a look at all of them', undefined],
    ['by the kernel, where there are many', 0],
  ] as const)
    test(`are found ${how}`, async () => {
      for (const pod of [1, 2] as const) remember(at('host'), pod)
      const host = new Place(at('host'))
      try {
        // Once more when there is none left.
        for (let i = 0; i < 2; i++)
          await forgetConnections(host.connections, ['10.244.1.1', 'fd00:10:244::1:1', '10.1.1.1'], few)
      } finally {
        host.close()
      }
      assert.equal(remembered(at('host')), '2000 2001 2002 2003')
    })
})
