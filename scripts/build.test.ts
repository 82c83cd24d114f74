import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { build } from './build.ts'

const run = promisify(execFile)

async function project(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'polynet-build-'))
  t.after(() => rm(root, { recursive: true }))
  const put = async (path: string, text: string) => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  await put('package.json', '{"type":"module"}')
  await put(
    'src/lib/blue.ts',
    'export interface Blue { subnet: string }\nexport const blue: Blue = { subnet: "10.1.0.0/16" }\n',
  )
  await put('src/lib/blue.test.ts', 'no program')
  await put(
    'src/agent/main.ts',
    [
      "import { type Blue, blue } from '../lib/blue.ts'",
      'const one: Blue = blue',
      "const { blue: two } = await import('../lib/blue.ts')",
      'console.log(one.subnet, one === two, import.meta.filename.endsWith("build/src/agent/main.js"))',
    ].join('\n'),
  )
  return { root, put }
}

test('what is built runs like its source, from JavaScript alone', async (t) => {
  const { root } = await project(t)
  assert.equal(build(root), 2)
  const { stdout } = await run(process.execPath, ['--no-strip-types', join(root, 'build/src/agent/main.js')])
  assert.equal(stdout, '10.1.0.0/16 true true\n')
  assert.deepEqual(await readdir(join(root, 'build/src/lib')), ['blue.js'])
})

test('only what has changed is built again, and what is gone goes', async (t) => {
  const { root, put } = await project(t)
  build(root)
  assert.equal(build(root), 0)
  await put('src/lib/blue.ts', 'export const blue = {}\n')
  await utimes(join(root, 'src/lib/blue.ts'), 1, 1)
  assert.equal(build(root), 1, 'older than what was built of it')
  await rm(join(root, 'src/lib/blue.ts'))
  assert.equal(build(root), 0)
  assert.deepEqual(await readdir(join(root, 'build/src/lib')), [])
})

test('a source that is no TypeScript is named', async (t) => {
  const { root, put } = await project(t)
  await put('src/lib/red.ts', 'const red: = 1\n')
  assert.throws(() => build(root), /^Error: build src\/lib\/red\.ts: /)
})
