import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Kind } from '../src/api/crd.ts'
import { hostPhysicalNetworkKind } from '../src/api/host-physical-network.ts'
import { networkKind } from '../src/api/network-kind.ts'
import { physicalNetworkKind } from '../src/api/physical-network.ts'
import type { AnySchema } from '../src/api/schema.ts'

/** The page with the tables of fields, between their marks, as the schemas have them. `node scripts/fields.ts` writes it. */
export function withFields(page: string): string {
  let text = page
  for (const [kind, schema] of kinds) {
    const table = ['| Field | |', '|---|---|', ...rowsOf(schema)].join('\n')
    const [begin, end] = [`<!-- fields of ${kind} -->`, '<!-- end of fields -->']
    if (!text.includes(begin)) throw new Error(`docs/networks.md: ${begin} is missing; put it back`)
    const from = text.indexOf(begin) + begin.length
    text = `${text.slice(0, from)}\n${table}\n${text.slice(text.indexOf(end, from))}`
  }
  return text
}

export const fieldsFile = join(import.meta.dirname, '../docs/networks.md')

const specOf = (kind: Pick<Kind<never>, 'resource' | 'schema'>): [string, AnySchema] => [
  kind.resource.kind,
  (kind.schema as unknown as { fields: { spec: AnySchema } }).fields.spec,
]

const kinds = new Map([
  specOf(networkKind as never),
  specOf(physicalNetworkKind as never),
  specOf(hostPhysicalNetworkKind as never),
])

interface Described {
  description: string
  type: string
  items?: Described
  fields?: Record<string, Described>
}

/** A row for each field below; a selector's own are Kubernetes' and left out. */
function rowsOf(schema: AnySchema, path = ''): string[] {
  const fields = (schema as unknown as Described).fields ?? {}
  return Object.entries(fields).flatMap(([key, field]) => {
    const name = `${path}${key}${field.type === 'array' ? '[]' : ''}`
    const row = `| \`${name}\` | ${field.description.replaceAll('|', '\\|')} |`
    if (key.toLowerCase().endsWith('selector')) return [row]
    return [row, ...rowsOf((field.items ?? field) as unknown as AnySchema, `${name}.`)]
  })
}

if (import.meta.main) writeFileSync(fieldsFile, withFields(readFileSync(fieldsFile, 'utf8')))
