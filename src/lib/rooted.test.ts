import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { inRoot, rootedIn } from './rooted.ts'
import { spawn, spawnIn } from './spawn.ts'

const root = mkdtempSync(join(tmpdir(), 'polynet-root-'))
after(() => rmSync(root, { recursive: true }))

mkdirSync(join(root, 'home/cni'), { recursive: true })
mkdirSync(join(root, 'opt/cni'), { recursive: true })
symlinkSync('/home/cni', join(root, 'opt/cni/bin'))
symlinkSync('../../home/cni', join(root, 'opt/cni/beside'))
symlinkSync('../../../../../../../home', join(root, 'opt/cni/out'))
symlinkSync('bin/bridge', join(root, 'opt/cni/bridge'))
symlinkSync('round', join(root, 'round'))
writeFileSync(join(root, 'home/cni/bridge'), '')

const places: [string, string][] = [
  ['/opt/cni/bin', 'home/cni'],
  ['/opt/cni/bin/bridge', 'home/cni/bridge'],
  ['/opt/cni/beside/bridge', 'home/cni/bridge'],
  ['/opt/cni/bridge', 'home/cni/bridge'],
  // a link that leads out of the root leads to the root
  ['/opt/cni/out/cni/bridge', 'home/cni/bridge'],
  ['/../../etc/./cni', 'etc/cni'],
  // what is missing
  ['/opt/cni/bin/none/of/it', 'home/cni/none/of/it'],
  ['/', ''],
]
test('links are followed as below the root', () => {
  const got = places.map(([path]) => [path, inRoot(root, path)])
  assert.deepEqual(
    got,
    places.map(([path, place]) => [path, join(root, place)]),
  )
  assert.equal(inRoot('/', '/etc/cni'), '/etc/cni')
  assert.ok(inRoot(root, '/round').startsWith(root))
})

const notRoot = process.getuid?.() !== 0 && 'not root'

test('a program sees the root as its whole file system, and we go on with ours', {
  skip: notRoot,
}, async () => {
  const cwd = process.cwd()
  const sh = execFileSync('readlink', ['-f', '/bin/sh'], { encoding: 'utf8' }).trim()
  const libraries = execFileSync('ldd', [sh], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
  for (const [from, to] of [[sh, '/bin/sh'], ...libraries.map((path) => [path, path])] as [
    string,
    string,
  ][]) {
    mkdirSync(dirname(join(root, to)), { recursive: true })
    copyFileSync(from, join(root, to))
  }
  const options = { timeoutMs: 10_000 }
  const script = 'pwd; echo /*; read line; echo $line'
  const inside = spawnIn(root)('/bin/sh', ['sh', '-c', script], {}, Buffer.from('hello\n'), options)
  const outside = spawn('/bin/sh', ['sh', '-c', 'pwd'], {}, Buffer.of(), options)
  const ended = await Promise.all([inside, outside])
  assert.deepEqual(
    ended.map(({ code, stdout }) => [code, stdout.toString()]),
    [
      [0, '/\n/bin /home /lib /lib64 /opt /round\nhello\n'],
      [0, `${cwd}\n`],
    ],
  )
  const missing = await spawnIn(root)('/bin/none', ['none'], {}, Buffer.of(), options)
  assert.equal(missing.error, 'ENOENT')
  const nowhere = await spawnIn(join(root, 'none'))('/bin/sh', ['sh'], {}, Buffer.of(), options)
  assert.equal(nowhere.error, 'ENOENT')
  assert.equal(process.cwd(), cwd)
})

test('a root that is none is an errno', () => {
  assert.equal(
    rootedIn(join(root, 'none'), () => 0),
    process.getuid?.() === 0 ? 2 : 1,
  )
})
