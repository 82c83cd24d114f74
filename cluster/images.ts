import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { toolDir, versionOf } from './build.ts'
import { systemPath } from './debian.ts'

/** The one that Kubernetes' own tests name, too. */
export const pauseImage = 'registry.k8s.io/pause:3.10.2'
export const busyboxImage = 'docker.io/library/busybox:latest'
export const corednsImage = (): string => `registry.k8s.io/coredns/coredns:${versionOf('coredns')}`

export interface Image {
  name: string
  /** A folder: what the image's file system is. */
  root: string
  /** As in an OCI image's config: `Entrypoint`, `Cmd`, `Env`, `User`, `WorkingDir`. */
  config?: Record<string, unknown>
}

/** Writes `image` to the file `tar` as `docker save` does: one layer, everything root's, no times; the same bytes for the same files. */
export function saveImage(image: Image, tar: string): void {
  const dir = `${tar}.${randomUUID()}`
  mkdirSync(dir, { recursive: true })
  try {
    const layer = join(dir, 'layer.tar')
    tarOf(image.root, layer)
    const digest = createHash('sha256').update(readFileSync(layer)).digest('hex')
    const config = JSON.stringify({
      architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
      os: 'linux',
      created: '1970-01-01T00:00:00Z',
      config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], ...image.config },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    })
    const configName = `${createHash('sha256').update(config).digest('hex')}.json`
    writeFileSync(join(dir, configName), config)
    const manifest = [{ Config: configName, RepoTags: [image.name], Layers: ['layer.tar'] }]
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest))
    tarOf(dir, `${dir}.tar`)
    renameSync(`${dir}.tar`, tar)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function tarOf(root: string, target: string): void {
  const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner']
  execFileSync('tar', [...same, '-C', root, '-cf', target, '.'], { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The `docker save` files of what every cluster has on its nodes: pause, busybox, CoreDNS. Made once, in `cache`. */
export async function baseImages(cache: string, say: (line: string) => void): Promise<string[]> {
  const coredns = join(await toolDir('coredns', say), 'coredns')
  const dir = join(
    cache,
    `images-${createHash('sha256')
      .update(readFileSync(import.meta.filename))
      .update(coredns)
      .digest('hex')
      .slice(0, 8)}`,
  )
  const tars = ['pause', 'busybox', 'coredns'].map((name) => join(dir, `${name}.tar`))
  if (existsSync(dir)) return tars
  const fresh = join(cache, `.images.${randomUUID()}`)
  try {
    const root = (name: string) => {
      const path = join(fresh, name)
      mkdirSync(join(path, 'tmp'), { recursive: true })
      chmodSync(join(path, 'tmp'), 0o1777)
      return path
    }
    execFileSync('cc', [
      '-Os',
      '-static',
      '-s',
      '-o',
      join(root('pause'), 'pause'),
      join(import.meta.dirname, 'pause.c'),
    ])
    const pause = {
      name: pauseImage,
      root: join(fresh, 'pause'),
      config: { Entrypoint: ['/pause'], User: '65535' },
    }
    busyboxRoot(root('busybox'))
    const busybox = { name: busyboxImage, root: join(fresh, 'busybox'), config: { Cmd: idle } }
    copyFileSync(coredns, join(root('coredns'), 'coredns'))
    const dns = { name: corednsImage(), root: join(fresh, 'coredns'), config: { Entrypoint: ['/coredns'] } }
    for (const image of [pause, busybox, dns]) {
      saveImage(image, `${image.root}.tar`)
      rmSync(image.root, { recursive: true })
    }
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
function busyboxRoot(root: string): void {
  for (const dir of ['bin', 'etc', 'root', 'dev', 'proc', 'sys'])
    mkdirSync(join(root, dir), { recursive: true })
  const path = execFileSync('sh', ['-c', 'command -v busybox'], {
    env: { PATH: systemPath },
    encoding: 'utf8',
  }).trim()
  copyFileSync(path, join(root, 'bin/busybox'))
  for (const name of execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n'))
    if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name))
  for (const dir of ['usr/bin', 'usr/sbin', 'sbin']) {
    mkdirSync(join(root, dir, '..'), { recursive: true })
    symlinkSync('/bin', join(root, dir))
  }
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  )
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
}
