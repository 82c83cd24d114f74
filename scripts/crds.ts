/**
 * Writes into the chart what is made of code. Definitions from src/api:
 * Polynet's own, which an upgrade changes, and those of others, which helm
 * only ever adds. From src/webhook, what the API server asks about.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { stringify } from 'yaml'
import { crds } from '../src/api/crds.ts'
import { group } from '../src/api/meta.ts'
import { webhookConfigurations } from '../src/webhook/configurations.ts'

const chart = new URL('../deploy/chart/', import.meta.url)

function write(folder: string, name: string, object: object): void {
  mkdirSync(new URL(folder, chart), { recursive: true })
  const text = stringify(object, { lineWidth: 110, aliasDuplicateObjects: false })
  writeFileSync(new URL(`${folder}/${name}.yaml`, chart), `# Written by scripts/crds.ts.\n${text}`)
}

for (const crd of crds()) write(crd.spec.group === group ? 'definitions' : 'crds', crd.metadata.name, crd)
const service = { namespace: 'polynet-system', name: 'polynet-webhook', port: 443 }
for (const configuration of webhookConfigurations({ service }))
  write('webhooks', configuration.kind.toLowerCase(), configuration)
