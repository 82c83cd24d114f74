import type { KubeObject } from '../../api/meta.ts'
import type { PrinterColumn } from './crd.ts'
import { valuesAt } from './jsonpath.ts'
import type { ServedKind } from './kind.ts'

/** A printer column: what `kubectl get` shows of an object. */
export interface Column {
  name: string
  type: 'string' | 'integer' | 'number' | 'boolean' | 'date'
  format?: string
  description?: string
  /** 0 is always shown, 1 with `-o wide`. */
  priority?: number
  cell(object: KubeObject, now: number): unknown
}

/** meta/v1 Table of objects of one kind: what the server answers to `as=Table`. */
export function tableOf(
  kind: ServedKind,
  objects: readonly KubeObject[],
  metadata: object,
  now: number,
  { include = 'Metadata', headless = false }: { include?: string; headless?: boolean } = {},
): object {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: headless ? [] : kind.columns.map(definitionOf),
    rows: objects.map((object) => ({
      cells: kind.columns.map((column) => column.cell(object, now) ?? null),
      object:
        include === 'None'
          ? undefined
          : include === 'Object'
            ? object
            : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata },
    })),
  }
}

const definitionOf = ({ name, type, format = '', description = '', priority = 0 }: Column): object => ({
  name,
  type,
  format: name === 'Name' ? 'name' : format,
  description: description || name,
  priority,
})

export const nameColumn: Column = {
  name: 'Name',
  type: 'string',
  format: 'name',
  description: 'Name must be unique within a namespace.',
  cell: (object) => object.metadata.name,
}

export const ageColumn: Column = {
  name: 'Age',
  type: 'string',
  description: 'How long the object has existed.',
  cell: (object, now) => age(object.metadata.creationTimestamp, now),
}

/** The columns of a CustomResourceDefinition; name and age where it has none. */
export function printerColumns(columns: readonly PrinterColumn[] | undefined): Column[] {
  if (!columns?.length) return [nameColumn, { ...ageColumn, type: 'date' }]
  return [
    nameColumn,
    ...columns.map(({ jsonPath, ...column }) => ({
      ...column,
      cell: (object: KubeObject, now: number) => cellOf(column.type, valuesAt(jsonPath, object)[0], now),
    })),
  ]
}

function cellOf(type: Column['type'], value: unknown, now: number): unknown {
  if (value === undefined || value === null) return undefined
  switch (type) {
    case 'date':
      return typeof value === 'string' ? age(value, now) : '<unknown>'
    case 'string':
      return typeof value === 'string' ? value : JSON.stringify(value)
    case 'boolean':
      return typeof value === 'boolean' ? value : undefined
    default:
      return typeof value === 'number' ? value : undefined
  }
}

/** How long ago, as kubectl writes it: `5m3s`, `3h`, `2d4h`. */
export function age(time: string | undefined, now: number): string {
  const since = time === undefined ? Number.NaN : Date.parse(time)
  return Number.isNaN(since) ? '<unknown>' : durationText(Math.floor((now - since) / 1000))
}

/** The words of apimachinery's HumanDuration: two units while they say something. */
export function durationText(seconds: number): string {
  if (seconds < -1) return '<invalid>'
  if (seconds < 120) return `${Math.max(0, seconds)}s`
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  const days = Math.floor(hours / 24)
  const years = Math.floor(days / 365)
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  if (days < 8) return two(days, 'd', hours % 24, 'h')
  if (days < 730) return `${days}d`
  if (years < 8) return two(years, 'y', days % 365, 'd')
  return `${years}y`
}

const two = (a: number, unit: string, b: number, smaller: string): string =>
  b === 0 ? `${a}${unit}` : `${a}${unit}${b}${smaller}`
