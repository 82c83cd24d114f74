/** Writes deploy/polynet.yaml: the chart as `kubectl apply -f` takes it. */
import { writeFileSync } from 'node:fs'
import { helm, manifestOf } from './helm.ts'

writeFileSync(new URL('../deploy/polynet.yaml', import.meta.url), manifestOf(await helm(console.error)))
