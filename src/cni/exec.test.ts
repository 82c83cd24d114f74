import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Fault, isFault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { foreignPlugins } from './exec.ts'
import type { Invocation, NetworkConf } from './plugins.ts'

const versions = '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}'
/** Adds one address, of its own number, to the result before. */
const good = `cat > $DIR/stdin.$NAME
case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/web"}],"ips":[{"address":"10.1.0.7/16","interface":0}]}';; esac`

/** A folder with plugins written as shell scripts; each notes its calls in order. */
function machine(t: TestContext, scripts: Record<string, string>) {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-exec-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const bin = join(dir, 'bin')
  mkdirSync(bin)
  const install = (name: string, script: string, supported = versions) => {
    const head = `#!/bin/sh
DIR='${dir}' NAME='${name}'
if [ "$CNI_COMMAND" = VERSION ]; then echo probe >> $DIR/probes; echo '${supported}'; exit; fi
echo "$CNI_COMMAND $NAME" >> $DIR/calls
`
    writeFileSync(join(bin, name), head + script, { mode: 0o755 })
  }
  for (const [name, script] of Object.entries(scripts)) install(name, script)
  const lines = (name: string) => {
    try {
      return readFileSync(join(dir, name), 'utf8').trim().split('\n')
    } catch {
      return []
    }
  }
  return {
    dir,
    bin,
    install,
    plugins: foreignPlugins({
      confDir: join(dir, 'conf'),
      binDirs: [bin],
      log: silentLog,
      timeoutMs: 500,
      env: { EXTRA: 'here' },
    }),
    calls: () => lines('calls'),
    probes: () => lines('probes').length,
    stdin: (name: string) => JSON.parse(lines(`stdin.${name}`).join('\n')),
    conf: (...types: string[]): NetworkConf => ({
      name: 'blue',
      cniVersion: '1.0.0',
      plugins: types.map((type) => ({ type })),
      source: '/etc/cni/net.d/10-blue.conflist',
    }),
  }
}

const ask = (conf: NetworkConf, more: Partial<Invocation> = {}): Invocation => ({
  conf,
  containerID: 'c0ffee',
  netns: '/run/netns/web',
  ifName: 'eth0',
  args: {},
  capabilityArgs: {},
  ...more,
})

const result = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: '/run/netns/web' }],
  ips: [{ address: '10.1.0.7/16', interface: 0 }],
}

test('a list is executed in order, each with the result of the one before, its own capabilities and the list’s name', async (t) => {
  const m = machine(t, { first: good, second: good })
  const conf: NetworkConf = {
    ...m.conf(),
    plugins: [
      { type: 'first', key: ['kept'], capabilities: { ips: true, mac: false } },
      { type: 'second', name: 'other', cniVersion: '0.3.1', capabilities: { portMappings: true, mac: true } },
    ],
  }
  const capabilityArgs = { ips: ['10.1.0.7'], mac: '0a:58:0a:01:00:07', portMappings: [{ hostPort: 80 }] }
  assert.deepEqual(await m.plugins.add(ask(conf, { capabilityArgs })), result)
  assert.deepEqual(m.calls(), ['ADD first', 'ADD second'])
  assert.deepEqual(m.stdin('first'), {
    type: 'first',
    key: ['kept'],
    name: 'blue',
    cniVersion: '1.0.0',
    runtimeConfig: { ips: ['10.1.0.7'] },
  })
  assert.deepEqual(m.stdin('second'), {
    type: 'second',
    name: 'blue',
    cniVersion: '1.0.0',
    runtimeConfig: { portMappings: [{ hostPort: 80 }], mac: '0a:58:0a:01:00:07' },
    prevResult: { ...result, cniVersion: '1.0.0' },
  })
})

test('a plugin sees the variables of this execution and none of ours', async (t) => {
  const m = machine(t, { show: 'env | grep -e ^CNI_ -e ^EXTRA= | sort > $DIR/env; echo "{}"' })
  process.env.CNI_NETNS_OVERRIDE = '1'
  t.after(() => {
    delete process.env.CNI_NETNS_OVERRIDE
  })
  await m.plugins.add(ask(m.conf('show'), { args: { IgnoreUnknown: '1', K8S_POD_NAME: 'web-0' } }))
  assert.deepEqual(readFileSync(join(m.dir, 'env'), 'utf8').trim().split('\n'), [
    'CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web-0',
    'CNI_COMMAND=ADD',
    'CNI_CONTAINERID=c0ffee',
    'CNI_IFNAME=eth0',
    'CNI_NETNS=/run/netns/web',
    `CNI_PATH=${m.bin}`,
    'EXTRA=here',
  ])
})

test('an argument that would become two is refused', async (t) => {
  const m = machine(t, { first: good })
  await assert.rejects(m.plugins.add(ask(m.conf('first'), { args: { A: 'b;K8S_POD_NAME=other' } })), {
    message:
      'ADD by plugin first of /etc/cni/net.d/10-blue.conflist: the argument "A=b;K8S_POD_NAME=other" has a ";"; ask without it',
  })
})

test('DEL goes in reverse, with the result, through errors, and tells all of them', async (t) => {
  const failing = 'echo "{\\"code\\":11,\\"msg\\":\\"$NAME is busy\\"}"; exit 1'
  const m = machine(t, { a: failing, b: good, c: failing })
  await assert.rejects(m.plugins.del(ask(m.conf('a', 'b', 'c'), { prevResult: result })), {
    kind: 'plugin',
    message:
      'run a list of plugins: ' +
      "DEL by plugin c of /etc/cni/net.d/10-blue.conflist: c is busy (CNI code 11); see the plugin's documentation; " +
      "DEL by plugin a of /etc/cni/net.d/10-blue.conflist: a is busy (CNI code 11); see the plugin's documentation",
  })
  assert.deepEqual(m.calls(), ['DEL c', 'DEL b', 'DEL a'])
  assert.deepEqual(m.stdin('b').prevResult, { ...result, cniVersion: '1.0.0' })
})

test('an ADD that fails at the third deletes all in reverse, and tells only of the failure', async (t) => {
  const m = machine(t, {
    a: good,
    b: good,
    c: 'echo oops >&2; echo \'{"code":100,"msg":"no luck","details":"today"}\'; exit 1',
  })
  await assert.rejects(m.plugins.add(ask(m.conf('a', 'b', 'c'))), (error: Fault) => {
    assert.equal(
      error.message,
      'ADD by plugin c of /etc/cni/net.d/10-blue.conflist: no luck: today (CNI code 100); it said "oops"; see the plugin\'s documentation',
    )
    assert.equal(codeOf(error), 100)
    return true
  })
  assert.deepEqual(m.calls(), ['ADD a', 'ADD b', 'ADD c', 'DEL c', 'DEL b', 'DEL a'])
  assert.deepEqual(m.stdin('a').prevResult, { ...result, cniVersion: '1.0.0' })
})

const breaking: [string, string, string][] = [
  [
    'hangs',
    'echo waiting >&2; sleep 60',
    'it did not end within 500 ms and was killed; it said "waiting"; look for what it waits for',
  ],
  [
    'prints garbage',
    'echo "Hello!"',
    'it ended well but printed "Hello!\\n" instead of a result; report it to its makers',
  ],
  [
    'prints nothing',
    'true',
    'it ended well but printed nothing instead of a result; report it to its makers',
  ],
  [
    'prints a wrong result',
    'echo \'{"ips":[{"address":"x"}]}\'',
    'it printed a wrong result: ips[0].address: "x" is not an address with a prefix length; report it to its makers',
  ],
  ['prints without end', 'yes', 'it printed without end and was killed; report it to its makers'],
  ['is ended by a signal', 'kill -SEGV $$', 'it was ended by SIGSEGV; report it to its makers'],
  [
    'fails without a word',
    'exit 3',
    "it ended with exit code 3 without a word; see the plugin's documentation",
  ],
  [
    'fails in prose',
    'echo no; exit 1',
    'it ended with exit code 1 and printed "no\\n"; see the plugin\'s documentation',
  ],
]
for (const [what, script, problem] of breaking)
  test(`a plugin that ${what} is named, with what to do`, async (t) => {
    const m = machine(t, { broken: `[ $CNI_COMMAND = DEL ] && exit 0\n${script}` })
    const doing = 'ADD by plugin broken of /etc/cni/net.d/10-blue.conflist'
    await assert.rejects(m.plugins.add(ask(m.conf('broken'))), new Fault('plugin', doing, problem))
    assert.deepEqual(m.calls(), ['ADD broken', 'DEL broken'])
  })

test('a plugin that is missing, not executable, no program or no name is named, with what to do', async (t) => {
  const m = machine(t, { plain: '' })
  chmodSync(join(m.bin, 'plain'), 0o644)
  writeFileSync(join(m.bin, 'noise'), '\x7fnoise', { mode: 0o755 })
  mkdirSync(join(m.bin, 'folder'))
  const said = async (type: string) => {
    const error: Fault = await m.plugins.del(ask(m.conf(type))).then(
      () => assert.fail(),
      (e) => e,
    )
    return `${error.kind} ${error.problem.replaceAll(m.bin, 'BIN')}`
  }
  assert.deepEqual(await Promise.all(['none', 'plain', 'noise', 'folder', '../bin/plain'].map(said)), [
    'plugin it is not installed; put it into BIN',
    'plugin BIN/plain is not executable; chmod 755 it',
    `plugin BIN/noise is no program for this machine; install the one for ${process.arch}`,
    'plugin it is not installed; put it into BIN',
    'plugin "../bin/plain" is no name of a plugin',
  ])
})

test('addresses by Whereabouts come from us, and from it where it is installed', async (t) => {
  const m = machine(t, { first: good })
  const ipam = { type: 'whereabouts', range: '10.1.0.0/16' }
  const conf = { ...m.conf(), plugins: [{ type: 'first', ipam }] }
  await m.plugins.add(ask(conf))
  assert.deepEqual(m.stdin('first').ipam, { type: 'polynet-ipam', range: '10.1.0.0/16' })
  m.install('whereabouts', '')
  await m.plugins.del(ask(conf))
  assert.deepEqual(m.stdin('first').ipam, ipam)
})

test('a list is spoken in the newest version that all its plugins know; each is asked once until it is replaced', async (t) => {
  const m = machine(t, { young: good })
  const old = '{"cniVersion":"0.4.0","supportedVersions":["0.3.0","0.3.1","0.4.0"]}'
  m.install('old', good, old)
  const conf = { ...m.conf('young', 'old'), cniVersion: '1.1.0' }
  for (const _ of [1, 2]) await m.plugins.add(ask(conf))
  assert.deepEqual(
    [m.stdin('young').cniVersion, m.stdin('old').cniVersion, m.probes()],
    ['0.4.0', '0.4.0', 2],
  )
  assert.equal(m.stdin('old').prevResult.ips[0].version, '4')
  m.install('old', `${good} # newer`, versions)
  await m.plugins.add(ask(conf))
  assert.deepEqual([m.stdin('young').cniVersion, m.probes()], ['1.1.0', 3])
})

test('what a version has no command for is not asked, nor what the conf does not want', async (t) => {
  const m = machine(t, { a: good })
  const at = (cniVersion: string, more = {}) => ({ ...m.conf('a'), cniVersion, ...more })
  await m.plugins.check(ask(at('0.3.1'), { prevResult: result }))
  await m.plugins.check(ask(at('1.0.0', { disableCheck: true }), { prevResult: result }))
  assert.deepEqual(m.calls(), [])
  await m.plugins.del(ask(at('0.3.1'), { prevResult: result }))
  assert.equal(m.stdin('a').prevResult, undefined)
  await m.plugins.check(ask(at('0.4.0'), { prevResult: result }))
  assert.equal(m.stdin('a').prevResult.ips[0].version, '4')
  assert.deepEqual(m.calls(), ['DEL a', 'CHECK a'])
})

test('CHECK stops at the first that fails', async (t) => {
  const m = machine(t, { a: 'echo \'{"code":50,"msg":"not now"}\'; exit 1', b: good })
  assert.equal(await m.plugins.check(ask(m.conf('a', 'b'))).then(() => 'fine', codeOf), 50)
  assert.deepEqual(m.calls(), ['CHECK a'])
})

test('addresses of a plugin that lists no interface are on the one it was asked for', async (t) => {
  const m = machine(t, { a: 'echo \'{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.7/16"}}\'' })
  assert.deepEqual(await m.plugins.add(ask(m.conf('a'))), result)
})

test('confs come in order, and what is wrong with one is said once', async (t) => {
  const m = machine(t, {})
  mkdirSync(join(m.dir, 'conf'))
  const put = (name: string, text: string) => writeFileSync(join(m.dir, 'conf', name), text)
  put('20-b.conf', '{"cniVersion":"1.0.0","name":"b","type":"bridge"}')
  put('10-a.conflist', '{"cniVersion":')
  const warned: string[] = []
  const log = { ...silentLog, warn: (message: string) => void warned.push(message) }
  const plugins = foreignPlugins({ confDir: join(m.dir, 'conf'), binDirs: [m.bin], log })
  for (const _ of [1, 2])
    assert.deepEqual(
      (await plugins.confs()).map((c) => c.name),
      ['b'],
    )
  assert.equal(warned.length, 1)
  put('10-a.conflist', '{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"macvlan"}]}')
  assert.deepEqual(
    (await plugins.confs()).map((c) => c.name),
    ['a', 'b'],
  )
})

/** The code that a plugin itself gave (SPEC 1.1 "Error"); undefined where it gave none. */
function codeOf(error: unknown): unknown {
  assert.ok(isFault(error, 'plugin'))
  return (error.cause as { code?: unknown } | undefined)?.code
}
