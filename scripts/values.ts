import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

const chart = new URL('../deploy/chart/', import.meta.url)

interface Schema {
  description?: string
  properties?: Record<string, Schema>
}

/** The chart's values as rows of a table: path, default, description. */
function valueRows(): string[] {
  const schema = JSON.parse(readFileSync(new URL('values.schema.json', chart), 'utf8')) as Schema
  const values = parse(readFileSync(new URL('values.yaml', chart), 'utf8')) as unknown
  return [...rows(schema, values, [])]
}

function* rows({ properties, description }: Schema, value: unknown, path: string[]): Generator<string> {
  if (description === undefined) {
    for (const [key, inner] of Object.entries(properties ?? {}))
      yield* rows(inner, (value as Record<string, unknown> | undefined)?.[key], [...path, key])
  } else if (value !== undefined)
    yield `| \`${path.join('.')}\` | \`${JSON.stringify(value)}\` | ${description.replaceAll('|', '\\|')} |`
}

const begin = '<!-- values of the chart -->'
const end = '<!-- end of values -->'

/** The page with the table that its markers enclose made anew. */
export function withValues(page: string): string {
  const [before = '', rest = ''] = page.split(begin)
  const [, after = ''] = rest.split(end)
  return [
    `${before}${begin}`,
    '| Value | Default | |',
    '|---|---|---|',
    ...valueRows(),
    `${end}${after}`,
  ].join('\n')
}
