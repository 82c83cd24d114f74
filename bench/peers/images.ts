import { join } from 'node:path'
import { toolDir } from '../../cluster/build.ts'
import { busyboxPath, imageOf, programAt } from '../../cluster/images.ts'
import { saveImage } from '../../images/save.ts'
import { directory, file, link } from '../../images/tar.ts'

/** What the manifests of the peers name, with the programs where their own images have them. */
const images = {
  multus: {
    'multus-daemon': 'usr/src/multus-cni/bin/multus-daemon',
    'multus-shim': 'usr/src/multus-cni/bin/multus-shim',
    'passthru-cni': 'usr/src/multus-cni/bin/passthru',
  },
  whereabouts: { whereabouts: 'whereabouts', 'ip-control-loop': 'ip-control-loop' },
}

/** The `docker save` files of the peers, in the folder `dir`: their programs, and busybox for their scripts. */
export async function peerImages(dir: string, say: (line: string) => void): Promise<string[]> {
  const tars: string[] = []
  for (const name of ['multus', 'whereabouts'] as const) {
    const programs = await toolDir(name, say)
    const tar = join(dir, `${name}.tar`)
    const entries = [
      ...Object.entries(images[name]).map(([program, path]) => programAt(path, join(programs, program))),
      programAt('bin/busybox', busyboxPath()),
      ...['sh', 'cp', 'cat', 'mkdir', 'base64', 'tr'].map((applet) => link(`bin/${applet}`, 'busybox')),
      directory('var'),
      // As in every distribution; runtimes say /var/run of what is in /run.
      link('var/run', '/run'),
      // Multus asks who it is.
      file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'),
    ]
    saveImage(imageOf(`peers.bench/${name}:bench`, entries), tar)
    tars.push(tar)
  }
  return tars
}
