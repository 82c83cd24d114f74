import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const head = "import { test, describe } from 'node:test'\n"
const files: Record<string, string> = {
  good: `${head}test('a', () => {}); describe('s', () => { test('b', () => {}) })`,
  bad: `${head}test('c', () => { throw new Error('on purpose') }); test('d', () => {})`,
  skipping: `${head}test('e', { skip: 'needs root' }, () => {}); test('f', () => {})`,
  nested: `${head}test('g', async (t) => { await t.test('h', () => { throw new Error('inside') }) })`,
  broken: `throw new Error('before any test')`,
  silent: 'process.exit(0)',
  crashing: `${head}test('i', () => process.exit(3))`,
}

const runs: [files: string[], last: string, exit: number][] = [
  [['good'], '2 passed, 0 failed, 0 skipped', 0],
  [['good', 'bad'], '3 passed, 1 failed, 0 skipped', 1],
  [['skipping'], '1 passed, 0 failed, 1 skipped', 0],
  [['nested'], '0 passed, 2 failed, 0 skipped', 1],
  [['good', 'broken'], '2 passed, 1 failed, 0 skipped', 1],
  [['good', 'crashing'], '2 passed, 1 failed, 0 skipped', 1],
  [['good', 'silent'], '2 passed, 1 failed, 0 skipped', 1],
  [['good', 'absent'], '2 passed, 0 failed, 0 skipped', 1],
  [[], '0 passed, 0 failed, 0 skipped', 1],
]

for (const [names, last, exit] of runs)
  test(`${names.join(' and ') || 'nothing'}: ${last}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'polynet-test-'))
    try {
      const paths = names.map((name) => join(folder, files[name] ? `${name}.test.ts` : name))
      for (const [i, name] of names.entries()) if (files[name]) writeFileSync(paths[i]!, files[name])
      const { NODE_TEST_CONTEXT: _, ...env } = process.env
      const args = [join(import.meta.dirname, 'test.ts'), ...(paths.length > 0 ? paths : [folder])]
      const { stdout, status } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
      assert.deepEqual([stdout.trimEnd().split('\n').at(-1), status], [last, exit], stdout)
      if (names.includes('skipping')) assert.match(stdout, /^skipped 1: needs root$/m)
      if (names.length === 0 || names.includes('absent'))
        assert.match(stdout, /^FAIL .*: there is no test below it$/m)
      if (names.includes('bad')) assert.match(stdout, /FAIL c .*\n +Error: on purpose/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
