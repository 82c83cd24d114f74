import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { serveShim } from '../agent/socket.ts'
import { silentLog } from '../lib/log.ts'
import { type Spawn, spawn } from '../lib/spawn.ts'
import { foreignPlugins } from './exec.ts'
import type { Invocation, NetworkConf, Plugins } from './plugins.ts'
import type { CniRequest } from './request.ts'
import { buildShim } from './shim/build.ts'
import { convertResult } from './versions.ts'

/**
 * The reference plugins as distributions package them, executed in network
 * namespaces of this test's own: `node` stands for the machine, `pod` for the
 * pod. Network blue is 10.1.0.0/16 and fd00:10:1::/64.
 */
const installed = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].find((dir) =>
  existsSync(join(dir, 'bridge')),
)
const missing =
  process.getuid?.() !== 0 ? 'not root' : !installed ? 'no reference plugins on this machine' : false

suite('the reference plugins', { skip: missing }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-plugins-'))
  const bin = join(dir, 'bin')
  const ns = { node: join(dir, 'node'), pod: join(dir, 'pod') }
  const run = (program: string, ...args: string[]) =>
    execFileSync(program, args, { encoding: 'utf8', stdio: 'pipe' })
  const on = (where: keyof typeof ns, ...command: string[]) =>
    run('nsenter', `--net=${ns[where]}`, ...command)
  const makeNamespace = (path: string) => {
    writeFileSync(path, '')
    run('unshare', `--net=${path}`, 'ip', 'link', 'set', 'lo', 'up')
  }
  const removeNamespace = (path: string) => {
    run('umount', path)
    rmSync(path)
  }
  const onNode: Spawn = (path, argv, env, stdin, options) =>
    spawn('/usr/bin/nsenter', ['nsenter', `--net=${ns.node}`, path, ...argv.slice(1)], env, stdin, options)
  let plugins: Plugins

  before(async () => {
    await buildShim(bin)
    makeNamespace(ns.node)
    on('node', 'ip', 'link', 'add', 'phy-net0', 'type', 'veth', 'peer', 'name', 'wire')
    on('node', 'ip', 'link', 'set', 'wire', 'up')
    on('node', 'ip', 'link', 'set', 'phy-net0', 'up')
    plugins = foreignPlugins({
      confDir: dir,
      binDirs: [bin, installed as string],
      log: silentLog,
      env: { POLYNET_SOCKET: join(dir, 'agent.sock'), POLYNET_SPOOL: join(dir, 'spool') },
      spawn: onNode,
    })
  })
  after(() => {
    removeNamespace(ns.node)
    rmSync(dir, { recursive: true })
  })

  const inPod = async (act: () => Promise<void>) => {
    makeNamespace(ns.pod)
    try {
      await act()
    } finally {
      removeNamespace(ns.pod)
    }
  }

  /** The pod's links and addresses, one line each. */
  const podState = (): string[] => {
    const links = JSON.parse(on('pod', 'ip', '-j', 'address')) as {
      ifname: string
      addr_info: { local: string; prefixlen: number; scope: string }[]
    }[]
    return links
      .filter(({ ifname }) => ifname !== 'lo')
      .map(({ ifname, addr_info }) => {
        const addresses = addr_info.filter(({ scope }) => scope === 'global')
        return [ifname, ...addresses.map((a) => `${a.local}/${a.prefixlen}`)].join(' ')
      })
  }
  const leases = () =>
    existsSync(join(dir, 'leases/blue'))
      ? readdirSync(join(dir, 'leases/blue')).filter((name) => !/^(lock|last_reserved)/.test(name))
      : []

  const hostLocal = () => ({
    type: 'host-local',
    dataDir: join(dir, 'leases'),
    ranges: [[{ subnet: '10.1.0.0/16' }], [{ subnet: 'fd00:10:1::/64' }]],
  })
  const fixed = { type: 'static', addresses: [{ address: '10.1.0.7/16' }] }
  const bridge = (): Record<string, unknown> => ({
    type: 'bridge',
    bridge: 'br-blue',
    isGateway: true,
    ipam: hostLocal(),
  })
  const conf = (cniVersion: string, ...list: Record<string, unknown>[]): NetworkConf => ({
    name: 'blue',
    cniVersion,
    plugins: list,
    source: 'blue.conflist',
  })
  const ask = (of: NetworkConf, more: Partial<Invocation> = {}): Invocation => ({
    conf: of,
    containerID: 'c0ffee',
    netns: ns.pod,
    ifName: 'eth0',
    args: { IgnoreUnknown: '1', K8S_POD_NAME: 'web-0' },
    capabilityArgs: {},
    ...more,
  })

  for (const version of ['0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])
    test(`bridge with host-local, in CNI ${version}: ADD, CHECK, DEL, DEL again`, () =>
      inPod(async () => {
        const invocation = ask(conf(version, bridge()))
        const result = await plugins.add(invocation)
        const [v4, v6] = (result.ips ?? []).map(({ address }) => address)
        assert.deepEqual(podState(), [`eth0 ${v4} ${v6}`])
        assert.match(`${v4} ${v6}`, /^10\.1\.0\.\d+\/16 fd00:10:1::[0-9a-f]+\/64$/)
        assert.equal(leases().length, 2)
        if (version > '0.2.0') {
          const own = result.interfaces?.findIndex(
            ({ name, sandbox }) => name === 'eth0' && sandbox === ns.pod,
          )
          assert.deepEqual(
            result.ips?.map((ip) => ip.interface),
            [own, own],
          )
        }
        await plugins.check({ ...invocation, prevResult: result })
        for (const _ of [1, 2]) {
          await plugins.del({ ...invocation, prevResult: result })
          assert.deepEqual([podState(), leases()], [[], []])
        }
      }))

  test('CHECK notices an interface that is gone, and names plugin and conf', () =>
    inPod(async () => {
      const invocation = ask(conf('1.0.0', bridge()))
      const prevResult = await plugins.add(invocation)
      on('pod', 'ip', 'link', 'del', 'eth0')
      await assert.rejects(
        plugins.check({ ...invocation, prevResult }),
        /^Fault: CHECK by plugin bridge of blue\.conflist: /,
      )
      await plugins.del({ ...invocation, prevResult })
    }))

  const kinds: [string, () => Record<string, unknown>, string?][] = [
    ['macvlan', () => ({ type: 'macvlan', master: 'phy-net0', ipam: fixed })],
    ['ipvlan', () => ({ type: 'ipvlan', master: 'phy-net0', ipam: fixed })],
    ['vlan', () => ({ type: 'vlan', master: 'phy-net0', vlanId: 7, ipam: fixed })],
    [
      'ptp',
      () => ({
        type: 'ptp',
        ipam: { ...fixed, addresses: [{ address: '10.1.0.7/16', gateway: '10.1.0.1' }] },
      }),
    ],
    ['bridge', () => ({ type: 'bridge', bridge: 'br-red', ipam: fixed })],
  ]
  for (const [name, plugin] of kinds)
    test(`${name} with static addresses: ADD, CHECK, DEL`, (t) =>
      inPod(async () => {
        const invocation = ask(conf('1.0.0', plugin()))
        const prevResult = await plugins.add(invocation).catch((error: Error) => {
          if (/operation not supported/.test(error.message)) return undefined
          throw error
        })
        if (!prevResult) return t.skip(`this kernel has no ${name}`)
        assert.deepEqual(podState(), ['eth0 10.1.0.7/16'])
        await plugins.check({ ...invocation, prevResult })
        await plugins.del({ ...invocation, prevResult })
        assert.deepEqual(podState(), [])
      }))

  test('loopback brings lo up and takes no part in addresses', () =>
    inPod(async () => {
      const invocation = ask(conf('1.0.0', { type: 'loopback' }), { ifName: 'lo' })
      const prevResult = await plugins.add(invocation)
      assert.match(on('pod', 'ip', 'link', 'show', 'lo'), /LOOPBACK,UP/)
      await plugins.check({ ...invocation, prevResult })
      await plugins.del({ ...invocation, prevResult })
    }))

  const chain = () =>
    conf(
      '1.0.0',
      bridge(),
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      { type: 'tuning', capabilities: { mac: true }, sysctl: { 'net.ipv4.conf.all.arp_notify': '1' } },
      { type: 'firewall', backend: 'iptables' },
    )
  const capabilityArgs = {
    mac: '0a:58:0a:01:00:07',
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  }
  const nat = () => on('node', 'iptables', '-t', 'nat', '-S')

  test('bridge, portmap, tuning and firewall in one list: capabilities reach those that declare them', () =>
    inPod(async () => {
      const invocation = ask(chain(), { capabilityArgs })
      const prevResult = await plugins.add(invocation)
      assert.equal(prevResult.interfaces?.find(({ sandbox }) => sandbox)?.mac, '0a:58:0a:01:00:07')
      assert.match(on('pod', 'ip', 'link', 'show', 'eth0'), /0a:58:0a:01:00:07/)
      assert.match(nat(), /--dport 8080 .*--to-destination 10\.1\.0\.\d+:80/)
      assert.match(on('node', 'iptables', '-S'), /CNI-FORWARD -d 10\.1\.0\.\d+\/32/)
      // portmap 1.1.1 looks for the rules of each family among those of the other in CHECK, and fails.
      const checkable = {
        ...invocation.conf,
        plugins: invocation.conf.plugins.filter((p) => p.type !== 'portmap'),
      }
      await plugins.check({ ...invocation, conf: checkable, prevResult })
      await plugins.del({ ...invocation, prevResult })
      assert.doesNotMatch(nat(), /8080/)
      assert.doesNotMatch(on('node', 'iptables', '-S'), /10\.1\.0\./)
      assert.deepEqual([podState(), leases()], [[], []])
    }))

  test('a list whose last plugin fails leaves nothing behind', () =>
    inPod(async () => {
      const list = chain()
      const broken = { type: 'tuning', sysctl: { 'net.ipv4.no_such_thing': '1' } }
      const invocation = ask({ ...list, plugins: [...list.plugins, broken] }, { capabilityArgs })
      await assert.rejects(plugins.add(invocation), /^Fault: ADD by plugin tuning of blue\.conflist: /)
      assert.doesNotMatch(nat(), /8080/)
      assert.deepEqual([podState(), leases()], [[], []])
    }))

  test('bandwidth limits what it is asked to limit', (t) =>
    inPod(async () => {
      try {
        on('node', 'ip', 'link', 'add', 'probe', 'type', 'ifb')
        on(
          'node',
          'tc',
          'qdisc',
          'add',
          'dev',
          'probe',
          'root',
          'tbf',
          'rate',
          '1mbit',
          'burst',
          '10k',
          'latency',
          '1ms',
        )
        on('node', 'ip', 'link', 'del', 'probe')
      } catch {
        return t.skip('this kernel has no ifb or no tbf')
      }
      const limits = {
        ingressRate: 8_000_000,
        ingressBurst: 8_000_000,
        egressRate: 8_000_000,
        egressBurst: 8_000_000,
      }
      const list = conf('1.0.0', bridge(), { type: 'bandwidth', capabilities: { bandwidth: true } })
      const invocation = ask(list, { capabilityArgs: { bandwidth: limits } })
      const prevResult = await plugins.add(invocation)
      assert.match(on('node', 'tc', 'qdisc'), /tbf/)
      await plugins.del({ ...invocation, prevResult })
      assert.doesNotMatch(on('node', 'tc', 'qdisc'), /tbf/)
    }))

  for (const version of ['0.3.1', '1.0.0'])
    test(`a plugin gets its addresses from polynet-ipam, in CNI ${version}`, () =>
      inPod(async () => {
        const seen: CniRequest[] = []
        const handle = async (request: CniRequest) => {
          seen.push(request)
          const ips = [{ address: '10.1.0.9/16', gateway: '10.1.0.1' }]
          const answer = convertResult({ cniVersion: '1.1.0', ips }, request.config.cniVersion)
          return { exit: 0, stdout: request.command === 'ADD' ? JSON.stringify(answer) : '' }
        }
        const server = await serveShim(join(dir, 'agent.sock'), handle, silentLog)
        try {
          const plugin = { type: 'macvlan', master: 'phy-net0', ipam: { type: 'polynet-ipam' } }
          const invocation = ask(conf(version, plugin))
          const prevResult = await plugins.add(invocation)
          assert.deepEqual(podState(), ['eth0 10.1.0.9/16'])
          await plugins.check({ ...invocation, prevResult })
          await plugins.del({ ...invocation, prevResult })
        } finally {
          await server.close()
        }
        assert.deepEqual(
          seen.map(
            (r) =>
              `${r.program} ${r.command} ${r.containerID} ${r.ifName} ${r.config.name} ${r.args.K8S_POD_NAME}`,
          ),
          ['ADD', ...(version === '0.3.1' ? [] : ['CHECK']), 'DEL'].map(
            (c) => `polynet-ipam ${c} c0ffee eth0 blue web-0`,
          ),
        )
      }))
})
