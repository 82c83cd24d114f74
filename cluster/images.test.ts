import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Built, buildImage } from '../images/images.ts'
import { type Entry, entriesOf, sorted } from '../images/tar.ts'

/** Builds the image of all programs and runs them from it, as a container runtime would have them. Takes half a minute. */
const project = join(import.meta.dirname, '..')
const dir = mkdtempSync(join(tmpdir(), 'polynet-images-'))
const skip = process.getuid?.() === 0 ? false : 'only root may change the root directory'

let built: Built
let entries: Entry[] = []

before(async () => {
  built = await buildImage('polynet', () => {}, dir)
  entries = sorted(built.layers.flatMap((layer) => entriesOf(Buffer.concat(layer))))
  unpackInto(join(dir, 'root'), built.path)
})

after(() => rmSync(dir, { recursive: true, force: true }))

/** As a runtime does it: the archive's layers, one over the other. */
function unpackInto(root: string, path: string): void {
  const archive = entriesOf(readFileSync(path))
  const read = (path: string): Uint8Array => {
    const found = archive.find((entry) => entry.path === path)
    assert.equal(found?.kind, 'file')
    return found.bytes
  }
  mkdirSync(root)
  for (const layer of JSON.parse(Buffer.from(read('manifest.json')).toString())[0].Layers)
    execFileSync('tar', ['--extract', '--preserve-permissions', '--file=-', '-C', root], {
      input: read(layer),
    })
}

/** In a mount namespace of its own, where the image is only to be read. */
function inImage(user: number, ...command: string[]): { status: number | null; said: string } {
  return inRoot('root', user, ...command)
}

function inRoot(root: string, user: number, ...command: string[]): { status: number | null; said: string } {
  const script = `
    set -e; root=$1; user=$2; shift 2
    mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"; mount -t proc none "$root/proc"
    exec chroot --userspec="$user:$user" "$root" "$@"`
  const unshared = [
    '--mount',
    '--pid',
    '--fork',
    '--net',
    'sh',
    '-c',
    script,
    'sh',
    join(dir, root),
    String(user),
    ...command,
  ]
  const { status, stdout, stderr } = spawnSync('unshare', unshared, {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    encoding: 'utf8',
  })
  return { status, said: stdout + stderr }
}

const ids: [program: string, user: number][] = [
  ['polynet-controller', 65532],
  ['polynet-webhook', 65532],
  ['polynet-agent', 0],
  ['polynet', 0],
]
for (const [program, user] of ids)
  test(`${program} starts as user ${user} where nothing can be written`, { skip }, () => {
    const { status, said } = inImage(user, `/usr/bin/${program}`, '--help')
    assert.match(said, new RegExp(`^Usage: ${program} `))
    assert.equal(status, 0)
  })

test('the C library can be called from JavaScript', { skip }, () => {
  const script =
    "const { default: koffi } = await import('/polynet/node_modules/koffi/index.js'); console.log(koffi.load('libc.so.6').func('int getuid()')())"
  assert.deepEqual(inImage(65532, '/usr/bin/node', '--input-type=module', '--eval', script), {
    status: 0,
    said: '65532\n',
  })
})

test('the shim for hosts needs nothing of the image', { skip }, () => {
  assert.match(inImage(0, '/polynet/cni/polynet-cni').said, /"code":4,"msg":"CNI_COMMAND is not set"/)
  const headers = spawnSync('readelf', ['--program-headers', join(dir, 'root/polynet/cni/polynet-cni')])
  assert.deepEqual(
    headers.stdout
      .toString()
      .match(/\b(LOAD|INTERP|DYNAMIC)\b/g)
      ?.includes('INTERP'),
    false,
  )
})

test('there is no shell and no package manager in it', () => {
  const programs = entries.filter(({ path, kind }) => /^usr\/s?bin\//.test(path) && kind !== 'directory')
  assert.equal(
    programs.map((entry) => `${entry.path}${entry.kind === 'link' ? ` -> ${entry.target}` : ''}`).join('\n'),
    `\
usr/bin/node
usr/bin/polynet -> /polynet/src/polynet/main.js
usr/bin/polynet-agent -> /polynet/src/agent/main.js
usr/bin/polynet-controller -> /polynet/src/controller/main.js
usr/bin/polynet-webhook -> /polynet/src/webhook/main.js`,
  )
})

test('nothing gives its caller another identity, and none but root may write, except below /tmp', () => {
  const odd = entries.filter((entry) => entry.kind !== 'link' && (entry.mode & 0o6022) !== 0)
  assert.deepEqual(odd, [{ kind: 'directory', path: 'tmp', mode: 0o1777 }])
})

test('it is under 150 MB', () => {
  assert.ok(built.size < 150e6, `it has ${built.size} bytes`)
})

test('the SBOM in it is the one beside it, and names whatever came from Debian and npm', () => {
  const text = readFileSync(built.sbom, 'utf8')
  assert.equal(readFileSync(join(dir, 'root/usr/share/sbom/polynet.spdx.json'), 'utf8'), text)
  const named: string[] = JSON.parse(text).packages.map(({ name }: { name: string }) => name)
  const found = entries.flatMap(({ path }) => {
    const [, npm] = /^polynet\/(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\/package\.json$/.exec(path) ?? []
    const [, deb] = /^var\/lib\/dpkg\/status\.d\/(.+)$/.exec(path) ?? []
    return [npm, deb].filter((name) => name !== undefined)
  })
  assert.ok(found.length > 20)
  assert.deepEqual(
    found.filter((name) => !named.includes(name)),
    [],
  )
})

test('two clones, one of them made under another umask, give the same image', () => {
  let from = project
  const digests = ['022', '077'].map((umask) => {
    const clone = join(dir, `clone-${umask}`)
    const script =
      'umask "$1"; git clone --quiet --no-hardlinks "$2" "$3" && ln -s "$4/node_modules" "$3/node_modules"'
    execFileSync('sh', ['-c', script, 'sh', umask, from, clone, project], { stdio: 'pipe' })
    // Somebody may commit meanwhile.
    from = clone
    const build = 'umask "$1"; exec "$2" "$3/images/cli.ts" polynet --to "$3/out"'
    const printed = execFileSync('sh', ['-c', build, 'sh', umask, process.execPath, clone], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
    return /sha256:[0-9a-f]{64}/.exec(printed)?.[0]
  })
  assert.ok(digests[0])
  assert.equal(digests[1], digests[0])
})

const commands: [command: string, says: RegExp][] = [
  // busybox as a shell would run its own.
  ['nc -h', /^OpenBSD netcat/],
  ['timeout 5 nc -h', /^OpenBSD netcat/],
  ['dig -v', /^DiG 9/],
  ['host -V', /^host 9/],
  ['getent hosts localhost', /localhost/],
  ['curl --version', /^curl 7/],
  ['iperf -v', /^iperf version 2/],
  ['iperf3 -v', /^iperf 3/],
  ['ip -Version', /ip utility/],
  ['ss -V', /^ss utility/],
  ['timeout 1 tcpdump -i any', /listening on any/],
  ['wget --help', /^BusyBox/],
  ['/agnhost --help', /netexec/],
  ['/agnhost-2 --help', /netexec/],
]

test("agnhost has what Kubernetes' tests execute in it", { skip }, async (t) => {
  const { path, name } = await buildImage('agnhost', () => {}, dir)
  assert.match(name, /^registry\.k8s\.io\/e2e-test-images\/agnhost:\d/)
  unpackInto(join(dir, 'agnhost'), path)
  for (const [command, says] of commands)
    await t.test(command, () => assert.match(inRoot('agnhost', 0, '/bin/sh', '-c', command).said, says))
})
