import { randomUUID } from 'node:crypto'
import {
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, join } from 'node:path'

/**
 * `npm run build`: puts src/ into build/src/ as JavaScript, its types erased
 * and nothing else changed, so that lines are where they were. Node would do
 * the same each time it loads a file, and keeps 32 MB for that in every
 * process. Only files that have changed are written, each in one step;
 * several builds at once do no harm. Returns how many were written.
 */
export function build(root = join(import.meta.dirname, '..')): number {
  let written = 0
  const sources = globSync('src/**/*.ts', { cwd: root }).filter((path) => !path.endsWith('.test.ts'))
  const wanted = new Set(sources.map(builtPath))
  for (const stale of globSync('build/src/**/*.js', { cwd: root }))
    if (!wanted.has(stale)) rmSync(join(root, stale), { force: true })
  for (const path of sources) {
    const [source, target] = [join(root, path), join(root, builtPath(path))]
    const { mtime } = statSync(source)
    if (statSync(target, { throwIfNoEntry: false })?.mtime.getTime() === mtime.getTime()) continue
    const text = strippedOf(readFileSync(source, 'utf8'), path)
    mkdirSync(dirname(target), { recursive: true })
    const fresh = `${target}.${randomUUID()}`
    writeFileSync(fresh, text)
    // As old as its source: a source that is put back as it was is seen as changed, too.
    utimesSync(fresh, mtime, mtime)
    renameSync(fresh, target)
    written++
  }
  return written
}

let built = false

/**
 * Node's flags for programs. Young objects get 4 MB instead of 16: an agent is
 * as fast with that and a few MB smaller. Nor do they get less when there are
 * few: with 1 MB each ADD has to collect them, which is a tenth of it.
 */
export const nodeFlags = ['--min-semi-space-size=4', '--max-semi-space-size=4'] as const

/**
 * What to give to Node to run a program. Its JavaScript is built by the first
 * call; where nothing can be written it is its source.
 */
export const programArgs = (program: 'agent' | 'controller'): string[] => [...nodeFlags, programPath(program)]

function programPath(program: 'agent' | 'controller'): string {
  const root = join(import.meta.dirname, '..')
  const source = `src/${program}/main.ts`
  try {
    if (!built) build(root)
    built = true
    return join(root, builtPath(source))
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOSPC'].includes(code)) throw error
    return join(root, source)
  }
}

const builtPath = (path: string): string => join('build', path.replace(/\.ts$/, '.js'))

function strippedOf(source: string, path: string): string {
  // That this is an experiment of Node's is nothing to users: which Node it is stands in package.json.
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return stripTypeScriptTypes(source).replace(
      /(\bfrom\s*|\bimport\s*\(?\s*)'(\.[^'\n]+)\.ts'/g,
      "$1'$2.js'",
    )
  } catch (error) {
    throw new Error(`build ${path}: ${(error as Error).message}`, { cause: error })
  } finally {
    process.emitWarning = emitWarning
  }
}

if (import.meta.main) {
  const began = performance.now()
  console.log(`${build()} files built in ${Math.round(performance.now() - began)} ms`)
}
