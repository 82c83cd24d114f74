import { Fault } from '../../lib/fault.ts'
import type { Side } from './render.ts'

export function renderTables(side: Side, _changes: string[]): void {
  if (side.want.tables.length > 0) throw new Fault('unsupported', 'render tables', 'not yet')
}
