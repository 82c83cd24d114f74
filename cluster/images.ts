import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Image } from '../images/archive.ts'
import { saveImage } from '../images/save.ts'
import { directory, type Entry, file, link } from '../images/tar.ts'
import { toolDir, versionOf } from './build.ts'
import { systemPath } from './debian.ts'

/** The one that Kubernetes' own tests name, too. */
export const pauseImage = 'registry.k8s.io/pause:3.10.2'
const busyboxImage = 'docker.io/library/busybox:latest'
export const corednsImage = (): string => `registry.k8s.io/coredns/coredns:${versionOf('coredns')}`

/** An image for this machine, of one layer. */
export const imageOf = (
  name: string,
  entries: Entry[],
  config: Omit<Image, 'name' | 'layers' | 'architecture'> = {},
): Image => ({
  name,
  layers: [[directory('tmp', 0o1777), ...entries]],
  architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
  ...config,
})

/** A program of this machine at `path` of an image. */
export const programAt = (path: string, from: string): Entry => file(path, readFileSync(from), 0o755)

/** Where Debian has its static busybox. */
export const busyboxPath = (): string =>
  execFileSync('sh', ['-c', 'command -v busybox'], { env: { PATH: systemPath }, encoding: 'utf8' }).trim()

/** The files of what every cluster has on its nodes: pause, busybox, CoreDNS. Made once, in `cache`. */
export async function baseImages(cache: string, say: (line: string) => void): Promise<string[]> {
  const coredns = join(await toolDir('coredns', say), 'coredns')
  const key = createHash('sha256')
    .update(readFileSync(import.meta.filename))
    .update(coredns)
    .digest('hex')
  const dir = join(cache, `images-${key.slice(0, 8)}`)
  const tars = ['pause', 'busybox', 'coredns'].map((name) => join(dir, `${name}.tar`))
  if (existsSync(dir)) return tars
  const fresh = join(cache, `.images.${randomUUID()}`)
  try {
    mkdirSync(fresh, { recursive: true })
    const pause = join(fresh, 'pause')
    execFileSync('cc', ['-Os', '-static', '-s', '-o', pause, join(import.meta.dirname, 'pause.c')])
    const images = {
      pause: imageOf(pauseImage, [programAt('pause', pause)], { entrypoint: ['/pause'], user: '65535' }),
      busybox: imageOf(busyboxImage, busyboxEntries(busyboxPath()), { cmd: idle }),
      coredns: imageOf(corednsImage(), [programAt('coredns', coredns)], { entrypoint: ['/coredns'] }),
    }
    rmSync(pause)
    for (const [name, image] of Object.entries(images)) saveImage(image, join(fresh, `${name}.tar`))
    try {
      renameSync(fresh, dir)
    } catch (error) {
      if (!existsSync(dir)) throw error
    }
    return tars
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

/** What a container does whose pod says nothing: goes on, and ends when it is asked to. */
const idle = ['sh', '-c', 'trap exit TERM; sleep infinity & wait']

/** Debian's static busybox, and a link for each program that it is. */
function busyboxEntries(path: string): Entry[] {
  const names = execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n')
  return [
    ...['etc', 'root', 'dev', 'proc', 'sys'].map((dir) => directory(dir)),
    programAt('bin/busybox', path),
    ...names.filter((name) => name !== 'busybox').map((name) => link(`bin/${name}`, 'busybox')),
    ...['usr/bin', 'usr/sbin', 'sbin'].map((dir) => link(dir, '/bin')),
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n'),
    file('etc/group', 'root:x:0:\nnogroup:x:65534:\n'),
  ]
}
