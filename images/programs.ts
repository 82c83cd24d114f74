import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { Fault } from '../src/lib/fault.ts'

export interface Npm {
  name: string
  version: string
  license: string
  /** Where it is, from the root: `node_modules/pino`. */
  dir: string
  /** Those of its files that a program needs, and its licence. */
  files: string[]
}

export interface Reached {
  /** Our own files, from the root: `build/src/agent/main.js`. */
  files: string[]
  packages: Npm[]
}

/**
 * What programs need to run: the JavaScript that their main files import,
 * directly or not, and the npm packages that this imports, with what those
 * depend on. So what only tests and the lab import is in no image.
 */
export function reachedFrom(root: string, mains: string[]): Reached {
  const files = new Set<string>()
  const packages = new Map<string, Npm>()
  const follow = (path: string) => {
    if (files.has(path)) return
    files.add(path)
    const text = readFileSync(join(root, path), 'utf8')
    // Every literal that is a file beside it, however it is imported.
    for (const [, near = ''] of text.matchAll(/'(\.{1,2}\/[^'\n]+\.js)'/g)) {
      const target = join(dirname(path), near)
      if (existsSync(join(root, target))) follow(target)
    }
    for (const [, name = ''] of text.matchAll(
      /\b(?:from|import)\s*\(?\s*'((?:@\w[\w.-]*\/)?\w[\w.-]*)(?:\/[^'\n]*)?'/g,
    ))
      add(name, '')
  }
  /** As Node looks for it: in the importer's own node_modules, then in the root's. */
  const add = (name: string, importer: string) => {
    const dir = [join(importer, 'node_modules', name), join('node_modules', name)].find((dir) =>
      existsSync(join(root, dir, 'package.json')),
    )
    if (dir === undefined || packages.has(dir)) return
    const manifest = JSON.parse(readFileSync(join(root, dir, 'package.json'), 'utf8')) as Manifest
    const { version, license = 'NOASSERTION', dependencies = {}, optionalDependencies = {} } = manifest
    packages.set(dir, { name, version, license, dir, files: runtimeFiles(root, dir) })
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) add(next, dir)
  }
  for (const main of mains) {
    if (!existsSync(join(root, main)))
      throw new Fault('missing', 'collect programs', `there is no ${main}; npm run build`)
    follow(main)
  }
  const byDir = [...packages.values()].sort((a, b) => (a.dir < b.dir ? -1 : 1))
  return { files: [...files].sort(), packages: byDir }
}

interface Manifest {
  version: string
  license?: string
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

/** What people read, other platforms run, and compilers and tests need. */
const idle =
  /^(test|tests|docs?|examples?|benchmarks?|browser|vendor|lib\/native|musl_x64)\/|\.(min|test|bench)\.js$/
const running = /\.(js|cjs|mjs|json|node|wasm)$|(^|\/)(LICEN[CS]E|NOTICE|COPYING)[^/]*$/

function runtimeFiles(root: string, dir: string): string[] {
  return globSync('**/*', { cwd: join(root, dir), withFileTypes: true })
    .filter((found) => found.isFile())
    .map((found) => relative(join(root, dir), join(found.parentPath, found.name)))
    .filter((path) => running.test(path) && !idle.test(path) && !path.startsWith('node_modules/'))
    .map((path) => join(dir, path))
    .sort()
}
