/** Writes deploy/polynet.yaml, the chart as `kubectl apply -f` takes it, and the table of its values in docs/install.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { helm, manifestOf } from './helm.ts'
import { withValues } from './values.ts'

writeFileSync(new URL('../deploy/polynet.yaml', import.meta.url), manifestOf(await helm(console.error)))
const page = new URL('../docs/install.md', import.meta.url)
writeFileSync(page, withValues(readFileSync(page, 'utf8')))
