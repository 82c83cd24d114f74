import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/**
 * Who imports whom, one line per arrow between folders: `agent -> plan`, with
 * `(types)` behind it when nothing but types crosses. Tests do not count.
 * `npm run imports` writes it to docs/imports.txt, so that a new arrow is seen
 * in review.
 */
export function importsText(files: ReadonlyMap<string, string>): string {
  const arrows = new Map<string, boolean>()
  for (const [path, source] of files) {
    const from = folderOf(path)
    for (const { specifier, types } of importsOf(source)) {
      const to = folderOf(normalize(join(dirname(path), specifier)))
      if (to === from) continue
      const arrow = `${from} -> ${to}`
      arrows.set(arrow, (arrows.get(arrow) ?? true) && types)
    }
  }
  const lines = [...arrows].map(([arrow, types]) => (types ? `${arrow} (types)` : arrow))
  return `${lines.sort().join('\n')}\n`
}

/** The folder as ARCHITECTURE.md calls it: `src/` left out. */
const folderOf = (path: string): string => dirname(path).replace(/^src\/?/, '') || 'src'

/** The relative imports of a file; `types` when they leave nothing behind once types are erased. */
function importsOf(source: string): { specifier: string; types: boolean }[] {
  const statements = source.matchAll(/^(?:import|export)\s+(type\s)?([^'"`;]*?\sfrom\s+)?'(\.[^']+)'/gm)
  const dynamic = source.matchAll(/\bimport\(\s*'(\.[^']+\.ts)'/g)
  return [
    ...[...statements].map(([, type, names = '', specifier]) => ({
      specifier: specifier!,
      types: type !== undefined || onlyTypes(names),
    })),
    ...[...dynamic].map(([, specifier]) => ({ specifier: specifier!, types: false })),
  ]
}

function onlyTypes(names: string): boolean {
  const list = /^\{([^}]*)\}\s*from\s*$/.exec(`${names.trim()} `)?.[1]
  return list?.split(',').every((name) => name.trim() === '' || name.trim().startsWith('type ')) ?? false
}

/** Every source file of the project that is not a test. */
export function sources(root: string): Map<string, string> {
  const paths = globSync('{src,sim,lab,cluster,images,scenarios,bench,scripts}/**/*.ts', { cwd: root })
  const wanted = paths.filter((path) => !path.endsWith('.test.ts')).sort()
  return new Map(wanted.map((path) => [path, readFileSync(join(root, path), 'utf8')]))
}

const root = join(import.meta.dirname, '..')

export const importsFile = join(root, 'docs/imports.txt')

if (import.meta.main) writeFileSync(importsFile, importsText(sources(root)))
