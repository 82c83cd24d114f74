import { createHash } from 'node:crypto'
import { type Entry, file, tarOf } from './tar.ts'

/** What an image is: its files in layers, lowest first, and how a container of it is started. */
export interface Image {
  /** With registry and tag: `registry.k8s.io/pause:3.10`. */
  name: string
  /** As Go names it; absent: amd64. */
  architecture?: string
  layers: Entry[][]
  entrypoint?: string[]
  cmd?: string[]
  /** `PATH=/usr/bin` */
  env?: string[]
  /** `65532:65532`; absent: root */
  user?: string
  workingDir?: string
  labels?: Record<string, string>
}

export interface Archive {
  name: string
  /** The manifest's digest, which `ctr images list` and a registry show: `sha256:…`. */
  digest: string
  /** The uncompressed layers, in bytes. */
  sizes: number[]
  /** Each layer's tar, in pieces. */
  layers: Uint8Array[][]
  /** The archive, in pieces. */
  pieces: Uint8Array[]
}

/**
 * The image as one tar that `ctr images import`, `docker load` and `podman
 * load` take: an OCI layout with `manifest.json` beside it. Layers are not
 * compressed, so that the digest depends on no compressor's version; compress
 * the whole tar to carry it around, all of them take it so. Pure: the same
 * image gives the same bytes.
 */
export function archiveOf(image: Image, epochS = 0): Archive {
  const layers = image.layers.map((entries) => blobOf(tarOf(entries, epochS)))
  const config = jsonBlob({
    created: new Date(epochS * 1000).toISOString(),
    architecture: image.architecture ?? 'amd64',
    os: 'linux',
    config: {
      ...(image.user && { User: image.user }),
      Env: image.env ?? ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      ...(image.entrypoint && { Entrypoint: image.entrypoint }),
      ...(image.cmd && { Cmd: image.cmd }),
      WorkingDir: image.workingDir ?? '/',
      ...(image.labels && { Labels: image.labels }),
    },
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
    history: layers.map(() => ({ created: new Date(epochS * 1000).toISOString(), created_by: 'polynet' })),
  })
  const manifest = jsonBlob({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', config),
    layers: layers.map((layer) => descriptor('application/vnd.oci.image.layer.v1.tar', layer)),
  })
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest),
        platform: { architecture: image.architecture ?? 'amd64', os: 'linux' },
        annotations: {
          'io.containerd.image.name': image.name,
          'org.opencontainers.image.ref.name': image.name.split(':').at(-1),
        },
      },
    ],
  }
  const forDocker = [{ Config: pathOf(config), RepoTags: [image.name], Layers: layers.map(pathOf) }]
  const small = [
    file('index.json', JSON.stringify(index)),
    file('manifest.json', JSON.stringify(forDocker)),
    file('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' })),
  ]
  const blobs = [config, manifest, ...layers].map((blob) => file(pathOf(blob), joined(blob.pieces)))
  return {
    name: image.name,
    digest: manifest.digest,
    sizes: layers.map(({ size }) => size),
    layers: layers.map(({ pieces }) => pieces),
    pieces: tarOf([...small, ...blobs], epochS),
  }
}

interface Blob {
  digest: string
  size: number
  pieces: Uint8Array[]
}

function blobOf(pieces: Uint8Array[]): Blob {
  const hash = createHash('sha256')
  for (const piece of pieces) hash.update(piece)
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0)
  return { digest: `sha256:${hash.digest('hex')}`, size, pieces }
}

const jsonBlob = (value: unknown): Blob => blobOf([Buffer.from(JSON.stringify(value))])

const joined = (pieces: Uint8Array[]): Uint8Array =>
  pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)

const descriptor = (mediaType: string, { digest, size }: Blob) => ({ mediaType, digest, size })

const pathOf = ({ digest }: Blob): string => `blobs/sha256/${digest.slice('sha256:'.length)}`
