import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { toolDir } from '../../cluster/build.ts'
import { saveImage } from '../../cluster/images.ts'

/** What the manifests of the peers name, with the programs where their own images have them. */
const images = {
  multus: {
    'multus-daemon': '/usr/src/multus-cni/bin/multus-daemon',
    'multus-shim': '/usr/src/multus-cni/bin/multus-shim',
    'passthru-cni': '/usr/src/multus-cni/bin/passthru',
  },
  whereabouts: { whereabouts: '/whereabouts', 'ip-control-loop': '/ip-control-loop' },
}

/** The `docker save` files of the peers, in the folder `dir`: their programs, and busybox for their scripts. */
export async function peerImages(dir: string, say: (line: string) => void): Promise<string[]> {
  const tars: string[] = []
  for (const name of ['multus', 'whereabouts'] as const) {
    const programs = await toolDir(name, say)
    const root = join(dir, name)
    for (const [program, path] of Object.entries(images[name])) put(join(programs, program), join(root, path))
    put(
      execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim(),
      join(root, 'bin/busybox'),
    )
    for (const applet of ['sh', 'cp', 'cat', 'mkdir', 'base64', 'tr'])
      symlinkSync('busybox', join(root, 'bin', applet))
    mkdirSync(join(root, 'tmp'))
    mkdirSync(join(root, 'etc'))
    // As in every distribution; runtimes say /var/run of what is in /run.
    mkdirSync(join(root, 'var'))
    symlinkSync('/run', join(root, 'var/run'))
    // Multus asks who it is.
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    saveImage({ name: `peers.bench/${name}:bench`, root }, `${root}.tar`)
    tars.push(`${root}.tar`)
  }
  return tars
}

function put(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
  chmodSync(to, 0o755)
}
