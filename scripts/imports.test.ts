import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { importsFile, importsText, sources } from './imports.ts'

test('an arrow for each pair of folders, marked when only types cross', () => {
  const files = new Map([
    [
      'src/agent/agent.ts',
      `import { readFile } from 'node:fs/promises'
import type { NodePlan } from '../plan/node-plan.ts'
import { planNode } from '../plan/plan-node.ts'
import {
  type Fault,
  type Kind,
} from '../lib/fault.ts'
import './journal.ts'
export * from '../kube/memory/server.ts'
const linux = await import('../datapath/linux/linux.ts')
// import { not } from '../ipam/pool.ts'
`,
    ],
    ['lab/lab.ts', "import { run } from '../src/agent/agent.ts'\n"],
  ])
  assert.equal(
    importsText(files),
    `agent -> datapath/linux
agent -> kube/memory
agent -> lib (types)
agent -> plan
lab -> agent
`,
  )
})

test('docs/imports.txt is up to date; if it is not, run `npm run imports` and look at the difference', () => {
  assert.equal(readFileSync(importsFile, 'utf8'), importsText(sources(join(import.meta.dirname, '..'))))
})
