import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { Fault } from '../src/lib/fault.ts'

/** What a cluster is made of that Debian does not have: Go programs, each set pinned by a go.mod in `modules/`. */
export type Tool = keyof typeof tools

interface Recipe {
  /** The module whose version is the tool's. */
  module: string
  /** On two cores, from nothing. */
  expectS: number
  tags?: string
  /** Go variables that tell the program its version. */
  stamp?: (version: string) => Record<string, string>
  /** Part of it is C. */
  cgo?: boolean
  /** Programs that people know by another name than their folder's. */
  rename?: Record<string, string>
  /** What is built are tests. */
  tests?: boolean
}

const kubernetes: Recipe = {
  module: 'k8s.io/kubernetes',
  expectS: 400,
  stamp: (version) => {
    const [major = '', minor = ''] = version.slice(1).split('.')
    const facts = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' }
    const packages = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']
    return Object.fromEntries(
      packages.flatMap((name) => Object.entries(facts).map(([key, value]) => [`${name}.${key}`, value])),
    )
  },
}

export const tools = {
  'kubernetes-1.37': kubernetes,
  'kubernetes-1.34': kubernetes,
  // The server and client of Kubernetes' own tests.
  agnhost: { ...kubernetes, expectS: 60 },
  // Those tests: `e2e.test`.
  e2e: { ...kubernetes, expectS: 300, tests: true },
  containerd: {
    module: 'github.com/containerd/containerd/v2',
    expectS: 60,
    tags: 'no_btrfs,no_devmapper,no_zfs',
    stamp: (version) => ({ 'github.com/containerd/containerd/v2/version.Version': version }),
  },
  etcd: {
    module: 'go.etcd.io/etcd/server/v3',
    expectS: 30,
    rename: { server: 'etcd' },
  },
  plugins: {
    module: 'github.com/containernetworking/plugins',
    expectS: 30,
    stamp: (version) => ({
      'github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion': version,
    }),
  },
  // What Polynet is measured beside (`bench/peers.ts`).
  multus: {
    module: 'gopkg.in/k8snetworkplumbingwg/multus-cni.v4',
    expectS: 100,
    stamp: (version) => ({ 'gopkg.in/k8snetworkplumbingwg/multus-cni.v4/pkg/multus.version': version }),
  },
  whereabouts: {
    module: 'github.com/k8snetworkplumbingwg/whereabouts',
    expectS: 80,
    rename: { cmd: 'whereabouts', controlloop: 'ip-control-loop' },
    stamp: (version) => ({ 'github.com/k8snetworkplumbingwg/whereabouts/pkg/version.Version': version }),
  },
  coredns: { module: 'github.com/coredns/coredns', expectS: 180 },
  flannel: {
    module: 'github.com/flannel-io/flannel',
    expectS: 120,
    cgo: true,
    rename: { flannel: 'flanneld' },
    stamp: (version) => ({ 'github.com/flannel-io/flannel/pkg/version.Version': version }),
  },
  // The last release of the reference plugins that has it; its own repository is not to be had as a module.
  'flannel-plugin': { module: 'github.com/containernetworking/plugins', expectS: 10 },
  helm: {
    module: 'helm.sh/helm/v4',
    expectS: 90,
    stamp: (version) => ({ 'helm.sh/helm/v4/internal/version.version': version }),
  },
} as const satisfies Record<string, Recipe>

/** `v1.37.2` */
export const versionOf = (tool: Tool): string => pinOf(tool).version

/**
 * The folder with the tool's programs, built by the first call on this
 * machine and kept in the user's cache. `say` hears how far it is. Several
 * at once do no harm, nor does one that is killed: a folder is there whole or
 * not at all, and one process builds a tool while others wait for it.
 */
export async function toolDir(tool: Tool, say: (line: string) => void = () => {}): Promise<string> {
  const { version, digest, programs } = pinOf(tool)
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'polynet')
  const name = `${tool.replace(/-[\d.]+$/, '')}-${version.slice(1)}`
  const dir = join(cache, `${name}-${digest}`)
  if (existsSync(dir)) return dir
  mkdirSync(cache, { recursive: true })
  const recipe: Recipe = tools[tool]
  const began = performance.now()
  const elapsed = () => `${Math.round((performance.now() - began) / 1000)} s`
  say(`building ${name}: ${programs.length} programs, about ${recipe.expectS} s from nothing on two cores`)
  const ticker = setInterval(() => say(`building ${name}: ${elapsed()} of about ${recipe.expectS} s`), 15_000)
  const fresh = join(cache, `.${name}.${process.pid}.${randomUUID()}`)
  try {
    mkdirSync(fresh)
    // Whoever waited for the lock finds the folder there, and Go's own cache full.
    await go(tool, join(cache, `.${tool}.lock`), [
      ...(recipe.tests ? ['test', '-c'] : ['build']),
      '-trimpath',
      '-buildvcs=false',
      '-mod=readonly',
      ...(recipe.tags ? ['-tags', recipe.tags] : []),
      '-ldflags',
      ['-s', '-w', ...stamps(recipe, version)].join(' '),
      '-o',
      `${fresh}/`,
      ...programs,
    ])
    for (const [from, to] of Object.entries(recipe.rename ?? {}))
      renameSync(join(fresh, from), join(fresh, to))
    try {
      renameSync(fresh, dir)
    } catch (error) {
      if (!existsSync(dir)) throw error
    }
    say(`built ${name} in ${elapsed()}`)
    return dir
  } finally {
    clearInterval(ticker)
    rmSync(fresh, { recursive: true, force: true })
    removeAbandoned(cache)
  }
}

function stamps(recipe: Recipe, version: string): string[] {
  return Object.entries(recipe.stamp?.(version) ?? {}).map(([name, value]) => `-X=${name}=${value}`)
}

/** What the tool's go.mod pins. */
function pinOf(tool: Tool): { version: string; digest: string; programs: string[] } {
  const recipe: Recipe = tools[tool]
  const dir = join(import.meta.dirname, 'modules', tool)
  const mod = readFileSync(join(dir, 'go.mod'), 'utf8')
  const version = mod
    .split('\n')
    .map((line) =>
      line
        .trim()
        .replace(/^require /, '')
        .split(/\s+/),
    )
    .find(([name]) => name === recipe.module)?.[1]
  if (!version)
    throw new Fault('invalid', `build ${tool}`, `modules/${tool}/go.mod does not pin ${recipe.module}`)
  const block = /^tool \(\n([^)]*)\)/m.exec(mod)?.[1] ?? /^tool (.*)$/m.exec(mod)?.[1] ?? ''
  const programs = block
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const digest = createHash('sha256')
    .update(mod)
    .update(readFileSync(join(dir, 'go.sum')))
    .update(JSON.stringify([recipe.tags, recipe.rename, stamps(recipe, version), process.arch]))
    .digest('hex')
    .slice(0, 8)
  return { version, digest, programs }
}

/** `flock` lets go of the lock when it ends, however that is. */
function go(tool: Tool, lock: string, args: string[]): Promise<void> {
  const cwd = join(import.meta.dirname, 'modules', tool)
  const path = `${process.env.PATH}:/usr/local/go/bin:/usr/lib/go/bin`
  const env = {
    ...process.env,
    PATH: path,
    CGO_ENABLED: (tools[tool] as Recipe).cgo ? '1' : '0',
    GOFLAGS: '',
    GOWORK: 'off',
  }
  const child = spawn('flock', [lock, 'go', ...args], { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000)
  })
  return new Promise((resolve, reject) => {
    const doing = `build ${tool}`
    child.on('error', (error) =>
      reject(new Fault('unsupported', doing, `${error.message}; install util-linux`)),
    )
    child.on('close', (code) => {
      if (code === 0) resolve()
      else if (/go: .*not found|No such file.*\bgo\b|failed to execute go/.test(said))
        reject(
          new Fault('unsupported', doing, 'there is no go; install Go 1.26 or newer (https://go.dev/dl)'),
        )
      else reject(new Fault('unavailable', doing, said.trim().split('\n').slice(-5).join('\n')))
    })
  })
}

/** What builds left behind that were killed more than an hour ago. */
function removeAbandoned(cache: string): void {
  for (const entry of readdirSync(cache)) {
    const path = join(cache, entry)
    const old = () =>
      Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > 3_600_000
    if (entry.startsWith('.') && !basename(entry).endsWith('.lock') && old())
      rmSync(path, { recursive: true, force: true })
  }
}
