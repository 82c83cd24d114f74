import { readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Fault } from '../src/lib/fault.ts'
import { archiveOf, type Image } from './archive.ts'
import { debianPackages, lockText, type Pin, readLock } from './debian.ts'
import { agnhost, dnsTesting, testPackages } from './kubernetes-tests.ts'
import { nodeLibraries, polynet } from './polynet.ts'
import { writeRoot } from './root.ts'
import { save } from './save.ts'

/** What can be built, and how. */
export const images = { polynet, agnhost, 'glibc-dns-testing': dnsTesting } as const satisfies Record<
  string,
  Recipe
>

export type ImageName = keyof typeof images

/** Makes an image out of the project in `root` and Debian's packages, which are kept in `cache`. */
export type Recipe = (
  from: { root: string; pins: Pin[]; cache: string; epochS: number },
  say: (line: string) => void,
) => Promise<{ image: Image; sbom: string }>

export interface Built {
  /** What a pod's `image:` names. */
  name: string
  /** The archive, for `ctr images import` and `docker load`. */
  path: string
  /** What is in it, as SPDX 2.3. */
  sbom: string
  digest: string
  /** Unpacked, in bytes. */
  size: number
  /** The layers, for whoever wants to know what a registry would hold. */
  layers: Uint8Array[][]
}

const root = join(import.meta.dirname, '..')
const lockPath = join(import.meta.dirname, 'debian.lock')
export const cacheDir = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'polynet/images')

/**
 * Builds an image into the folder `to`, as `<image>.tar` and
 * `<image>.spdx.json`. The same sources, packages and compilers give the
 * same digest. `SOURCE_DATE_EPOCH` is the time that everything in it has.
 */
export async function buildImage(
  which: ImageName,
  say: (line: string) => void = () => {},
  to = cacheDir(),
): Promise<Built> {
  const { image, sbom, epochS } = await imageOf(which, say)
  const archive = archiveOf(image, epochS)
  const [path, sbomPath] = [join(to, `${which}.tar`), join(to, `${which}.spdx.json`)]
  save(archive.pieces, path)
  save([Buffer.from(sbom)], sbomPath)
  const size = archive.sizes.reduce((sum, layer) => sum + layer, 0)
  return { name: image.name, path, sbom: sbomPath, digest: archive.digest, size, layers: archive.layers }
}

/** An image's files alone, into the folder `dir`. */
export async function buildRoot(which: ImageName, say: (line: string) => void, dir: string): Promise<void> {
  const { image } = await imageOf(which, say)
  writeRoot(image.layers, dir)
}

async function imageOf(which: ImageName, say: (line: string) => void) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Fault(
      'unsupported',
      `build image ${which}`,
      'images are for linux/amd64; build them on such a machine',
    )
  const epochS = Number(process.env.SOURCE_DATE_EPOCH ?? 0)
  const pins = readLock(readFileSync(lockPath, 'utf8'))
  const cache = join(cacheDir(), 'debian')
  return { ...(await images[which]({ root, pins, cache, epochS }, say)), epochS }
}

/** Writes down what Debian's archive has today. Returns how many packages that is. */
export async function lock(say: (line: string) => void = () => {}): Promise<number> {
  const names = [...new Set([...nodeLibraries, ...(await testPackages())])]
  const packages = await debianPackages(names, [], join(cacheDir(), 'debian'), say)
  writeFileSync(lockPath, lockText(packages))
  return packages.length
}
