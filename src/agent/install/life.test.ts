import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, suite, test } from 'node:test'
import { crds } from '../../api/crds.ts'
import type { KubeObject, Resource } from '../../api/meta.ts'
import { apiVersionOf } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import { buildShim } from '../../cni/shim/build.ts'
import { startController } from '../../controller/start.ts'
import { createNamespace, removeNamespace } from '../../datapath/linux/netns.ts'
import { anythingGoes, customResourceDefinitions } from '../../kube/memory/crd.ts'
import { serveKube } from '../../kube/memory/server.ts'
import { MemoryKube } from '../../kube/memory/store.ts'
import { realClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { openJournal } from '../journal/file.ts'
import { recordKey } from '../journal/record.ts'
import { daemonSets } from './removal.ts'

/** A real agent on a node of its own: installed, restarted, removed, installed again, and cleaned up after. */

const skip = process.getuid?.() !== 0 && 'not root'

suite('an agent on its node', { skip }, () => {
  const root = mkdtempSync(join(tmpdir(), 'polynet-life-'))
  const at = (path: string) => join(root, path)
  const [host, podNetns] = [at('host'), at('run/netns/web')]
  const api = at('api.sock')
  const kube = new MemoryKube()
  const ref = { namespace: 'polynet-system', name: 'polynet-agent' }
  let server: Server
  let controller: { close(): Promise<void> }
  let agent: ChildProcess | undefined
  let shim = ''

  const make = <T extends KubeObject>(resource: Resource<T>, object: object) =>
    kube.create(resource, { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object } as T)
  const onHost = (...argv: string[]) =>
    spawnSync('nsenter', [`--net=${host}`, '--', ...argv], { encoding: 'utf8' })

  before(async () => {
    for (const dir of ['run/netns', 'etc/cni/net.d', 'opt/cni/bin', 'var/lib'])
      mkdirSync(at(dir), { recursive: true })
    createNamespace(host)
    onHost('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire')
    onHost('ip', 'address', 'add', '192.168.1.11/24', 'dev', 'eth0')
    onHost('ip', 'link', 'set', 'eth0', 'up')
    shim = (await buildShim(at('image'))).path
    for (const crd of [...crds(), anythingGoes(daemonSets)]) await kube.create(customResourceDefinitions, crd)
    await make(resources.namespaces, { metadata: { name: 'polynet-system' } })
    await make(resources.nodes, { metadata: { name: 'n1' }, spec: {} })
    const status = { addresses: [{ type: 'InternalIP', address: '192.168.1.11' }] }
    await kube.patch(
      resources.nodes,
      { name: 'n1' },
      { type: 'merge', subresource: 'status', body: { status } },
    )
    await make(resources.networks, {
      metadata: { namespace: 'polynet-system', name: 'default' },
      spec: { subnets: [{ cidr: '10.244.0.0/16' }] },
    })
    controller = await startController({ kube, clock: realClock, log: silentLog })
    server = serveKube(kube)
    server.on('request', ({ url }, response) => {
      if (url?.includes('/daemonsets/')) response.on('finish', () => (looked = true))
    })
    await new Promise<void>((resolve) => server.listen(api, resolve))
  })
  after(async () => {
    agent?.kill('SIGKILL')
    await controller?.close()
    server?.closeAllConnections()
    server?.close()
    for (const path of [podNetns, host]) removeNamespace(path)
    rmSync(root, { recursive: true })
  })

  const main = (program: string) => join(import.meta.dirname, `../../${program}/main.ts`)
  /** Whether the agent that was installed last has seen its DaemonSet: one that it never saw is not missed. */
  let looked = false
  const install = () => {
    looked = false
    const args = [main('agent'), '--node', 'n1', '--api', `unix:${api}`, '--root', root, '--install', shim]
    const env = { ...process.env, POLYNET_DAEMONSET: `${ref.namespace}/${ref.name}`, POLYNET_LOG: 'warn' }
    agent = spawn('nsenter', [`--net=${host}`, '--', process.execPath, ...args], { env, stdio: 'ignore' })
  }
  const ended = async () => {
    assert.deepEqual([agent?.exitCode, agent?.signalCode], [null, null], 'it ended before it was told to')
    const exit = new Promise((resolve) => agent?.on('exit', resolve))
    agent?.kill('SIGTERM')
    assert.equal(await exit, 0)
  }
  // The API server is in this process, which must not stand still meanwhile.
  const cni = async (command: string) => {
    const child = spawn(at('opt/cni/bin/polynet-cni'), {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: 'c0ffee',
        CNI_NETNS: podNetns,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=web',
        CNI_PATH: at('opt/cni/bin'),
        POLYNET_SOCKET: at('run/polynet/agent.sock'),
        POLYNET_SPOOL: at('var/lib/polynet/spool'),
        POLYNET_REMOVED: at('var/lib/polynet/removed'),
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdin.end(JSON.stringify({ cniVersion: '1.0.0', name: 'polynet', type: 'polynet-cni' }))
    const [stdout, status] = await Promise.all([
      text(child.stdout),
      new Promise((resolve) => child.on('close', resolve)),
    ])
    return { status, ...(stdout ? JSON.parse(stdout) : {}) }
  }
  const succeeds = async (command: string) => {
    const { status, msg } = await cni(command)
    assert.deepEqual({ status, msg }, { status: 0, msg: undefined })
  }
  const confs = () => readdirSync(at('etc/cni/net.d')).sort().join(' ')
  const addresses = () =>
    spawnSync(
      'nsenter',
      [`--net=${podNetns}`, '--', 'ip', '-brief', '-4', 'address', 'show', 'dev', 'eth0'],
      {
        encoding: 'utf8',
      },
    ).stdout.match(/10\.244\.\S+/)?.[0]
  const until = async (holds: () => boolean) => {
    for (const late = Date.now() + 20_000; !holds(); await realClock.sleep(20))
      assert.ok(Date.now() < late, 'it takes too long')
  }
  const installed = () => until(() => looked && confs().includes('00-polynet.conflist'))
  const daemonSet = () => make(daemonSets, { metadata: ref })

  test('makes the node ready for pods, and only then puts its conf there', async () => {
    await daemonSet()
    install()
    await installed()
    createNamespace(podNetns)
    await make(resources.pods, {
      metadata: { namespace: 'default', name: 'web' },
      spec: { nodeName: 'n1', containers: [{ name: 'main', image: 'none' }] },
    })
    await succeeds('ADD')
    assert.match(addresses() ?? '', /^10\.244\./)
  })

  test('restarted, it leaves the node as it is, and a STATUS that comes between waits', async () => {
    await ended()
    assert.equal(confs(), '00-polynet.conflist')
    install()
    await succeeds('STATUS')
    await installed()
  })

  test('removed where no other plugin is, it leaves pods, and a sentence for those to come', async () => {
    await kube.delete(daemonSets, ref)
    await ended()
    assert.equal(confs(), '00-polynet.conflist')
    assert.match(addresses() ?? '', /^10\.244\./)
    const { status, msg, code } = await cni('ADD')
    assert.deepEqual(
      { status, code, msg },
      { status: 1, code: 11, msg: 'polynet was removed from this node' },
    )
    await succeeds('DEL')
    assert.equal(readdirSync(at('var/lib/polynet/spool')).length, 1)
  })

  test('installed again, it takes up what was there, and plays the DEL that came meanwhile', async () => {
    await daemonSet()
    install()
    await until(() => !existsSync(at('var/lib/polynet/removed')))
    await until(() => readdirSync(at('var/lib/polynet/spool')).length === 0)
    assert.equal(addresses(), undefined)
    await succeeds('ADD')
    await installed()
  })

  test('not wanted on its node any more, it makes way for another plugin, and comes back when it is', async () => {
    const wantedOn = (nodeSelector: object | null) =>
      kube.patch(daemonSets, ref, { type: 'merge', body: { spec: { template: { spec: { nodeSelector } } } } })
    writeFileSync(at('etc/cni/net.d/10-flannel.conflist'), '{}')
    await wantedOn({ polynet: 'yes' })
    await ended()
    assert.equal(confs(), '10-flannel.conflist')
    assert.match(addresses() ?? '', /^10\.244\./)
    rmSync(at('etc/cni/net.d/10-flannel.conflist'))
    await wantedOn(null)
    install()
    await installed()
  })

  test('removed where another plugin is, it makes way for that one', async () => {
    writeFileSync(at('etc/cni/net.d/10-flannel.conflist'), '{}')
    await kube.delete(daemonSets, ref)
    await ended()
    assert.equal(confs(), '10-flannel.conflist')
    assert.match(addresses() ?? '', /^10\.244\./)
  })

  const clean = (...more: string[]) =>
    onHost(process.execPath, main('polynet'), 'clean', '--root', root, ...more)

  test('cleaned up after, nothing of it is left, and not before the pods are gone', () => {
    const early = clean()
    assert.equal(early.status, 5)
    assert.equal(
      early.stderr,
      'clean this node: pod default/web is there; delete the pods first (kubectl drain), or --force\n',
    )
    removeNamespace(podNetns)
    const { status, stdout } = clean()
    assert.equal(status, 0)
    assert.match(stdout, /^- file \/opt\/cni\/bin\/polynet-cni$/m)
    assert.deepEqual(
      ['run/polynet', 'var/lib/polynet', 'opt/cni/bin/polynet-cni', 'opt/cni/bin/polynet-ipam'].filter(
        (path) => existsSync(at(path)),
      ),
      [],
    )
    assert.equal(confs(), '10-flannel.conflist')
    assert.equal(readFileSync(at('etc/cni/net.d/10-flannel.conflist'), 'utf8'), '{}')
    const links = onHost('ip', '-brief', 'link').stdout.match(/^\S+/gm)
    assert.deepEqual(links, ['lo', 'wire@eth0', 'eth0@wire'])
    assert.equal(onHost('ip', 'route', 'show', 'proto', '80').stdout, '')
    assert.deepEqual({ again: clean().status, said: clean().stdout }, { again: 0, said: '' })
  })

  const journal = () => at('var/lib/polynet/journal')
  /** A journal in which these pods have an interface each by a plugin that is not there. */
  const journalOf = async (...names: string[]) => {
    mkdirSync(at('var/lib/polynet'), { recursive: true })
    const opened = await openJournal(journal())
    for (const name of names) {
      const conf = { name: 'gone', cniVersion: '1.0.0', plugins: [{ type: 'gone' }], source: 'gone' }
      const made = { interface: 'net1', default: false, conf, args: {}, capabilityArgs: {} }
      await opened.put(recordKey(name), {
        ...{ containerID: name, pod: { namespace: 'blue', name, uid: name } },
        ...{ netns: '/run/netns/gone', state: 'added' },
        attachments: [{ kind: 'plugin', name: 'gone', ...made }],
      })
    }
    await opened.close()
  }

  test('where another plugin does not let go, all else is cleaned up, and the journal stays until it does', async () => {
    await journalOf('web')
    const { status, stdout, stderr } = clean()
    assert.equal(status, 6)
    assert.match(stdout, /^could not give back net1 of pod blue\/web: .*gone/)
    assert.match(stderr, /^clean this node: 1 of the interfaces .* could not be given back; .*--force\n$/)
    assert.deepEqual(readdirSync(at('var/lib/polynet')), ['journal'])
    rmSync(journal())
    assert.equal(clean().status, 0)
  })

  test('where the journal is damaged, what is whole of it counts, and it is said that there may be more', async () => {
    await journalOf('web-1', 'web-2', 'web-3')
    const bytes = readFileSync(journal())
    bytes[bytes.indexOf('web-2')]! ^= 1
    writeFileSync(journal(), bytes)
    const early = clean()
    assert.equal(early.status, 6)
    assert.deepEqual(
      early.stdout.match(/^could not give back net1 of pod blue\/web-\d/gm)?.map((line) => line.slice(-5)),
      ['web-1', 'web-3'],
    )
    assert.match(early.stderr, /; other plugins may hold more .* \(it is damaged at byte \d+, and/)
    assert.deepEqual(readFileSync(journal()), bytes)
    const forced = clean('--force')
    assert.equal(forced.status, 6)
    assert.match(forced.stdout, /^- file \/var\/lib\/polynet\/journal$/m)
    assert.match(forced.stderr, /it is damaged at byte .*; the journal is gone by now/)
    assert.equal(existsSync(at('var/lib/polynet')), false)
    assert.deepEqual({ again: clean().status, said: clean().stdout }, { again: 0, said: '' })
  })
})
