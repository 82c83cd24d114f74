import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { directory, type Entry, entriesOf, file, link, tarOf } from './tar.ts'

const long = `usr/share/${'long/'.repeat(24)}name`

const entries: Entry[] = [
  link('usr/bin/sh', 'busybox'),
  file('usr/bin/busybox', 'ELF', 0o755),
  file('etc/passwd', 'root:x:0:0::/:\n'),
  directory('tmp', 0o1777),
  file(long, 'x'.repeat(512)),
  link('usr/share/far', `/${long}`),
  file('usr/share/Főtanúsítvány.crt', ''),
]

const bytesOf = (some: Entry[], epochS?: number): Buffer => Buffer.concat(tarOf(some, epochS))

test('tar reads what we write: sorted, all owned by root, with the directories on the way', () => {
  const listed = spawnSync(
    'tar',
    ['--list', '--verbose', '--numeric-owner', '--utc', '--full-time', '--file=-'],
    {
      input: bytesOf(entries, 86400),
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    },
  )
  const lines = listed.stdout
    .toString()
    .replaceAll(/ +/g, ' ')
    .replaceAll(/(long\/)+/g, 'long/*/')
  const unlong = lines.split('\n').filter((line) => !line.endsWith('*/'))
  assert.equal(listed.stderr.toString(), '')
  assert.equal(
    unlong.join('\n'),
    `\
drwxr-xr-x 0/0 0 1970-01-02 00:00:00 etc/
-rw-r--r-- 0/0 15 1970-01-02 00:00:00 etc/passwd
drwxrwxrwt 0/0 0 1970-01-02 00:00:00 tmp/
drwxr-xr-x 0/0 0 1970-01-02 00:00:00 usr/
drwxr-xr-x 0/0 0 1970-01-02 00:00:00 usr/bin/
-rwxr-xr-x 0/0 3 1970-01-02 00:00:00 usr/bin/busybox
lrwxrwxrwx 0/0 0 1970-01-02 00:00:00 usr/bin/sh -> busybox
drwxr-xr-x 0/0 0 1970-01-02 00:00:00 usr/share/
-rw-r--r-- 0/0 0 1970-01-02 00:00:00 usr/share/Főtanúsítvány.crt
lrwxrwxrwx 0/0 0 1970-01-02 00:00:00 usr/share/far -> /usr/share/long/*/name
-rw-r--r-- 0/0 512 1970-01-02 00:00:00 usr/share/long/*/name
`,
  )
})

test('what was written is read as it was', () => {
  const sorted = entries.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  const read = entriesOf(bytesOf(entries)).filter(({ path }) => sorted.some((entry) => entry.path === path))
  assert.deepEqual(read.map(plain), sorted.map(plain))
})

test('the order of entries does not matter, and the last of several with one path counts', () => {
  assert.deepEqual(bytesOf(entries.toReversed()), bytesOf(entries))
  assert.deepEqual(bytesOf([file('a', 'old'), file('a', 'new')]), bytesOf([file('a', 'new')]))
})

for (const format of ['gnu', 'pax'])
  test(`an archive of tar --format=${format} is read: long names where it has them, hard links as copies`, () => {
    const name = `${'l'.repeat(90)}/${'n'.repeat(90)}`
    const script = `
      set -e; cd "$(mktemp -d)"; trap 'rm -r "$PWD"' EXIT
      mkdir -p "$(dirname "$1")"; printf text > "$1"; chmod 4755 "$1"; ln "$1" hard; ln -s "$1" soft
      tar --create --format="$2" --file=- ./"$1" ./hard ./soft`
    const { stdout, stderr } = spawnSync('sh', ['-c', script, 'sh', name, format])
    assert.equal(stderr.toString(), '')
    const text = file(name, 'text', 0o4755)
    assert.deepEqual(
      entriesOf(stdout).map(plain),
      [text, { ...text, path: 'hard' }, link('soft', name)].map(plain),
    )
  })

const plain = (entry: Entry) =>
  entry.kind === 'file' ? { ...entry, bytes: Buffer.from(entry.bytes).toString() } : entry
