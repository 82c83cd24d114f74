import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { parseAny } from '../src/api/kinds.ts'
import type { KubeObject } from '../src/api/meta.ts'
import { attachmentsFor } from '../src/attach/attachments.ts'
import { sentence } from '../src/lib/fault.ts'
import { fieldsFile, withFields } from './fields.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const pages = ['*.md', 'docs/**/*.md', 'examples/**/*.md', 'bench/*.md']
  .flatMap((pattern) => globSync(pattern, { cwd: root }))
  .sort()

for (const page of pages) {
  test(`${page}: every link leads somewhere`, () => {
    const links = [...read(page).matchAll(/\]\(([^)\s]+)[^)]*\)/g)].map(([, link]) => link!)
    const dead = links.filter((link) => !/^[a-z]+:/.test(link)).filter((link) => !isThere(page, link))
    assert.deepEqual(dead, [])
  })

  const blocks = [...read(page).matchAll(/^```yaml\n(.*?)^```/gms)].map(([, text]) => text!)
  if (blocks.length > 0)
    test(`${page}: Polynet takes what it shows`, () => assert.deepEqual(blocks.flatMap(complaintsAbout), []))
}

/** Whether a file, and in it the heading that a link names. */
function isThere(page: string, link: string): boolean {
  const [file = '', anchor] = link.split('#')
  const path = file === '' ? page : join(dirname(page), file)
  if (!existsSync(join(root, path))) return false
  return anchor === undefined || (path.endsWith('.md') && anchorsOf(read(path)).includes(anchor))
}

/** As GitHub makes them of headings. */
const anchorsOf = (text: string): string[] =>
  [...text.replace(/^```.*?^```/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/\]\([^)]*\)/g, '')
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

/** What is wrong with the objects of a block, as far as they are for Polynet to judge. */
function complaintsAbout(text: string): string[] {
  return text.split(/^---$/m).flatMap((part) => {
    const object = parse(part) as Partial<KubeObject> | null
    const parsed = object?.kind === undefined ? undefined : parseAny(object)
    if (parsed && !parsed.ok) return [sentence(parsed.problems)]
    const annotations = object?.metadata?.annotations
    return annotations ? complaintsAboutPod(annotations) : []
  })
}

/** In a cluster where everything is there that a pod names. */
function complaintsAboutPod(annotations: Record<string, string>): string[] {
  const names = (annotations.cni ?? '').split(',').map((word) => word.split('@')[0]!.trim())
  const asked = attachmentsFor({
    pod: { namespace: 'default', name: 'example', annotations },
    network: (namespace, name) => ({
      apiVersion: 'polynet.dev/v1alpha1',
      kind: 'Network',
      metadata: { namespace, name },
      spec: { allowedNamespaces: { from: 'All' } },
    }),
    definition: () => undefined,
    confs: names.map((name) => ({ name, source: `10-${name}.conflist` })),
  })
  return asked.ok ? [] : [sentence(asked.problems)]
}

test('every dependency has its reason in docs/dependencies.md, and no other package has', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'))
  const rows = read('docs/dependencies.md')
    .split('## Programs')[0]!
    .matchAll(/^\| `([^`]+)` \|/gm)
  assert.deepEqual(
    [...rows].map(([, name]) => name).sort(),
    [...Object.keys(dependencies), ...Object.keys(devDependencies)].sort(),
  )
})

test('every page of the manual is in the index', () => {
  const index = read('docs/README.md')
  const manual = globSync('docs/*.md', { cwd: root }).map((path) => path.slice('docs/'.length))
  const missing = manual.filter((page) => page !== 'README.md' && !index.includes(`(${page})`))
  assert.deepEqual(missing, [])
})

/** Pages, and the programs whose options they have. */
const manuals = {
  'docs/agent.md': ['agent', 'controller'],
  'docs/webhook.md': ['webhook'],
  'docs/doctor.md': ['polynet'],
}

for (const [page, programs] of Object.entries(manuals))
  test(`${page} has every option of ${programs.join(' and ')}`, () => {
    const sources = programs.map((program) => read(`src/${program}/main.ts`)).join()
    const options = [...sources.matchAll(/ption\(\s*'(?:-\w, )?(--[a-z-]+)/g)].map(([, option]) => option!)
    assert.deepEqual(
      options.filter((option) => option !== '--version' && !read(page).includes(option)),
      [],
    )
  })

test('the manual has every metric, and no other', () => {
  const names = (paths: string[], name: RegExp) =>
    [...new Set(paths.flatMap((path) => [...read(path).matchAll(name)].map(([, word]) => word!)))].sort()
  const made = names(globSync('src/*/metrics.ts', { cwd: root }), /name: '(polynet_\w+)'/g)
  const told = names(['docs/agent.md', 'docs/webhook.md'], /`(polynet_\w+)/g)
  assert.deepEqual(told, made)
  const used = names(['docs/operations.md'], /\b(polynet_[a-z_]+?)(?:_bucket)?\b/g)
  assert.deepEqual(
    used.filter((name) => !made.includes(name)),
    [],
  )
})

test('the tables of fields are up to date; if they are not, run `node scripts/fields.ts`', () => {
  const page = readFileSync(fieldsFile, 'utf8')
  assert.equal(page, withFields(page))
})
