/** Writes deploy/crds from src/api. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { stringify } from 'yaml'
import { crds } from '../src/api/crds.ts'

const folder = new URL('../deploy/crds/', import.meta.url)
mkdirSync(folder, { recursive: true })
for (const crd of crds())
  writeFileSync(
    new URL(`${crd.metadata.name}.yaml`, folder),
    `# Written by scripts/crds.ts.\n${stringify(crd, { lineWidth: 110, aliasDuplicateObjects: false })}`,
  )
