/**
 * Writes the definitions into the chart, from src/api: Polynet's own, which
 * an upgrade changes, and those of others, which helm only ever adds.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { stringify } from 'yaml'
import { crds } from '../src/api/crds.ts'
import { group } from '../src/api/meta.ts'

const chart = new URL('../deploy/chart/', import.meta.url)
for (const crd of crds()) {
  const folder = new URL(crd.spec.group === group ? 'definitions/' : 'crds/', chart)
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    new URL(`${crd.metadata.name}.yaml`, folder),
    `# Written by scripts/crds.ts.\n${stringify(crd, { lineWidth: 110, aliasDuplicateObjects: false })}`,
  )
}
