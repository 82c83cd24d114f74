import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { mountOf } from './shared-mounts.ts'

const mounts = [
  '1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw',
  '2 1 0:5 / /run/polynet rw,nosuid shared:7 - tmpfs tmpfs rw',
  '3 1 0:6 / /run/poly rw shared:8 master:1 - tmpfs tmpfs rw',
  '4 1 0:7 / /with\\040blank rw shared:9 - tmpfs tmpfs rw',
  '5 1 0:8 / /run/twice rw shared:9 - tmpfs tmpfs rw',
  '6 5 0:9 / /run/twice rw master:9 - tmpfs tmpfs rw',
].join('\n')

const cases: [path: string, at: string, shared: boolean][] = [
  ['/run/polynet', '/run/polynet', true],
  ['/run/polynet/netns', '/run/polynet', true],
  ['/run/polynets', '/', false],
  ['/with blank/netns', '/with blank', true],
  ['/run/twice', '/run/twice', false],
]

test('a path is in the mount that reaches furthest down to it, the last one of those', () => {
  for (const [path, at, shared] of cases) assert.deepEqual(mountOf(mounts, path), { at, shared }, path)
})

const unshare = (...args: string[]) => spawnSync('unshare', ['--mount', ...args], { encoding: 'utf8' })
const skip = unshare('true').status === 0 ? false : 'mount namespaces cannot be made here'

test('on this kernel, a start is refused where mounts end with the container, and only there', {
  skip,
}, () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-mounts-'))
  const module = join(import.meta.dirname, 'shared-mounts.ts')
  const asked = `import(${JSON.stringify(module)}).then((m) => m.refuseUnsharedMounts(${JSON.stringify(join(dir, 'netns'))})).catch((e) => console.log(e.message))`
  const said = (kind: string) => {
    const script = `mount -t tmpfs tmpfs "$1" && mount --make-${kind} "$1" && exec "$2" -e "$3"`
    return unshare('--propagation', 'private', 'sh', '-c', script, 'sh', dir, process.execPath, asked).stdout
  }
  try {
    assert.equal(said('shared'), '')
    for (const kind of ['private', 'slave'])
      assert.match(said(kind), /is not shared with the host; mount it with mountPropagation: Bidirectional/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
