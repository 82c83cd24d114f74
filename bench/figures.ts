import { tableText } from '../lab/table.ts'

/** What a bench found: rows of the same columns, for people and for machines. */
export interface Figures {
  title: string
  columns: string[]
  rows: (string | number)[][]
  /** What one must know to read them, a sentence each. */
  notes?: string[]
  /** It was not found, and the row says why. */
  failed?: true
}

export const textOf = ({ title, columns, rows, notes = [] }: Figures): string =>
  [
    title,
    '',
    tableText(
      columns,
      rows.map((row) => row.map(shown)),
    ),
    ...(notes.length ? ['', ...notes] : []),
  ].join('\n')

/** Three digits that count, and no more behind the point than two. */
const shown = (cell: string | number): string => {
  if (typeof cell === 'string') return cell
  if (Number.isInteger(cell) || Math.abs(cell) >= 100) return cell.toFixed(0)
  return cell.toFixed(Math.abs(cell) >= 10 ? 1 : 2)
}

/** The value below which that share of them lies; 0 of none. */
export function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.round(share * (sorted.length - 1))] ?? 0
}

export const median = (values: number[]): number => quantile(values, 0.5)

export const mean = (values: number[]): number => values.reduce((sum, v) => sum + v, 0) / (values.length || 1)
