import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toolDir, versionOf } from '../cluster/build.ts'
import { Fault } from '../src/lib/fault.ts'
import { closureOf, debianPackages, type Package, type Pin, skeleton } from './debian.ts'
import type { Recipe } from './images.ts'
import { sbomOf } from './sbom.ts'
import { directory, type Entry, file, link } from './tar.ts'

/**
 * The images that Kubernetes' own tests of the network ask for, under the names
 * that `e2e.test --list-images` gives them. Upstream's agnhost is on Alpine;
 * this one has Debian's programs of the same names, and busybox where Debian
 * would have a package for each. /coredns and the registry for
 * `fake-registry-server`, which no test of the network's conformance uses,
 * are left out.
 */

/**
 * What tests execute. Debian's busybox prefers its own programs to those on
 * the PATH, and so must not be the shell, nor what starts others: `nc -v` in
 * its shell is not OpenBSD's.
 */
const programs = [
  ...[
    'bash',
    'dash',
    'coreutils',
    'findutils',
    'grep',
    'sed',
    'hostname',
    'util-linux',
    'procps',
    'busybox-static',
  ],
  ...['bind9-dnsutils', 'bind9-host', 'curl', 'iperf', 'iperf3', 'iproute2', 'iputils-ping', 'libc-bin'],
  ...['netcat-openbsd', 'socat', 'tcpdump'],
]

/** What packages ask for to be installed or configured, not to run. */
const configuring =
  /^(adduser|base-files|debconf|debianutils|dpkg|init-system-helpers|libcap2-bin|mawk|passwd|tar|usrmerge)$|perl|^lib(audit|gdbm|pam|sem|sepol|db5)/

export const testPackages = async (): Promise<string[]> =>
  (await closureOf(programs)).filter((name) => !configuring.test(name))

export const agnhost: Recipe = async ({ pins, cache, epochS }, say) => {
  const { base, debian } = await testRoot(pins, cache, say)
  const program = readFileSync(join(await toolDir('agnhost', say), 'agnhost'))
  const sources = join(kubernetesSources(), 'test/images/agnhost')
  const version = versionOf('agnhost').slice(1)
  const tag = readFileSync(join(sources, 'VERSION'), 'utf8').trim()
  const sbom = sbomOf(
    {
      name: 'agnhost',
      version: tag,
      debian,
      npm: [],
      others: [
        {
          name: 'k8s.io/kubernetes',
          version,
          license: 'Apache-2.0',
          purl: `pkg:golang/k8s.io/kubernetes@v${version}`,
        },
      ],
    },
    epochS,
  )
  const own: Entry[] = [
    file('agnhost', program, 0o755),
    // Tests of entry points tell the two apart.
    link('agnhost-2', 'agnhost'),
    ...['localhost.crt', 'localhost.key'].map((name) =>
      file(name, readFileSync(join(sources, 'porter', name))),
    ),
    directory('uploads'),
    file('usr/share/sbom/agnhost.spdx.json', sbom),
  ]
  const image = {
    name: `registry.k8s.io/e2e-test-images/agnhost:${tag}`,
    layers: [base, own],
    entrypoint: ['/agnhost'],
    cmd: ['pause'],
  }
  return { image, sbom }
}

/** For the half of the DNS tests that wants glibc's resolver. */
export const dnsTesting: Recipe = async ({ pins, cache, epochS }, say) => {
  const { base, debian } = await testRoot(pins, cache, say)
  const tag = readFileSync(join(kubernetesSources(), 'test/images/glibc-dns-testing/VERSION'), 'utf8').trim()
  const sbom = sbomOf({ name: 'glibc-dns-testing', version: tag, debian, npm: [], others: [] }, epochS)
  const name = `registry.k8s.io/e2e-test-images/glibc-dns-testing:${tag}`
  return { image: { name, layers: [base], cmd: ['bash'] }, sbom }
}

/** A root file system to work in by shell, like Alpine's. */
async function testRoot(
  pins: Pin[],
  cache: string,
  say: (line: string) => void,
): Promise<{ base: Entry[]; debian: Package[] }> {
  const debian = await debianPackages(
    pins.map(({ name }) => name),
    pins,
    cache,
    say,
  )
  const files = debian.flatMap(({ entries }) => entries).filter(({ path }) => !forPeople.test(path))
  const present = new Set(files.map(({ path }) => path))
  const has = (name: string) => present.has(`usr/bin/${name}`) || present.has(`usr/sbin/${name}`)
  const busybox = files.find(({ path }) => path === 'usr/bin/busybox')
  if (busybox?.kind !== 'file')
    throw new Fault('missing', 'build a test image', 'debian.lock has no busybox-static')
  const base: Entry[] = [
    ...skeleton(),
    ...files,
    ...appletsOf(busybox.bytes)
      .filter((name) => !has(name))
      .map((name) => link(`usr/bin/${name}`, 'busybox')),
    // What Debian's packages would have done when configured.
    link('usr/bin/sh', 'dash'),
    link('usr/bin/nc', 'nc.openbsd'),
    link('usr/local/bin/iperf', '/usr/bin/iperf'),
    file('etc/passwd', users),
    file('etc/group', groups),
    file('etc/hosts', '127.0.0.1 localhost\n::1 localhost\n'),
  ]
  return { base, debian }
}

/** With the user and the group that a test of supplementary groups looks for, and the one that tcpdump becomes. */
const users = `\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
tcpdump:x:106:106::/:/bin/false
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
`
const groups = `\
root:x:0:
tcpdump:x:106:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
nogroup:x:65534:
`

const forPeople =
  /^usr\/share\/(man|locale|info|lintian|bug|bash-completion|zsh|doc\/[^/]+\/(?!copyright$))|\/gconv\//

function appletsOf(busybox: Uint8Array): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'polynet-image-'))
  try {
    const path = join(dir, 'busybox')
    writeFileSync(path, busybox)
    chmodSync(path, 0o755)
    const names = execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n')
    return names.filter((name) => name !== 'busybox')
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Where Go has put the module that agnhost was built of. */
function kubernetesSources(): string {
  const cwd = join(import.meta.dirname, '../cluster/modules/agnhost')
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/local/go/bin:/usr/lib/go/bin`, GOWORK: 'off' }
  const list = ['list', '-m', '-f', '{{.Dir}}', 'k8s.io/kubernetes']
  try {
    return execFileSync('go', list, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
  } catch (error) {
    throw new Fault(
      'unsupported',
      "find Kubernetes' sources",
      `${(error as Error).message}; install Go`,
      error,
    )
  }
}
