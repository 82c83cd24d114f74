import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { reachedFrom } from './programs.ts'

const tree = {
  'build/src/agent/main.js': `import { Command } from 'commander'
import { run } from './run.js'
// './gone.js' is no file`,
  'build/src/agent/run.js': `import { readFileSync } from 'node:fs'
import {      } from '../lib/log.js'
await import('./clean.js')`,
  'build/src/agent/clean.js': "const { native } = await import('@scope/native/fast')",
  'build/src/lib/log.js': "export * from '../agent/run.js'",
  'build/src/kube/memory.js': "import 'cel'",
  'node_modules/commander/package.json': '{"version":"1.0.0","license":"MIT"}',
  'node_modules/commander/index.js': '',
  'node_modules/commander/index.d.ts': '',
  'node_modules/commander/README.md': '',
  'node_modules/commander/LICENSE': '',
  'node_modules/commander/test/index.js': '',
  'node_modules/commander/dist/doc/text.js': '',
  'node_modules/@scope/native/package.json':
    '{"version":"2.0.0","license":"ISC","dependencies":{"deep":"*"},"optionalDependencies":{"for-linux":"*","for-windows":"*"}}',
  'node_modules/@scope/native/node_modules/deep/package.json': '{"version":"0.1.0"}',
  'node_modules/for-linux/package.json': '{"version":"2.0.0","license":"ISC"}',
  'node_modules/for-linux/fast.node': '',
  'node_modules/deep/package.json': '{"version":"9.0.0"}',
  'node_modules/cel/package.json': '{"version":"1.0.0"}',
}

test('a program is what its main file reaches: imports, and the packages of those', () => {
  const root = mkdtempSync(join(tmpdir(), 'polynet-programs-'))
  try {
    for (const [path, text] of Object.entries(tree)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    const { files, packages } = reachedFrom(root, ['build/src/agent/main.js'])
    const lines = packages.map(({ name, version, license, files }) =>
      [`${name} ${version} ${license}`, ...files.map((path) => `  ${path}`)].join('\n'),
    )
    assert.equal(
      [...files, ...lines].join('\n'),
      `\
build/src/agent/clean.js
build/src/agent/main.js
build/src/agent/run.js
build/src/lib/log.js
@scope/native 2.0.0 ISC
  node_modules/@scope/native/package.json
deep 0.1.0 NOASSERTION
  node_modules/@scope/native/node_modules/deep/package.json
commander 1.0.0 MIT
  node_modules/commander/LICENSE
  node_modules/commander/dist/doc/text.js
  node_modules/commander/index.js
  node_modules/commander/package.json
for-linux 2.0.0 ISC
  node_modules/for-linux/fast.node
  node_modules/for-linux/package.json`,
    )
    assert.throws(() => reachedFrom(root, ['build/src/cli/main.js']), /there is no build\/src\/cli\/main.js/)
  } finally {
    rmSync(root, { recursive: true })
  }
})
