import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { archiveOf, type Image } from './archive.ts'
import { entriesOf, file } from './tar.ts'

const image: Image = {
  name: 'registry.example:5000/blue/pause:1',
  layers: [[file('pause', 'ELF', 0o755)], [file('etc/passwd', '')]],
  entrypoint: ['/pause'],
  user: '65532:65532',
}

/** Path to content, JSON read. */
function unpacked(pieces: Uint8Array[]): Map<string, Buffer> {
  const files = entriesOf(Buffer.concat(pieces)).filter((entry) => entry.kind === 'file')
  return new Map(files.map(({ path, bytes }) => [path, Buffer.from(bytes)]))
}

const json = (bytes: Buffer | undefined) => JSON.parse(String(bytes))

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

test('every blob is named by its digest, and all that is named is there', () => {
  const { pieces, digest } = archiveOf(image)
  const files = unpacked(pieces)
  const blobs = [...files].filter(([path]) => path.startsWith('blobs/'))
  for (const [path, bytes] of blobs) assert.equal(path, `blobs/sha256/${sha256(bytes)}`)
  const blob = (name: string) => files.get(`blobs/sha256/${name.replace('sha256:', '')}`)
  const [inIndex] = json(files.get('index.json')).manifests
  assert.equal(inIndex.digest, digest)
  const manifest = json(blob(digest))
  for (const { digest, size } of [inIndex, manifest.config, ...manifest.layers])
    assert.equal(blob(digest)?.length, size)
  assert.deepEqual(
    json(blob(manifest.config.digest)).rootfs.diff_ids,
    manifest.layers.map(({ digest }: { digest: string }) => digest),
  )
  assert.equal(blobs.length, 4)
})

test('containerd and Docker read the same image under the same name', () => {
  const files = unpacked(archiveOf(image).pieces)
  const [inIndex] = json(files.get('index.json')).manifests
  const manifest = json(files.get(`blobs/sha256/${inIndex.digest.slice(7)}`))
  const path = ({ digest }: { digest: string }) => `blobs/sha256/${digest.slice(7)}`
  assert.deepEqual(json(files.get('manifest.json')), [
    {
      Config: path(manifest.config),
      RepoTags: ['registry.example:5000/blue/pause:1'],
      Layers: manifest.layers.map(path),
    },
  ])
  assert.deepEqual(inIndex.annotations, {
    'io.containerd.image.name': 'registry.example:5000/blue/pause:1',
    'org.opencontainers.image.ref.name': '1',
  })
})

test('the same image gives the same bytes; another time another digest', () => {
  assert.deepEqual(unpacked(archiveOf(image).pieces), unpacked(archiveOf(structuredClone(image)).pieces))
  assert.notEqual(archiveOf(image, 1).digest, archiveOf(image, 0).digest)
})
