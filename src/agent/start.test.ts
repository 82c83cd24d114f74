import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import type { Pod } from '../api/core.ts'
import { crds } from '../api/crds.ts'
import type { KubeObject, Resource } from '../api/meta.ts'
import { resources } from '../api/resources.ts'
import { foreignPlugins } from '../cni/exec.ts'
import type { CniRequest } from '../cni/request.ts'
import { startController } from '../controller/start.ts'
import { memoryDatapath } from '../datapath/memory/datapath.ts'
import { MemoryFabric } from '../datapath/memory/fabric.ts'
import type { Datapath } from '../datapath/port.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import { realClock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { bridgeName } from '../plan/names.ts'
import type { NamespacePlan } from '../plan/node-plan.ts'
import { memoryDisk, memoryJournal } from './journal/memory.ts'
import { lingerMs } from './lingering.ts'
import { startAgent } from './start.ts'

/**
 * One node's agent on an API server, a journal and a kernel in memory, with
 * real plugins: shell scripts that note their calls and do as their name says.
 */
async function node(outer: (datapath: Datapath) => Datapath = (datapath) => datapath, clock = realClock) {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-agent-test-'))
  const calls = join(dir, 'calls')
  plugin(
    'good',
    `cat >/dev/null; [ $CNI_COMMAND = VERSION ] || echo "$CNI_COMMAND good $CNI_IFNAME" >>${calls}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.7.0.2/24","interface":0}]}' ;;
esac`,
  )
  plugin(
    'bad',
    `cat >/dev/null; [ $CNI_COMMAND = VERSION ] || echo "$CNI_COMMAND bad $CNI_IFNAME" >>${calls}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","code":101,"msg":"the switch is on fire"}'; exit 1 ;;
esac`,
  )
  plugin(
    'stuck',
    `cat >/dev/null; [ $CNI_COMMAND = VERSION ] || echo "$CNI_COMMAND stuck $CNI_IFNAME" >>${calls}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}]}' ;;
DEL) [ -e ${dir}/free ] || { echo '{"cniVersion":"1.0.0","code":102,"msg":"it will not let go"}'; exit 1; } ;;
esac`,
  )
  plugin(
    'slow',
    `cat >/dev/null; [ $CNI_COMMAND = VERSION ] || echo "$CNI_COMMAND slow $CNI_IFNAME" >>${calls}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}]}' ;;
DEL) until [ -e ${dir}/free ]; do sleep 0.1; done ;;
esac`,
  )
  plugin(
    'portmap',
    `input=$(cat); [ $CNI_COMMAND = VERSION ] || echo "$CNI_COMMAND portmap $CNI_IFNAME $input" >>${calls}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) [ ! -e ${dir}/taken ] || { echo '{"cniVersion":"1.0.0","code":103,"msg":"no rule fits"}'; exit 1; }
  echo '{"cniVersion":"1.0.0"}' ;;
esac`,
  )
  function plugin(name: string, script: string) {
    writeFileSync(join(dir, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(dir, name), 0o755)
  }

  const kube = new MemoryKube({ crds: crds() })
  const make = <T extends KubeObject>(resource: Resource<T>, object: object) =>
    kube.create(resource, { apiVersion: version(resource), kind: resource.kind, ...object } as T)
  await make(resources.namespaces, { metadata: { name: 'polynet-system' } })
  await make(resources.nodes, { metadata: { name: 'n1' }, spec: {} })
  await kube.patch(
    resources.nodes,
    { name: 'n1' },
    {
      type: 'merge',
      subresource: 'status',
      body: { status: { addresses: [{ type: 'InternalIP', address: '192.168.1.11' }] } },
    },
  )
  await make(resources.networks, {
    metadata: { namespace: 'polynet-system', name: 'default' },
    spec: { subnets: [{ cidr: '10.244.0.0/16' }] },
  })
  await make(resources.networks, {
    metadata: { namespace: 'default', name: 'flat' },
    spec: { topology: 'Layer2', subnets: [{ cidr: '10.1.0.0/16' }] },
  })
  for (const type of ['good', 'bad', 'stuck', 'slow'])
    await make(resources.networkAttachmentDefinitions, {
      metadata: { namespace: 'default', name: type },
      spec: { config: JSON.stringify({ cniVersion: '1.0.0', name: type, type }) },
    })

  const fabric = new MemoryFabric()
  for (const wire of ['management', 'phy-net1']) fabric.addSwitch(wire)
  fabric.addNode('n1', [
    {
      name: 'eth0',
      mac: '02:00:00:00:00:11',
      mtu: 1500,
      addresses: ['192.168.1.11/24'],
      switch: 'management',
    },
    {
      name: 'eth1',
      mac: '02:00:00:00:01:11',
      mtu: 1500,
      addresses: ['192.168.20.11/24'],
      switch: 'phy-net1',
    },
  ])
  const datapath = outer(memoryDatapath(fabric, 'n1'))
  const disk = memoryDisk()
  let journal = memoryJournal(disk)
  /** What was logged of requests that failed. */
  const warnings: string[] = []
  const warn = (message: string, fields: { command?: string } = {}) => {
    if (fields.command) warnings.push(message)
  }
  const shared = { kube, clock, log: { ...silentLog, warn } }
  const controller = await startController(shared)
  const plugins = foreignPlugins({ confDir: join(dir, 'net.d'), binDirs: [dir], log: silentLog })
  const gone = new Set<string>()
  const start = async () => {
    const started = startAgent({
      ...shared,
      node: 'n1',
      datapath,
      journal,
      plugins,
      hasNamespace: (path) => !gone.has(path),
    })
    while (started.unready()) await realClock.sleep(5)
    return started
  }
  let agent = await start()
  closing.push(async () => {
    await agent.close()
    await controller.close()
    await datapath.close()
    rmSync(dir, { recursive: true })
  })

  const pod = async (name: string, networks?: string): Promise<Pod> => {
    fabric.addPodNamespace(`/run/netns/${name}`)
    return make(resources.pods, {
      metadata: {
        namespace: 'default',
        name,
        ...(networks ? { annotations: { 'k8s.v1.cni.cncf.io/networks': networks } } : {}),
      },
      spec: { nodeName: 'n1', containers: [{ name: 'main', image: 'none' }] },
    })
  }
  const cni = async (
    command: CniRequest['command'],
    name: string,
    more: Partial<CniRequest> = {},
    isTold = false,
  ) => {
    const request: CniRequest = {
      program: 'polynet-cni',
      command,
      containerID: `sandbox-of-${name}`,
      netns: `/run/netns/${name}`,
      ifName: 'eth0',
      args: { K8S_POD_NAMESPACE: 'default', K8S_POD_NAME: name },
      path: [dir],
      config: { cniVersion: '1.0.0', name: 'polynet', type: 'polynet-cni' },
      ...more,
    }
    const { exit, stdout } = await agent.handle(request, isTold)
    return { exit, ...(stdout ? JSON.parse(stdout) : {}) }
  }
  return {
    kube,
    agent,
    fabric,
    datapath,
    journal,
    disk,
    warnings,
    pod,
    cni,
    free: () => writeFileSync(join(dir, 'free'), ''),
    startAgain: async () => {
      await agent.close()
      await journal.close()
      journal = memoryJournal(disk)
      agent = await start()
    },
    /** The plugin's conf, as if it were the node's own network. */
    confOf: (type: string) => {
      mkdirSync(join(dir, 'net.d'))
      writeFileSync(
        join(dir, `net.d/10-${type}.conflist`),
        JSON.stringify({ cniVersion: '1.0.0', name: type, plugins: [{ type }] }),
      )
    },
    taken: () => writeFileSync(join(dir, 'taken'), ''),
    /** The pod's namespace goes while no agent runs. */
    goes: (name: string) => gone.add(`/run/netns/${name}`),
    calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []),
    /** What is held for pods: in the journal and in the kernel. */
    left: async () => [
      ...[...journal.entries().keys()].filter((k) => k.startsWith('sandbox/') || k.startsWith('ipam/lease/')),
      ...(await datapath.describe()).filter((line) => / pn[0-9a-f]{12}/.test(line)),
    ],
  }
}

/** What is left as soon as it is nothing; after half a minute, what it is then. */
async function nothing(left: () => Promise<string[]>): Promise<string[]> {
  const until = performance.now() + 30_000
  for (;;) {
    const now = await left()
    if (now.length === 0 || performance.now() > until) return now
    await realClock.sleep(10)
  }
}

/** Resolves when that is so; fails after half a minute. */
async function until(so: () => Promise<boolean>): Promise<void> {
  const late = performance.now() + 30_000
  while (!(await so())) {
    assert.ok(performance.now() < late, String(so))
    await realClock.sleep(20)
  }
}

const version = ({ group, version }: { group: string; version: string }) =>
  group ? `${group}/${version}` : version

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

/** A network of another namespace, `other/net`, that pods of all may use. */
async function elsewhere(kube: MemoryKube): Promise<void> {
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'other' },
  })
  await kube.create(resources.networks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'other', name: 'net' },
    spec: { subnets: [{ cidr: '10.2.0.0/16' }], allowedNamespaces: { from: 'All' } },
  })
}

/** What a runtime says with GC: which attachments stay, or nothing of that. */
const collecting = (valid?: { containerID: string; ifname: string }[]) => ({
  cniVersion: '1.1.0',
  name: 'polynet',
  type: 'polynet-cni',
  ...(valid && { 'cni.dev/valid-attachments': valid }),
})

test('when the third of four attachments fails, all are taken away in reverse order, and pod and runtime are told', async () => {
  const { kube, pod, cni, calls, left } = await node()
  await pod('web', 'good@net1,bad@net2,good@net3')
  const answer = await cni('ADD', 'web')
  assert.equal(answer.exit, 1)
  assert.match(answer.msg, /plugin bad .*the switch is on fire/)
  assert.deepEqual(calls(), [
    'ADD good net1',
    'ADD bad net2',
    'DEL bad net2',
    'DEL good net3',
    'DEL bad net2',
    'DEL good net1',
  ])
  assert.deepEqual(await left(), [])
  await realClock.sleep(20)
  const { items } = await kube.list(resources.events)
  assert.deepEqual(
    items.map((e) => `${e.type} ${e.reason} ${e.involvedObject.name}`),
    ['Warning PluginFailed web'],
  )
})

test('asking again gives the same answer and makes nothing a second time, also when both ask at once', async () => {
  const { pod, cni, calls } = await node()
  await pod('web', 'good@net1')
  const [first, second] = await Promise.all([cni('ADD', 'web'), cni('ADD', 'web')])
  assert.equal(first.exit, 0)
  assert.deepEqual(second, first)
  assert.deepEqual(await cni('ADD', 'web'), first)
  assert.deepEqual(calls(), ['ADD good net1'])
})

test('asking again gives the same answer when the pod asks for something else by now', async () => {
  const { kube, pod, cni } = await node()
  const { metadata } = await pod('web', 'good@net1')
  const first = await cni('ADD', 'web')
  const annotations = { 'k8s.v1.cni.cncf.io/networks': 'none@net7' }
  await kube.patch(
    resources.pods,
    { namespace: 'default', name: metadata.name },
    { type: 'merge', body: { metadata: { annotations } } },
  )
  await realClock.sleep(20)
  assert.deepEqual(await cni('ADD', 'web'), first)
})

test('the answer names every interface and address, and the pod says so when the ADD returns', async () => {
  const { kube, pod, cni } = await node()
  await pod('web', 'good@net1')
  const { interfaces, ips } = await cni('ADD', 'web')
  assert.deepEqual(
    ips.map(
      (ip: { address: string; interface: number }) =>
        `${interfaces[ip.interface].name} ${ip.address.replace(/\d+\.\d+\//, 'x.y/')}`,
    ),
    ['eth0 10.244.x.y/32', 'net1 10.7.x.y/24'],
  )
  const { metadata } = await kube.get(resources.pods, { namespace: 'default', name: 'web' })
  const status = JSON.parse(metadata.annotations?.['k8s.v1.cni.cncf.io/network-status'] ?? '[]')
  assert.deepEqual(
    status.map((s: { name: string; interface: string; default?: boolean }) => [
      s.name,
      s.interface,
      s.default,
    ]),
    [
      ['polynet-system/default', 'eth0', true],
      ['default/good', 'net1', undefined],
    ],
  )
})

const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }]
const withPorts = {
  config: { cniVersion: '1.0.0', name: 'polynet', type: 'polynet-cni', runtimeConfig: { portMappings } },
}

test('portmap follows the default network where the runtime tells of ports, and is asked once more at the end', async () => {
  const { pod, cni, calls, left } = await node()
  await pod('web', 'good@net1')
  const { interfaces, ips, exit } = await cni('ADD', 'web', withPorts)
  assert.equal(exit, 0)
  assert.deepEqual(
    interfaces.map((i: { name: string }) => i.name),
    ['eth0', 'net1'],
  )
  const [ported, good, ...more] = calls()
  assert.deepEqual([good, more], ['ADD good net1', []])
  const { prevResult, ...given } = JSON.parse(ported!.replace('ADD portmap eth0 ', ''))
  assert.deepEqual(given, {
    type: 'portmap',
    name: 'polynet',
    cniVersion: '1.0.0',
    runtimeConfig: { portMappings },
  })
  assert.deepEqual(prevResult.ips, [ips[0]])
  const links = prevResult.interfaces.map(
    ({ name, sandbox = 'the host' }: { name: string; sandbox?: string }) => `${name} in ${sandbox}`,
  )
  assert.match(links.join(), /^eth0 in \/run\/netns\/web,pn[0-9a-f]{12} in the host$/)
  assert.equal((await cni('DEL', 'web')).exit, 0)
  assert.deepEqual(
    calls()
      .slice(2)
      .map((line) => line.split(' {')[0]),
    ['DEL good net1', 'DEL portmap eth0'],
  )
  assert.deepEqual(await left(), [])
})

test('a pod whose ports cannot be had is told, and leaves nothing', async () => {
  const { pod, cni, left, taken } = await node()
  taken()
  await pod('web')
  const answer = await cni('ADD', 'web', withPorts)
  assert.match(answer.msg, /ADD by plugin portmap of the containers' hostPort: no rule fits/)
  assert.deepEqual(await left(), [])
})

test('a DEL goes on after an error, says all of them, and what it could not take away stays known', async () => {
  const { pod, cni, calls, left, free } = await node()
  await pod('web', 'stuck@net1,good@net2')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  const answer = await cni('DEL', 'web')
  assert.match(answer.msg, /it will not let go/)
  assert.deepEqual(calls().slice(2), ['DEL good net2', 'DEL stuck net1'])
  const kept = (await left()).join()
  assert.match(kept, /sandbox\/sandbox-of-web/)
  assert.doesNotMatch(kept, /lease/, 'eth0 is gone, and its address free')
  free()
  assert.equal((await cni('DEL', 'web', { netns: '' })).exit, 0)
  assert.deepEqual(await left(), [])
})

test('a DEL that fails is logged, unless whoever asks tells of it', async () => {
  const { pod, cni, warnings } = await node()
  await pod('web', 'stuck@net1')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  assert.notEqual((await cni('DEL', 'web')).exit, 0)
  assert.equal(warnings.length, 1, warnings.join('\n'))
  assert.match(warnings[0]!, /^remove sandbox sandbox-of-web: .*it will not let go/)
  assert.notEqual((await cni('DEL', 'web', {}, true)).exit, 0)
  assert.equal(warnings.length, 1, warnings.join('\n'))
})

test('what a DEL could not take away goes when the agent starts again, though no runtime asks', async () => {
  const { pod, cni, left, free, startAgain } = await node()
  await pod('web', 'stuck@net1')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  assert.notEqual((await cni('DEL', 'web')).exit, 0)
  free()
  await startAgain()
  assert.deepEqual(await nothing(left), [])
})

test('what a DEL could not take away is tried again, though no runtime asks and nobody starts the agent', async () => {
  const { agent, pod, cni, left, free, calls } = await node()
  await pod('web', 'stuck@net1')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  assert.notEqual((await cni('DEL', 'web')).exit, 0)
  assert.deepEqual(agent.left(), ['sandbox-of-web'])
  for (const until = performance.now() + 30_000; calls().length < 4 && performance.now() < until; )
    await realClock.sleep(10)
  assert.notDeepEqual(await left(), [])
  free()
  assert.deepEqual(await nothing(left), [])
  assert.deepEqual(agent.left(), [])
})

test('whichever write of an ADD and its DEL the disk has no room for, nothing is left once there is room', async () => {
  const { agent, disk, pod, cni, left } = await node()
  for (let first = 1; first <= 6; first++)
    for (const fits of ['nothing more', 'what is smaller']) {
      const name = `web-${first}-${fits.split(' ')[0]}`
      await pod(name, 'flat')
      let writes = 0
      disk.full = () => ++writes === first || (writes > first && fits === 'nothing more')
      const added = await cni('ADD', name)
      const deleted = await cni('DEL', name)
      disk.full = undefined
      const said = [added, deleted].filter(({ exit }) => exit !== 0)
      for (const { msg } of said) assert.match(msg, /the disk is full; make room/, name)
      assert.deepEqual(await nothing(left), [], name)
      assert.deepEqual(agent.left(), [], name)
    }
})

test('addresses that a full disk kept from being given back are, once the agent starts again with room', async () => {
  const { disk, pod, cni, left, startAgain } = await node()
  await pod('web', 'flat')
  // A lease fits, and what it is for does not, nor anything after it.
  disk.full = () => [...disk.entries.keys()].some((key) => key.startsWith('ipam/lease/'))
  assert.notEqual((await cni('ADD', 'web')).exit, 0)
  assert.notEqual((await cni('DEL', 'web')).exit, 0)
  assert.match((await left()).join(), /ipam\/lease/)
  disk.full = undefined
  await startAgain()
  assert.deepEqual(await nothing(left), [])
})

test('what pods that ask for nothing would lack is told, until the cluster, a namespace or another plugin gives it', async () => {
  const { kube, agent, confOf } = await node()
  const told = async (want: RegExp | undefined) => {
    for (const until = performance.now() + 30_000; ; await realClock.sleep(10)) {
      const why = await agent.lacking()
      if (want ? want.test(why ?? '') : why === undefined) return
      assert.ok(performance.now() < until, `${why} instead of ${want}`)
    }
  }
  const choose = (name: string | null) =>
    kube.patch(
      resources.namespaces,
      { name: 'polynet-system' },
      { type: 'merge', body: { metadata: { annotations: { 'polynet.dev/default-network': name } } } },
    )
  await told(undefined)
  await kube.delete(resources.networks, { namespace: 'polynet-system', name: 'default' })
  await told(/there is no default network; create Network polynet-system\/default, or install/)
  await kube.create(resources.networks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'Network',
    metadata: { namespace: 'polynet-system', name: 'own' },
    spec: { subnets: [{ cidr: '10.2.0.0/16' }] },
  })
  await choose('own')
  await told(undefined)
  await choose(null)
  await told(/there is no default network/)
  confOf('good')
  await told(undefined)
})

test('an agent that leaves takes from its Node what it told the scheduler, and nothing else', async () => {
  const { kube, agent } = await node()
  const said = async () => {
    const { metadata, status } = await kube.get(resources.nodes, { name: 'n1' })
    return [metadata.labels, status?.capacity, status?.allocatable].map((each) =>
      Object.keys(each ?? {}).join(),
    )
  }
  const labels = { 'example.org/rack': 'r1' }
  await kube.patch(resources.nodes, { name: 'n1' }, { type: 'merge', body: { metadata: { labels } } })
  const status = { capacity: { cpu: '2' }, allocatable: { cpu: '2' } }
  await kube.patch(
    resources.nodes,
    { name: 'n1' },
    { type: 'merge', subresource: 'status', body: { status } },
  )
  await kube.create(resources.physicalNetworks, {
    apiVersion: 'polynet.dev/v1alpha1',
    kind: 'PhysicalNetwork',
    metadata: { name: 'phy-net1' },
    spec: { nics: [{ match: { name: 'eth1' } }] },
  })
  const reach = [
    'example.org/rack,physical.polynet.dev/phy-net1',
    'cpu,nic.polynet.dev/phy-net1',
    'cpu,nic.polynet.dev/phy-net1',
  ]
  for (
    const until = performance.now() + 30_000;
    (await said()).join() !== reach.join();
    await realClock.sleep(10)
  )
    assert.ok(performance.now() < until, (await said()).join())
  await agent.leave()
  assert.deepEqual(await said(), ['example.org/rack', 'cpu', 'cpu'])
  // Nobody says it again.
  await kube.patch(
    resources.nodes,
    { name: 'n1' },
    { type: 'merge', body: { metadata: { labels: { 'example.org/rack': 'r2' } } } },
  )
  await realClock.sleep(100)
  assert.deepEqual(await said(), ['example.org/rack', 'cpu', 'cpu'])
})

test('a DEL of a pod that was there before Polynet goes to the plugin that made it', async () => {
  const { pod, cni, calls, confOf } = await node()
  confOf('good')
  assert.equal((await cni('DEL', 'before')).exit, 0)
  assert.deepEqual(calls(), ['DEL good eth0'])
  await pod('web')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  assert.equal((await cni('DEL', 'web')).exit, 0)
  assert.deepEqual(calls().slice(1), ['ADD good eth0', 'DEL good eth0'])
})

test('a DEL of what was never added, and a second DEL, are fine', async () => {
  const { pod, cni } = await node()
  assert.equal((await cni('DEL', 'nobody')).exit, 0)
  await pod('web')
  await cni('ADD', 'web')
  assert.equal((await cni('DEL', 'web')).exit, 0)
  assert.equal((await cni('DEL', 'web')).exit, 0)
})

test('GC takes away what the runtime does not name, of all networks, and leaves the rest alone', async () => {
  const { pod, cni, calls, left } = await node()
  for (const name of ['stays', 'goes']) {
    await pod(name, 'good@net1')
    assert.equal((await cni('ADD', name)).exit, 0)
  }
  const config = collecting([
    { containerID: 'sandbox-of-stays', ifname: 'eth0' },
    { containerID: 'a-stranger', ifname: 'eth0' },
  ])
  assert.equal((await cni('GC', '', { config })).exit, 0)
  assert.deepEqual(calls().slice(2), ['DEL good net1'])
  const lines = await left()
  assert.ok(lines.some((line) => line.includes('sandbox-of-stays')))
  assert.ok(!lines.some((line) => line.includes('sandbox-of-goes')))
  assert.equal((await cni('CHECK', 'stays')).exit, 0)
})

test('GC takes nothing away that came while it was under way, nor anything when it is not told what stays', async () => {
  const { pod, cni, left } = await node()
  await pod('stays')
  await cni('ADD', 'stays')
  const before = await left()
  const gc = (valid?: string[]) => {
    const told = valid?.map((name) => ({ containerID: `sandbox-of-${name}`, ifname: 'eth0' }))
    return cni('GC', '', { containerID: '', config: collecting(told) })
  }
  const blind = await gc()
  assert.equal(blind.exit, 1)
  assert.match(blind.msg, /cni.dev\/valid-attachments is not there/)
  assert.deepEqual(await left(), before)
  await pod('comes', 'good@net1')
  // The runtime made its list before it asked for this one.
  const [added, collected] = await Promise.all([cni('ADD', 'comes'), gc(['stays'])])
  assert.deepEqual([added.exit, collected.exit], [0, 0])
  assert.equal((await cni('CHECK', 'comes')).exit, 0)
  // Two who collect at once, one of whom knows more.
  await Promise.all([gc(['stays', 'comes']), gc(['stays', 'comes', 'stranger'])])
  assert.equal((await cni('CHECK', 'comes')).exit, 0)
  await gc(['stays'])
  assert.deepEqual(await left(), before)
})

test('a GC behind plugins that hang holds up no other pod, and nothing that comes to a sandbox meanwhile is taken away', async () => {
  const { pod, cni, calls, free, left } = await node()
  const hanging = Array.from({ length: 8 }, (_, i) => `hangs-${i}`)
  for (const name of hanging) await pod(name, 'slow@net1')
  await pod('waits')
  for (const name of [...hanging, 'waits']) assert.equal((await cni('ADD', name)).exit, 0)
  const before = calls().length
  const collected = cni('GC', '', { containerID: '', config: collecting([]) })
  await until(async () => calls().length === before + 8)
  await pod('other', 'good@net1')
  assert.equal((await cni('ADD', 'other')).exit, 0)
  const again = cni('ADD', 'waits')
  assert.equal((await cni('DEL', 'other')).exit, 0)
  free()
  assert.deepEqual([(await collected).exit, (await again).exit], [0, 0])
  assert.equal((await cni('CHECK', 'waits')).exit, 0)
  assert.equal((await cni('DEL', 'waits')).exit, 0)
  assert.deepEqual(await left(), [])
})

test('a GC waits for nothing that is under way for another sandbox', async () => {
  const { pod, cni, calls, free } = await node()
  await pod('stale')
  await pod('goes', 'slow@net1')
  for (const name of ['stale', 'goes']) assert.equal((await cni('ADD', name)).exit, 0)
  const going = cni('DEL', 'goes')
  await until(async () => calls().includes('DEL slow net1'))
  assert.equal((await cni('GC', '', { containerID: '', config: collecting([]) })).exit, 0)
  assert.equal((await cni('CHECK', 'stale')).exit, 1)
  free()
  assert.equal((await going).exit, 0)
})

test('after a boot a plugin that hangs keeps no other pod from its DEL; each pod has its own in reverse order', async () => {
  const { pod, cni, calls, free, disk, startAgain } = await node()
  for (const name of ['a', 'b', 'c']) {
    await pod(name, 'good@net1,slow@net2')
    assert.equal((await cni('ADD', name)).exit, 0)
  }
  disk.boot = 'before'
  const before = calls().length
  const ready = startAgain()
  await until(async () => calls().length === before + 3)
  assert.deepEqual(calls().slice(before), Array(3).fill('DEL slow net2'))
  free()
  await ready
  assert.deepEqual(calls().slice(before + 3), Array(3).fill('DEL good net1'))
  assert.equal(disk.previous.size, 0)
})

test('pods that went while no agent ran are taken away eight at once, beside pods that come', async () => {
  const { pod, cni, calls, free, goes, left, startAgain } = await node()
  const names = Array.from({ length: 12 }, (_, i) => `went-${i}`)
  for (const name of names) {
    await pod(name, 'slow@net1')
    assert.equal((await cni('ADD', name)).exit, 0)
    goes(name)
  }
  const before = calls().length
  await startAgain()
  await until(async () => calls().length >= before + 8)
  await pod('other')
  assert.equal((await cni('ADD', 'other')).exit, 0)
  await realClock.sleep(200)
  assert.equal(calls().length, before + 8)
  free()
  assert.equal((await cni('DEL', 'other')).exit, 0)
  assert.deepEqual(await nothing(left), [])
})

test('CHECK names what is not as it was made', async () => {
  const { pod, cni, datapath, journal } = await node()
  await pod('web')
  await cni('ADD', 'web')
  assert.equal((await cni('CHECK', 'web')).exit, 0)
  const record = journal.get('sandbox/sandbox-of-web') as { attachments: { port: never }[] }
  await datapath.detach([record.attachments[0]!.port])
  const answer = await cni('CHECK', 'web')
  assert.equal(answer.exit, 1)
  assert.match(answer.msg, /eth0/)
})

test('an agent that was killed in the middle of an ADD begins it again from nothing', async () => {
  const { pod, cni, calls, journal, left } = await node()
  await pod('web', 'good@net1')
  const first = await cni('ADD', 'web')
  // As a crash leaves it: everything made, nothing said to be done.
  const record = journal.get('sandbox/sandbox-of-web') as object
  await journal.put('sandbox/sandbox-of-web', { ...record, state: 'adding', result: undefined })
  const second = await cni('ADD', 'web')
  assert.equal(second.exit, 0)
  assert.deepEqual(calls(), ['ADD good net1', 'DEL good net1', 'ADD good net1'])
  assert.notDeepEqual(second.ips[0], first.ips[0], 'the first address rests')
  await cni('DEL', 'web')
  assert.deepEqual(await left(), [])
})

test('a start that the kernel refuses at first is tried again, and begins nothing twice', async () => {
  let replaced = 0
  let looking = 0
  const { pod, cni } = await node((datapath) => ({
    ...datapath,
    async replace(plan) {
      if (replaced++ === 0) throw new Fault('kernel', 'make a link', 'busy; try again')
      return datapath.replace(plan)
    },
    onNics(changed) {
      looking++
      const forget = datapath.onNics(changed)
      return () => {
        looking--
        forget()
      }
    },
  }))
  await pod('web')
  assert.equal((await cni('ADD', 'web')).exit, 0)
  assert.equal(looking, 1)
})

test('a network that the kernel refuses keeps no pod from others, nor a new agent from being ready', async () => {
  let isBad = false
  let look = () => {}
  const { kube, pod, cni, startAgain } = await node((datapath) => ({
    ...datapath,
    replace(plan, unchanged) {
      const spoil = (n: NamespacePlan): NamespacePlan =>
        isBad && n.links.some(({ name }) => name === bridgeName)
          ? { ...n, addresses: [...n.addresses, { link: 'eth9', address: '10.1.0.1/32' }] }
          : n
      return datapath.replace({ ...plan, namespaces: plan.namespaces.map(spoil) }, unchanged)
    },
    onNics(changed) {
      look = changed
      return datapath.onNics(changed)
    },
  }))
  for (const name of ['before', 'web']) await pod(name, 'flat')
  assert.equal((await cni('ADD', 'before')).exit, 0)
  isBad = true
  look()
  const told = async () =>
    (await kube.list(resources.events, {})).items.filter(({ reason }) => reason === 'Refused')
  await until(async () => (await told()).length > 0)
  assert.deepEqual(
    (await told()).map((e) =>
      `${e.involvedObject.kind} ${e.involvedObject.name}: ${e.message}`.replace(/pn-\w+/, 'PN'),
    ),
    [
      'Network flat: node n1: render network default/flat: the kernel refused to make 10.1.0.1/32 in PN: ENODEV; there is no link eth9',
    ],
  )
  const refused = await cni('ADD', 'web')
  assert.equal(refused.code, 11)
  assert.match(refused.msg, /^render network default\/flat: the kernel refused to make/)
  assert.equal((await cni('CHECK', 'before')).exit, 0, 'who was there before keeps what it has')
  await elsewhere(kube)
  await pod('beside', 'other/net')
  assert.equal((await cni('ADD', 'beside')).exit, 0)
  await startAgain()
  await pod('after', 'other/net')
  assert.equal((await cni('ADD', 'after')).exit, 0)
  isBad = false
  look()
  await until(async () => (await cni('ADD', 'web')).exit === 0)
})

test('a network that was to go stays when a pod comes to it while the kernel is about to be changed', async () => {
  let ahead = 0
  const clock = { ...realClock, now: () => realClock.now() + ahead }
  const { kube, pod, cni } = await node((datapath) => datapath, clock)
  await elsewhere(kube)
  await pod('before', 'flat')
  assert.equal((await cni('ADD', 'before')).exit, 0)
  assert.equal((await cni('DEL', 'before')).exit, 0)
  ahead = lingerMs
  // What is to be rendered is settled, and waits for the blocks of a namespace that is new to the node.
  const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const list = kube.list.bind(kube)
  kube.list = async (resource, selection) => {
    if (resource.plural === 'addressblocks' && selection?.namespace === 'other' && !selection.labels) {
      asked.resolve()
      await answered.promise
    }
    return list(resource, selection)
  }
  await pod('far', 'other/net')
  const far = cni('ADD', 'far')
  await asked.promise
  await pod('late', 'flat')
  assert.equal((await cni('ADD', 'late')).exit, 0)
  answered.resolve()
  assert.equal((await far).exit, 0)
  assert.deepEqual(await cni('CHECK', 'late'), { exit: 0 })
})

test('a pod whose NIC is gone keeps no other from a network that is new to the node, nor a new agent from being ready', async () => {
  const { kube, fabric, pod, cni, startAgain } = await node()
  const version = { apiVersion: 'polynet.dev/v1alpha1' }
  await kube.create(resources.physicalNetworks, {
    ...version,
    kind: 'PhysicalNetwork',
    metadata: { name: 'phy-net1' },
    spec: { nics: [{ match: { name: 'eth1' } }] },
  })
  await kube.create(resources.networks, {
    ...version,
    kind: 'Network',
    metadata: { namespace: 'default', name: 'wire' },
    spec: { topology: 'Direct', physicalNetwork: 'phy-net1', subnets: [{ cidr: '10.2.0.0/16' }] },
  })
  await pod('onwire', 'wire')
  assert.equal((await cni('ADD', 'onwire')).exit, 0)
  fabric.unplug('n1', 'eth1')
  await pod('beside', 'flat')
  assert.equal((await cni('ADD', 'beside')).exit, 0)
  await startAgain()
  await pod('after', 'flat')
  assert.equal((await cni('ADD', 'after')).exit, 0)
  assert.equal((await cni('DEL', 'onwire')).exit, 0)
})

/** A node with a pod on a network of its own wire, whose tunnel is lost. */
async function withoutTunnel(port: number) {
  const n = await node()
  const wire = { group: 'polynet.dev', version: 'v1alpha1' }
  const make = <T extends KubeObject>(resource: Resource<T>, object: object) =>
    n.kube.create(resource, { apiVersion: version(wire), kind: resource.kind, ...object } as T)
  await make(resources.physicalNetworks, {
    metadata: { name: 'phy-net1' },
    spec: { tunnelPort: 14800, nics: [{ match: { name: 'eth1' } }] },
  })
  await make(resources.networks, {
    metadata: { namespace: 'default', name: 'far' },
    spec: { physicalNetwork: 'phy-net1', subnets: [{ cidr: '10.2.0.0/16' }] },
  })
  await n.pod('first', 'far')
  assert.equal((await n.cni('ADD', 'first')).exit, 0)
  const tunnel = (await n.datapath.describe()).find((line) => line.includes(`port ${port} `))
  const [, netns = '', link = ''] = tunnel?.split(' ') ?? []
  n.fabric.loseLink(netns === 'host' ? 'node:n1' : `node:n1/${netns}`, link)
  const stop = n.fabric.listen('n1', { port, families: [4], name: 'dnsmasq (process 812)' })
  const ready = async () => {
    const { status } = await n.kube.get(resources.hostPhysicalNetworks, { name: 'n1' })
    const [condition] = status?.conditions ?? []
    return `${condition?.status} ${condition?.reason}: ${condition?.message}`
  }
  return { ...n, stop, ready }
}

test('a program that has the port of a wire keeps pods from that wire alone, is named, and is forgotten when it ends', async () => {
  const { pod, cni, ready, stop, datapath } = await withoutTunnel(14800)
  const why =
    'dnsmasq (process 812) has UDP port 14800; give that another port, or use a PhysicalNetwork with another spec.tunnelPort than phy-net1 has'
  await pod('beside', 'flat')
  assert.equal((await cni('ADD', 'beside')).exit, 0, 'a network that was not rendered before')
  await pod('second', 'far')
  const { code, msg } = await cni('ADD', 'second')
  assert.deepEqual([code, msg], [11, `reach physical network phy-net1 from node n1: ${why}`])
  await until(async () => (await ready()) === `False MappingNotUsable: phy-net1: ${why}`)
  // Its pods keep their links.
  assert.equal((await cni('CHECK', 'first')).exit, 0)
  stop()
  await until(
    async () => (await ready()) === 'True AllMappingsUsable: 1 physical networks are reached from this node',
  )
  await until(async () => (await datapath.describe()).some((line) => line.includes('port 14800 ')))
  assert.equal((await cni('ADD', 'second')).exit, 0)
})

test('a program that has the port of tunnels by the node’s own address is said where the node’s NICs are', async () => {
  const { pod, cni, ready, stop } = await withoutTunnel(14789)
  await pod('second', 'flat')
  assert.match((await cni('ADD', 'second')).msg, /dnsmasq \(process 812\) has UDP port 14789/)
  await until(
    async () =>
      (await ready()) ===
      "False TunnelPortTaken: tunnels by the node's own address: dnsmasq (process 812) has UDP port 14789; give that another port",
  )
  stop()
  await until(async () => (await cni('ADD', 'second')).exit === 0)
})

test('networks on other wires come up while the NIC of one is gone', async () => {
  const { fabric, pod, cni } = await withoutTunnel(14800)
  fabric.unplug('n1', 'eth1')
  await pod('beside', 'flat')
  assert.equal((await cni('ADD', 'beside')).exit, 0)
})

test('a MAC that a pod of the same Layer2 network has is nobody else’s, until that pod goes', async () => {
  const { cni, pod } = await node()
  const asks = JSON.stringify([{ name: 'flat', mac: '02:00:00:00:00:07' }])
  await pod('first', asks)
  await pod('second', asks)
  assert.equal((await cni('ADD', 'first')).exit, 0)
  assert.equal((await cni('ADD', 'first')).exit, 0)
  const refused = await cni('ADD', 'second')
  assert.match(refused.msg, /mac 02:00:00:00:00:07 is that of pod first there; ask for another/)
  assert.equal((await cni('DEL', 'first')).exit, 0)
  assert.equal((await cni('ADD', 'second')).exit, 0)
})

test('nor does anybody get it by an IPv6 address that comes to the same', async () => {
  const { kube, cni, pod, left } = await node()
  await kube.create(resources.networks, {
    apiVersion: version(resources.networks),
    kind: 'Network',
    metadata: { namespace: 'default', name: 'six' },
    spec: { topology: 'Layer2', subnets: [{ cidr: 'fd00:10:2::/64' }] },
  })
  const asks = (ip: string) => JSON.stringify([{ name: 'six', ips: [ip] }])
  await pod('first', asks('fd00:10:2:0:f000::903'))
  await pod('second', asks('fd00:10:2:0:f000:0:1:1a10'))
  assert.equal((await cni('ADD', 'first')).exit, 0)
  const before = await left()
  const refused = await cni('ADD', 'second')
  assert.match(refused.msg, /mac 0a:56:af:2b:2c:a0 is that of pod first there; ask for another/)
  assert.deepEqual(await left(), before)
  assert.equal((await cni('DEL', 'first')).exit, 0)
  assert.equal((await cni('ADD', 'second')).exit, 0)
})

test('of pods that ask for one MAC at once, one gets it', async () => {
  const { journal, cni, pod } = await node()
  const { write } = journal
  journal.write = async (changes) => {
    // A disk that takes its time: all have asked before any has an address.
    await realClock.sleep(50)
    return write(changes)
  }
  const asks = JSON.stringify([{ name: 'flat', mac: '02:00:00:00:00:07' }])
  const names = ['first', 'second', 'third']
  for (const name of names) await pod(name, asks)
  const answers = await Promise.all(names.map((name) => cni('ADD', name)))
  assert.equal(answers.filter(({ exit }) => exit === 0).length, 1)
  const refused = names.filter((_, i) => answers[i].exit !== 0)
  for (const name of names) assert.equal((await cni('DEL', name)).exit, 0)
  assert.equal((await cni('ADD', refused[0]!)).exit, 0)
})

test('a block that somebody deletes is made again while pods have addresses in it; one that another node has by then is told to them', async () => {
  const { kube, pod, cni } = await node()
  await pod('web')
  const added = await cni('ADD', 'web')
  assert.equal(added.exit, 0, added.msg)
  const blocks = async () => (await kube.list(resources.addressBlocks)).items
  const [block] = await blocks()
  assert.ok(block)
  await kube.delete(resources.addressBlocks, block.metadata)
  await until(async () => (await blocks()).some((b) => b.metadata.uid !== block.metadata.uid))
  const [again] = await blocks()
  assert.ok(again)
  assert.equal(`${again.spec.cidr} ${again.spec.node}`, `${block.spec.cidr} ${block.spec.node}`)
  const n2 = await kube.create(resources.nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n2' },
    spec: {},
  })
  await kube.patch(resources.addressBlocks, block.metadata, {
    type: 'merge',
    body: { spec: { node: 'n2', nodeUID: n2.metadata.uid } },
  })
  const events = async () =>
    (await kube.list(resources.events)).items.map((e) => `${e.reason} ${e.involvedObject.name}`)
  await until(async () => (await events()).includes('AddressTaken web'))
})

test('a pod on two networks with the same addresses gets another one in each, or is told that it asked for one twice', async () => {
  const { kube, cni, pod, left } = await node()
  for (const name of ['twin-a', 'twin-b'])
    await kube.create(resources.networks, {
      apiVersion: version(resources.networks),
      kind: 'Network',
      metadata: { namespace: 'default', name },
      spec: {
        subnets: [
          {
            cidr: '10.2.0.0/16',
            ranges: [
              { start: '10.2.0.5', end: '10.2.0.7' },
              { start: '10.2.240.7', end: '10.2.240.7' },
            ],
          },
        ],
      },
    })
  const before = await left()
  await pod('both', 'twin-a,twin-b')
  const { ips } = await cni('ADD', 'both')
  assert.deepEqual(ips.map(({ address }: { address: string }) => address).slice(1), [
    '10.2.0.5/32',
    '10.2.0.6/32',
  ])
  await cni('DEL', 'both')
  await pod('asks', '[{"name": "twin-a", "ips": ["10.2.240.7"]}, {"name": "twin-b", "ips": ["10.2.240.7"]}]')
  const { msg } = await cni('ADD', 'asks')
  assert.match(msg, /net1 and net2 would both have 10.2.240.7; ask for another on one of them/)
  assert.deepEqual(await left(), before)
})

test('pods are looked into when the node starts and when their ports are planned otherwise, not for other networks', async () => {
  const said: string[][] = []
  const { kube, cni, pod, startAgain } = await node((datapath) => ({
    ...datapath,
    replace(plan, unchanged = []) {
      said.push(unchanged)
      return datapath.replace(plan, unchanged)
    },
  }))
  const next = async (act: () => Promise<unknown>): Promise<string[]> => {
    said.length = 0
    await act()
    const until = performance.now() + 30_000
    while (said.length === 0 && performance.now() < until) await realClock.sleep(5)
    return said[0] ?? ['nothing was compared']
  }
  await pod('web')
  await cni('ADD', 'web')
  await pod('flat', 'flat')
  const web = 'sandbox-of-web/eth0'
  assert.deepEqual(await next(() => cni('ADD', 'flat')), [web])
  const route = { type: 'merge', body: { spec: { routes: [{ to: '203.0.113.0/24' }] } } } as const
  assert.deepEqual(
    await next(() => kube.patch(resources.networks, { namespace: 'default', name: 'flat' }, route)),
    ['sandbox-of-flat/eth0', web],
  )
  assert.deepEqual(await next(startAgain), [])
})

test('an agent that waits for an API server which never answers ends when it is told to', {
  timeout: 30_000,
}, async () => {
  const kube = Object.assign(new MemoryKube(), { list: () => new Promise<never>(() => {}) })
  const fabric = new MemoryFabric()
  fabric.addNode('n1', [])
  const datapath = memoryDatapath(fabric, 'n1')
  const journal = memoryJournal()
  await journal.put('node', { name: 'n1', uid: 'uid-of-n1' })
  const plugins = foreignPlugins({ confDir: '/nowhere', binDirs: [], log: silentLog })
  const agent = startAgent({
    ...{ kube, datapath, journal, plugins, node: 'n1', clock: realClock, log: silentLog },
    closed: [],
  })
  await realClock.sleep(20)
  await agent.close()
  assert.equal(agent.unready(), 'the agent is closing')
  await datapath.close()
})

test('an ADD that waits for an API server which never answers is answered when the agent ends, and nothing is left of it', {
  timeout: 30_000,
}, async () => {
  const { kube, agent, pod, cni, left } = await node()
  await elsewhere(kube)
  const asked = Promise.withResolvers<void>()
  const list = kube.list.bind(kube)
  kube.list = async (resource, selection) => {
    if (resource.plural !== 'addressblocks' || selection?.namespace !== 'other' || selection.labels)
      return list(resource, selection)
    asked.resolve()
    return new Promise(() => {})
  }
  await pod('far', 'other/net')
  const far = cni('ADD', 'far')
  await asked.promise
  await agent.close()
  assert.equal((await far).exit, 1)
  assert.deepEqual(await left(), [])
})
