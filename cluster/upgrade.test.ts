import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse } from 'yaml'
import { endpointsOf } from '../lab/reach.ts'
import type { Pod } from '../src/api/core.ts'
import { clusterDir } from './boot.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { chart, installPolynet, tagImage, upgradePolynet } from './install.ts'
import { startTcp } from './iperf.ts'
import { agentPods, blueAndRed, eventually, findings, idlePod, type Kubectl, kubectlOf } from './kubectl.ts'
import { type Stream, startStreams } from './stream.ts'

/** Two pods on two nodes stream on three networks while what happens to agents happens; not one packet may be lost. */
suite('agents come and go under traffic', { concurrency: 1 }, () => {
  let cluster: Cluster
  let kubectl: Kubectl
  let uids: [string, string]
  let streams: Stream[]

  before(async () => {
    cluster = await startCluster({ name: `upgrade-${process.pid}`, nodes: 2, defaultNetwork: 'none' })
    kubectl = kubectlOf(cluster)
    await installPolynet(cluster)
    const pods = idlePod('one', 'n1', 'blue,red') + idlePod('two', 'n2', 'blue,red')
    await kubectl(['apply', '-f', '-'], blueAndRed + pods)
    await kubectl(['wait', 'pods', 'one', 'two', '--for=condition=Ready', '--timeout=60s'])
    const { items } = JSON.parse(await kubectl(['get', 'pods', '-o', 'json'])) as { items: Pod[] }
    const [one, two] = ['one', 'two'].map((name) => items.find((pod) => pod.metadata.name === name)!)
    uids = [one!.metadata.uid!, two!.metadata.uid!]
    streams = streamsBetween(one!, two!)
  })
  after(async () => {
    await cluster?.close()
  })

  const during = async (act: () => Promise<void>) => {
    const flowing = await startStreams(cluster, clusterDir(cluster.name), uids, streams)
    try {
      await act()
    } finally {
      const { sent, lost } = await flowing.stop()
      console.log(`${sent} packets`)
      assert.deepEqual(lost, [])
      // 12 directions, and a busy machine: a millisecond may be longer.
      assert.ok(sent > 1000, `${sent} packets`)
    }
  }

  test('agents killed again and again lose no packet', { timeout: 120_000 }, async () => {
    await during(async () => {
      for (let round = 0; round < 3; round++) {
        const before = await agents('status.containerStatuses[0].restartCount')
        assert.deepEqual(await Promise.all(['n1', 'n2'].map((node) => cluster.killAgent(node))), [1, 1])
        const after = async () => {
          const counts = (await agents('status.containerStatuses[0].restartCount')).split(' ')
          const again = counts.every((count, i) => Number(count) > Number(before.split(' ')[i]))
          return again ? agents('status.containerStatuses[0].ready') : 'not yet'
        }
        assert.equal(await eventually('true true', after), 'true true')
      }
    })
  })

  test('installed by another build, agents are replaced; by the same one, they stay', {
    timeout: 180_000,
  }, async () => {
    const [image, uids] = [await agents('spec.containers[0].image'), await agents('metadata.uid')]
    await installPolynet(cluster)
    assert.equal(await agents('metadata.uid'), uids)
    // Whatever is in an image has its time, which makes it another one.
    process.env.SOURCE_DATE_EPOCH = '86400'
    try {
      await installPolynet(cluster)
    } finally {
      delete process.env.SOURCE_DATE_EPOCH
    }
    const [one = '', two] = (await agents('spec.containers[0].image')).split(' ')
    assert.equal(one, two)
    assert.ok(!image.includes(one), `${one} is what was there`)
  })

  test('an upgrade of everything to another version loses no packet, and no TCP connection stops', {
    timeout: 180_000,
  }, async () => {
    const image = (await agents('spec.containers[0].image')).split(' ')[0]!
    const next = image.replace(/:.*/, ':next')
    await tagImage(cluster, image, next)
    await during(async () => {
      const onTwo = streams.filter(({ network }) => /\b(blue|red) IPv4$/.test(network))
      assert.equal(onTwo.length, 2)
      const tcp = startTcp(cluster, uids, onTwo)
      try {
        await upgradePolynet(cluster, ['image.tag=next'])
        await kubectl(['-n', 'polynet-system', 'rollout', 'status', 'daemonset/polynet-agent'])
        assert.equal(await agents('spec.containers[0].image'), `${next} ${next}`)
      } finally {
        const { seconds, problems } = await tcp.stop()
        console.log(`${seconds.toFixed(0)} s of TCP`)
        assert.deepEqual(problems, [])
        assert.ok(seconds > 0)
      }
    })
  })

  test('definitions are upgraded under objects that were stored by older ones', {
    timeout: 300_000,
  }, async () => {
    const older = olderChart()
    try {
      await during(async () => {
        await upgradePolynet(cluster, [], older)
        await kubectl(['apply', '-f', '-'], green + idlePod('stored', 'n1', 'green'))
        await kubectl(['wait', 'pod', 'stored', '--for=condition=Ready', '--timeout=60s'])
        assert.equal(await spec(), '{"subnets":[{"cidr":"10.1.0.0/16"}]}')
        await upgradePolynet(cluster)
        await kubectl(['apply', '-f', '-'], idlePod('read', 'n2', 'green,blue'))
        await kubectl(['wait', 'pod', 'read', '--for=condition=Ready', '--timeout=60s'])
        assert.equal(
          await spec(),
          '{"allowedNamespaces":{"from":"Same"},"plugin":"polynet","subnets":[{"cidr":"10.1.0.0/16"}]}',
        )
        await kubectl(['delete', 'pod', 'stored', 'read', '--timeout=60s'])
        await kubectl(['delete', 'network', 'green', '--timeout=60s'])
      })
    } finally {
      rmSync(older, { recursive: true })
    }
  })

  const spec = async () => {
    const network = await kubectl(['get', 'network', 'green', '-o', 'jsonpath={.spec}'])
    return JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(network)).sort()))
  }

  test('after it doctors have nothing to say', { timeout: 120_000 }, async () => {
    assert.deepEqual(await findings(kubectl), [])
  })

  const agents = (field: string): Promise<string> =>
    kubectl([...agentPods, '-o', `jsonpath={.items[*].${field}}`])
})

/** The chart as it might have been when Networks had neither plugins nor namespaces that may use them. */
function olderChart(): string {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-chart-'))
  cpSync(chart, dir, { recursive: true })
  const path = join(dir, 'definitions/networks.polynet.dev.yaml')
  const definition = parse(readFileSync(path, 'utf8'))
  const { spec } = definition.spec.versions[0].schema.openAPIV3Schema.properties
  for (const name of ['plugin', 'config', 'allowedNamespaces']) delete spec.properties[name]
  delete spec['x-kubernetes-validations']
  writeFileSync(path, JSON.stringify(definition))
  return dir
}

const green = `
apiVersion: polynet.dev/v1alpha1
kind: Network
metadata: { name: green }
spec: { subnets: [{ cidr: 10.1.0.0/16 }] }
---`

function streamsBetween(one: Pod, two: Pod): Stream[] {
  const [ones, twos] = [endpointsOf(one), endpointsOf(two)]
  return ones.flatMap((mine, i) => {
    const other = twos[i]!
    return mine.addresses.map((address, family) => ({
      network: `${mine.network} IPv${address.includes(':') ? 6 : 4}`,
      ends: [
        { interface: mine.interface, address },
        { interface: other.interface, address: other.addresses[family]! },
      ] satisfies Stream['ends'],
    }))
  })
}
