import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { sentence } from '../lib/fault.ts'
import { parseAny } from './kinds.ts'

for (const file of globSync('examples/**/*.yaml', { cwd: new URL('../..', import.meta.url).pathname }).sort())
  test(`${file} has nothing wrong with it`, () => {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
    for (const document of parseAllDocuments(text)) {
      assert.deepEqual(document.errors, [])
      const parsed = parseAny(document.toJS())
      assert.equal(parsed && !parsed.ok ? sentence(parsed.problems) : '', '')
    }
  })
