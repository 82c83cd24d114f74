import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Fault } from '../src/lib/fault.ts'
import { directory, type Entry, entriesOf, file, link } from './tar.ts'

/** One line of `debian.lock`: a package of Debian's archive, as exactly as its checksum says. */
export interface Pin {
  name: string
  version: string
  sha256: string
}

/** A package that was unpacked. */
export interface Package {
  name: string
  version: string
  /** The source package, where that has another name. */
  source: string
  sha256: string
  entries: Entry[]
}

export const readLock = (text: string): Pin[] =>
  text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name = '', version = '', sha256 = ''] = line.split(' ')
      return { name, version, sha256 }
    })

export const lockText = (pins: Pin[]): string =>
  [
    "# Debian's packages in the images: name, version, sha256. Written by `npm run images -- --lock`.",
    ...pins
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(({ name, version, sha256 }) => `${name} ${version} ${sha256}`),
    '',
  ].join('\n')

/**
 * The packages called `names`, unpacked and not configured: no script of
 * theirs is run. They come from the archive that apt has on this machine, and
 * are kept in `cache` by their checksums. Where the archive no longer has what
 * is pinned, what it has takes its place, and `say` hears of it.
 */
export async function debianPackages(
  names: string[],
  pins: Pin[],
  cache: string,
  say: (line: string) => void,
): Promise<Package[]> {
  mkdirSync(cache, { recursive: true })
  const wanted = names.map(
    (name): Pin => pins.find((pin) => pin.name === name) ?? { name, version: '', sha256: '' },
  )
  const pathOf = ({ sha256 }: Pin) => join(cache, `${sha256}.deb`)
  const missing = wanted.filter((pin) => !existsSync(pathOf(pin)))
  const fetched = missing.length === 0 ? [] : await download(missing, cache, say)
  const packages = await Promise.all(
    [...wanted.filter((pin) => !missing.includes(pin)), ...fetched].map((pin) =>
      unpack(pathOf(pin), pin.sha256),
    ),
  )
  for (const { name, version } of packages) {
    const pin = pins.find((pin) => pin.name === name)
    if (pin && pin.version !== version)
      say(
        `${name} ${version} instead of ${pin.version}, which the archive no longer has; npm run images -- --lock pins it`,
      )
  }
  return packages.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** `names` and all that they depend on, as apt would install them where nothing is yet. */
export async function closureOf(names: string[]): Promise<string[]> {
  const options = [
    '-o',
    'Dir::State::status=/dev/null',
    '-o',
    'APT::Architectures=amd64',
    '--no-install-recommends',
  ]
  const plan = await run('apt-get', ['install', '--simulate', ...options, ...names])
  return [...plan.matchAll(/^Inst (\S+)/gm)].map(([, name = '']) => name).sort()
}

/** Downloads into the cache, and says what came. */
async function download(pins: Pin[], cache: string, say: (line: string) => void): Promise<Pin[]> {
  say(`fetching ${pins.length} packages from Debian's archive`)
  const dir = mkdtempSync(join(cache, '.download-'))
  const exact = pins.map(({ name, version }) => (version === '' ? name : `${name}=${version}`))
  const loose = pins.map(({ name }) => name)
  try {
    await fetchInto(dir, exact).catch(async () => {
      // A list of packages that is old, or none, is the usual cause.
      if (process.getuid?.() === 0) await run('apt-get', ['update', '-qq'])
      await fetchInto(dir, exact).catch(() => fetchInto(dir, loose))
    })
    return globSync('*.deb', { cwd: dir }).map((found) => {
      const [name = '', version = ''] = decodeURIComponent(found).split('_')
      const sha256 = createHash('sha256')
        .update(readFileSync(join(dir, found)))
        .digest('hex')
      const pin = pins.find((pin) => pin.name === name)
      if (pin?.version === version && pin.sha256 !== '' && pin.sha256 !== sha256) {
        const problem = `its checksum is ${sha256}, debian.lock says ${pin.sha256}; look which archive apt has`
        throw new Fault('invalid', `fetch ${name} ${version}`, problem)
      }
      renameSync(join(dir, found), join(cache, `${sha256}.deb`))
      return { name, version, sha256 }
    })
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const fetchInto = (cwd: string, packages: string[]): Promise<string> =>
  run('apt-get', ['download', '-q', '-o', 'APT::Sandbox::User=root', ...packages], cwd)

async function unpack(path: string, sha256: string): Promise<Package> {
  const [control, tar] = await Promise.all([
    run('dpkg-deb', ['--field', path]),
    output('dpkg-deb', ['--fsys-tarfile', path]),
  ])
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(control)?.[1] ?? ''
  const [name, version] = [field('Package'), field('Version')]
  return {
    name,
    version,
    source: field('Source').split(' ')[0] || name,
    sha256,
    // Where scanners for vulnerabilities look for what is installed, when there is no dpkg.
    entries: [
      ...merged(entriesOf(tar)),
      file(`var/lib/dpkg/status.d/${name}`, `${control.trimEnd()}\nStatus: install ok installed\n\n`),
    ],
  }
}

const outside = /^(bin|sbin|lib|lib64)(?=\/|$)/

/** With all of `bin`, `sbin`, `lib` below `usr`, as every Debian system has it; nothing gives its caller another's identity. */
const merged = (entries: Entry[]): Entry[] =>
  entries.map((entry) => {
    const path = entry.path.replace(outside, 'usr/$1')
    return entry.kind === 'file' ? { ...entry, path, mode: entry.mode & 0o777 } : { ...entry, path }
  })

/** What every root file system has around the packages' files. */
export const skeleton = (): Entry[] => [
  ...['bin', 'sbin', 'lib', 'lib64'].flatMap((name) => [directory(`usr/${name}`), link(name, `usr/${name}`)]),
  ...['dev', 'proc', 'sys', 'run', 'root', 'var/lib'].map((path) => directory(path)),
  link('var/run', '/run'),
  directory('tmp', 0o1777),
  // glibc without this file asks DNS before /etc/hosts.
  file('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'),
]

const execute = promisify(execFile)

const run = async (program: string, args: string[], cwd?: string): Promise<string> =>
  (await output(program, args, cwd)).toString()

async function output(program: string, args: string[], cwd?: string): Promise<Buffer> {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' }
  const doing = `${program} ${args[0]}`
  try {
    return (await execute(program, args, { cwd, env, encoding: 'buffer', maxBuffer: 2 ** 30 })).stdout
  } catch (error) {
    const { code, stderr = '' } = error as { code?: string | number; stderr?: string | Buffer }
    if (code === 'ENOENT')
      throw new Fault(
        'unsupported',
        doing,
        `there is no ${program}; images are built on Debian or what comes from it`,
      )
    throw new Fault('unavailable', doing, String(stderr).trim() || String(error), error)
  }
}
