import { tableText } from '../lab/table.ts'
import type { KubeObject } from '../src/api/meta.ts'

interface EventLike {
  type?: string
  reason?: string
  message?: string
  count?: number
  involvedObject?: { kind?: string; name?: string; uid?: string }
  source?: { component?: string }
  reportingComponent?: string
  lastTimestamp?: string
}

/** An object as `kubectl describe` shows one of a kind it does not know: every field by its name in words, then events. */
export function describeText(object: KubeObject, events: KubeObject[]): string {
  const { apiVersion, kind, metadata, ...rest } = object
  const lines = [
    ...field('Name', metadata.name, 0),
    ...(metadata.namespace ? field('Namespace', metadata.namespace, 0) : []),
    ...pairs('Labels', metadata.labels, '='),
    ...pairs('Annotations', metadata.annotations, ': '),
    ...field('API Version', apiVersion, 0),
    ...field('Kind', kind, 0),
    ...Object.entries(rest).flatMap(([key, value]) => field(wordsIn(key), value, 0)),
    ...eventLines(object, events as unknown as EventLike[]),
  ]
  return lines.join('\n')
}

const hidden = new Set(['kubectl.kubernetes.io/last-applied-configuration'])

function pairs(name: string, map: Record<string, string> | undefined, between: string): string[] {
  const shown = Object.entries(map ?? {})
    .filter(([key]) => !hidden.has(key))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}${between}${value}`)
  const [first = '<none>', ...others] = shown
  return [`${`${name}:`.padEnd(14)}${first}`, ...others.map((line) => ' '.repeat(14) + line)]
}

function field(name: string, value: unknown, depth: number): string[] {
  const indent = '  '.repeat(depth)
  if (Array.isArray(value))
    return [
      `${indent}${name}:`,
      ...value.flatMap((item) =>
        typeof item === 'object' && item !== null ? inside(item, depth + 1) : [`${indent}  ${item}`],
      ),
    ]
  if (typeof value === 'object' && value !== null) return [`${indent}${name}:`, ...inside(value, depth + 1)]
  return [`${indent}${`${name}:`.padEnd(Math.max(14 - indent.length, name.length + 2))}${value}`]
}

const inside = (value: object, depth: number): string[] =>
  Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([key, each]) => field(wordsIn(key), each, depth))

/** `podIPs` as `Pod I Ps` would read badly: capitals that follow each other stay together. */
const wordsIn = (key: string): string =>
  key.replace(/([a-z0-9])([A-Z])/g, '$1 $2').replace(/^./, (letter) => letter.toUpperCase())

function eventLines(object: KubeObject, events: EventLike[]): string[] {
  const rows = events
    .filter((event) =>
      event.involvedObject?.uid
        ? event.involvedObject.uid === object.metadata.uid
        : event.involvedObject?.kind === object.kind && event.involvedObject.name === object.metadata.name,
    )
    .map((event) => [
      `  ${event.type ?? ''}`,
      event.reason ?? '',
      `x${event.count ?? 1}`,
      event.source?.component ?? event.reportingComponent ?? '',
      event.message ?? '',
    ])
  if (rows.length === 0) return ['Events:       <none>']
  return ['Events:', ...tableText(['  Type', 'Reason', 'Count', 'From', 'Message'], rows).split('\n')]
}
