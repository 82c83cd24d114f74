import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { Fault } from '../src/lib/fault.ts'

/** What a cluster runs that Debian has, by the package it is in: programs, and files. */
const packages: Record<string, string[]> = {
  runc: ['runc'],
  'busybox-static': ['busybox'],
  iproute2: ['ip'],
  nftables: ['nft'],
  iptables: ['iptables'],
  conntrack: ['conntrack'],
  gcc: ['cc'],
  'libc6-dev': ['/usr/include/stdio.h'],
  tar: ['tar'],
  mount: ['mount'],
  'util-linux': ['nsenter', 'unshare', 'flock'],
}

/** Sees to it that all of them are here: installs them where this is Debian and we are root, or names what is missing. */
export function ensureDebian(say: (line: string) => void, wanted = packages): void {
  const missing = Object.keys(wanted).filter((name) => !wanted[name]!.every(isHere))
  if (missing.length === 0) return
  const doing = 'prepare this machine'
  if (!isHere('apt-get'))
    throw new Fault('unsupported', doing, `it lacks ${missing.join(', ')}; install them`)
  say(`installing from Debian: ${missing.join(' ')}`)
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    execFileSync('apt-get', ['update', '-qq'], { env, stdio: 'pipe' })
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], {
      env,
      stdio: 'pipe',
    })
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string | Buffer }
    throw new Fault('unsupported', doing, `apt-get install ${missing.join(' ')}: ${String(stderr).trim()}`)
  }
}

const isHere = (program: string): boolean =>
  // `command -v` takes a path only when it can be executed.
  existsSync(program) ||
  spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { env: { PATH: systemPath } }).status === 0

/** A root's path, whoever called us. */
export const systemPath = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`
