import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { debianPackages, lockText, readLock } from './debian.ts'
import { type Entry, sorted } from './tar.ts'

const skip = process.platform !== 'linux' || !isHere('dpkg-deb') ? 'there is no dpkg-deb here' : false

test('what the lock says is read as it was written, sorted by name', () => {
  const pins = [
    { name: 'libc6', version: '2.36-9+deb12u14', sha256: 'ba4f' },
    { name: 'bash', version: '5.2.15-2+b12', sha256: '1234' },
  ]
  assert.deepEqual(readLock(lockText(pins)), [pins[1], pins[0]])
})

test('a package is unpacked below usr, nothing in it gives its caller another identity, and scanners find it', {
  skip,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-debian-'))
  try {
    const pin = { name: 'ping', version: '1:2-3', sha256: packageIn(dir) }
    const said: string[] = []
    const [pkg] = await debianPackages(['ping'], [pin], dir, (line) => said.push(line))
    assert.deepEqual(said, [])
    assert.equal(pkg?.source, 'iputils')
    const files = sorted(pkg.entries).filter(({ kind }) => kind !== 'directory')
    assert.equal(
      files.map(line).join('\n'),
      `\
usr/bin/ping 755 ELF
usr/bin/ping4 -> ping
usr/share/doc/ping/copyright 644 BSD
var/lib/dpkg/status.d/ping 644 Package: ping
Version: 1:2-3
Source: iputils (2)
Architecture: amd64
Maintainer: Nobody <nobody@example.com>
Description: asks whether a host is there
Status: install ok installed

`,
    )
  } finally {
    rmSync(dir, { recursive: true })
  }
})

const line = (entry: Entry): string =>
  entry.kind === 'link'
    ? `${entry.path} -> ${entry.target}`
    : `${entry.path} ${entry.mode.toString(8)} ${entry.kind === 'file' ? Buffer.from(entry.bytes).toString() : ''}`

/** Makes a package in the cache `dir`, and says its checksum. */
function packageIn(dir: string): string {
  const root = join(dir, 'ping')
  for (const path of ['DEBIAN', 'bin', 'usr/share/doc/ping']) mkdirSync(join(root, path), { recursive: true })
  const control = `\
Package: ping
Version: 1:2-3
Source: iputils (2)
Architecture: amd64
Maintainer: Nobody <nobody@example.com>
Description: asks whether a host is there
`
  writeFileSync(join(root, 'DEBIAN/control'), control)
  writeFileSync(join(root, 'bin/ping'), 'ELF')
  chmodSync(join(root, 'bin/ping'), 0o4755)
  symlinkSync('ping', join(root, 'bin/ping4'))
  writeFileSync(join(root, 'usr/share/doc/ping/copyright'), 'BSD', { mode: 0o644 })
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', root, join(dir, 'fresh.deb')], { stdio: 'pipe' })
  const sha256 = createHash('sha256')
    .update(readFileSync(join(dir, 'fresh.deb')))
    .digest('hex')
  renameSync(join(dir, 'fresh.deb'), join(dir, `${sha256}.deb`))
  return sha256
}

function isHere(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
