import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { confDirReader, parseConf, readConfDir } from './conf.ts'

const bridge = { type: 'bridge', bridge: 'br-blue', ipam: { type: 'host-local', subnet: '10.1.0.0/16' } }
const source = '/etc/cni/net.d/10-blue.conf'

const taken: [string, object, object][] = [
  [
    'a list',
    { cniVersion: '1.0.0', name: 'blue', plugins: [bridge] },
    { name: 'blue', cniVersion: '1.0.0', plugins: [bridge] },
  ],
  [
    'one plugin as a list of one, with all its keys',
    { cniVersion: '0.3.1', name: 'blue', ...bridge },
    { name: 'blue', cniVersion: '0.3.1', plugins: [{ cniVersion: '0.3.1', name: 'blue', ...bridge }] },
  ],
  [
    'no name, where its owner has one',
    { cniVersion: '0.4.0', ...bridge },
    { name: 'given', cniVersion: '0.4.0', plugins: [{ cniVersion: '0.4.0', ...bridge }] },
  ],
  [
    'no version as 0.3.0',
    { name: 'blue', plugins: [bridge] },
    { name: 'blue', cniVersion: '0.3.0', plugins: [bridge] },
  ],
  [
    'the newest version that both sides know',
    { cniVersion: '0.4.0', cniVersions: ['0.3.1', '1.1.0', '2.0.0'], name: 'blue', plugins: [bridge] },
    { name: 'blue', cniVersion: '1.1.0', plugins: [bridge] },
  ],
  [
    'flags as words, and the one for GC, which no plugin is asked for',
    { cniVersion: '1.1.0', name: 'blue', disableCheck: 'True', disableGC: true, plugins: [bridge] },
    { name: 'blue', cniVersion: '1.1.0', disableCheck: true, plugins: [bridge] },
  ],
]
for (const [what, conf, want] of taken)
  test(`takes ${what}`, () => {
    assert.deepEqual(parseConf(JSON.stringify(conf), source, 'given'), {
      ok: true,
      value: { ...want, source },
    })
  })

const refused: [object | string, string[]][] = [
  ['', [`: ${source}: it is empty; whoever writes it should write it elsewhere and rename it`]],
  ['[]', [`: ${source}: it is not a JSON object; write {"cniVersion": …, "name": …}`]],
  [
    { cniVersion: '7', name: '../x', disableCheck: 'maybe', plugins: [{}, 'bridge', { type: '../bin/sh' }] },
    [
      `${source}: name: "../x" is no network name; use letters, digits, "_", "." and "-"`,
      `${source}: plugins[0].type: nothing is no plugin; name one that is installed, like "bridge"`,
      `${source}: plugins[1]: it is not an object; write {"type": "bridge", …}`,
      `${source}: plugins[2].type: "../bin/sh" is no plugin; name one that is installed, like "bridge"`,
      `${source}: cniVersion: "7" is not known; use one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
      `${source}: disableCheck: "maybe" is neither true nor false`,
    ],
  ],
  [
    { name: 'blue', plugins: [] },
    [`${source}: plugins: it is not a list of plugins; list at least one, {"type": "bridge", …}`],
  ],
  [
    {
      name: 'blue',
      plugins: [{ type: 'polynet-cni' }, { type: 'bridge', capabilities: [], ipam: { type: 'polynet-cni' } }],
    },
    [
      `${source}: plugins[0].type: polynet-cni would ask itself; name another plugin, or ask for a Network`,
      `${source}: plugins[1].ipam.type: polynet-cni gives no addresses; "polynet-ipam" does`,
      `${source}: plugins[1].capabilities: it is not an object; write {"portMappings": true}`,
    ],
  ],
  [
    { name: 'blue', type: 'bridge', ipam: { type: 'a/b' } },
    [`${source}: ipam.type: "a/b" is no plugin; name one that is installed, like "host-local"`],
  ],
]
for (const [conf, want] of refused)
  test(`says all that is wrong with ${JSON.stringify(conf).slice(0, 70)}`, () => {
    const parsed = parseConf(typeof conf === 'string' ? conf : JSON.stringify(conf), source)
    assert.deepEqual(parsed.ok ? [] : parsed.problems.map((p) => `${p.path}: ${p.problem}`), want)
  })

test('a conf cut anywhere is called half-written, never misread', () => {
  const text = JSON.stringify({ cniVersion: '1.0.0', name: 'blue', plugins: [bridge] })
  for (let length = 1; length < text.length; length++) {
    const parsed = parseConf(text.slice(0, length), source)
    assert(!parsed.ok, `cut to ${length}`)
    assert.match(parsed.problems[0]!.problem, /half-written|is not JSON/)
  }
})

test('a conf directory gives its confs in order, leaves our own out, and tells what is wrong with others', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'polynet-conf-'))
  t.after(() => rm(dir, { recursive: true }))
  const put = (name: string, conf: object | string) =>
    writeFile(join(dir, name), typeof conf === 'string' ? conf : JSON.stringify(conf))
  await put('05-polynet.conflist', {
    cniVersion: '1.1.0',
    name: 'polynet',
    plugins: [{ type: 'polynet-cni' }],
  })
  await put('20-b.json', { cniVersion: '1.0.0', name: 'b', type: 'bridge' })
  await put('10-a.conflist', { cniVersion: '1.0.0', name: 'a', plugins: [bridge] })
  await put('100-c.conf', { cniVersion: '0.3.1', name: 'c', type: 'macvlan' })
  await put('30-half.conflist', '{"cniVersion":"1.0.0","na')
  await put('40-large.conf', ' '.repeat((1 << 20) + 1))
  await put('10-a.conflist.swp', 'editor')
  await put('.10-a.conf', 'editor')
  await mkdir(join(dir, '50-dir.conf'))
  const { confs, problems } = await readConfDir(dir)
  assert.deepEqual(
    confs.map((c) => `${c.source.slice(dir.length + 1)} ${c.name} ${c.cniVersion}`),
    ['10-a.conflist a 1.0.0', '100-c.conf c 0.3.1', '20-b.json b 1.0.0'],
  )
  assert.deepEqual(
    problems.map((p) => p.problem.slice(dir.length + 1).replace(/\(.*\)/, '(…)')),
    [
      '30-half.conflist: it is not JSON (…); it is half-written or was cut off; write it elsewhere and rename it',
      '40-large.conf: it is larger than 1048576 bytes; make it smaller',
    ],
  )
})

test('who asks often sees every change of a conf directory, and its files are read only then', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'polynet-conf-'))
  t.after(() => rm(dir, { recursive: true }))
  const read = confDirReader(join(dir, 'net.d'))
  const names = async () => (await read()).confs.map((c) => c.name).join()
  const conf = (name: string) => JSON.stringify({ cniVersion: '1.0.0', name, type: 'bridge' })
  const path = (name: string) => join(dir, 'net.d', name)
  assert.equal(await names(), '')
  await mkdir(join(dir, 'net.d'))
  await writeFile(path('10-a.conf'), conf('a'))
  assert.equal(await names(), 'a')
  await writeFile(path('10-a.conf'), conf('b'))
  assert.equal(await names(), 'b', 'of the same size, within the same tick')
  await writeFile(path('20-c.conf'), conf('c'))
  assert.equal(await names(), 'b,c')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  const before = await read()
  assert.equal(await read(), before)
  await rename(path('20-c.conf'), path('05-c.conf'))
  assert.equal(await names(), 'c,b')
  await rm(path('05-c.conf'))
  assert.equal(await names(), 'b')
})

test('a conf directory that is not there holds nothing', async () => {
  assert.deepEqual(await readConfDir('/nowhere'), { confs: [], problems: [] })
})
