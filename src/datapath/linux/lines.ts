import type { Forwarding, Neighbour, Route } from '../../plan/node-plan.ts'
import type { Element, Verdict } from '../../plan/ruleset.ts'

/**
 * How this datapath writes what is in a kernel, a line each: `describe` lists
 * such lines, and a report of changes puts `+ `, `- ` or `~ ` in front. Equal
 * things have equal lines.
 */
export const namespaceLine = (at: string): string => `namespace ${at}`

export const linkLine = (at: string, name: string, details: string[] = []): string =>
  ['link', at, name, ...details].join(' ')

export const addressLine = (at: string, link: string, address: string): string =>
  `address ${at} ${link} ${address}`

export const routeLine = (at: string, { to, link, via, source, metric }: Route): string =>
  `route ${at} ${to}${via ? ` via ${via}` : ''} link ${link}${source ? ` source ${source}` : ''}${
    metric ? ` metric ${metric}` : ''
  }`

export const neighbourLine = (at: string, { link, address, mac }: Neighbour): string =>
  `neighbour ${at} ${link} ${address} ${mac}`

export const forwardingLine = (at: string, { link, mac, endpoint }: Forwarding): string =>
  `forwarding ${at} ${link} ${mac}${endpoint ? ` ${endpoint}` : ''}`

export const sysctlLine = (at: string, name: string, value: string): string =>
  `sysctl ${at} ${name} = ${value}`

export const tableLine = (at: string, family: string, name: string): string => `table ${at} ${family} ${name}`

export const elementLine = (at: string, family: string, table: string, set: string, e: Element): string =>
  `element ${at} ${family} ${table} ${set}: ${e.key.join(' . ')}${e.verdict === undefined ? '' : ` : ${verdictText(e.verdict)}`}`

const verdictText = (v: Verdict): string =>
  typeof v === 'string' ? v : 'jump' in v ? `jump ${v.jump}` : `goto ${v.goto}`
