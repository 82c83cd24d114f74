import type { Forwarding, Neighbour, Route, SourceRule } from '../plan/node-plan.ts'
import type { Element } from '../plan/ruleset.ts'
import { verdictText } from '../plan/ruleset-text.ts'

/**
 * What is in a namespace, a line each, its namespace second; equal things
 * have equal lines. `describe` lists them, and a report of changes puts `+ `,
 * `- ` or `~ ` in front. What each datapath writes of links and tables is its
 * own.
 */
export const namespaceLine = (at: string): string => `namespace ${at}`

export const addressLine = (at: string, { link, address }: { link: string; address: string }): string =>
  `address ${at} ${link} ${address}`

export const routeLine = (at: string, { to, link, via, source, metric, table, blackhole }: Route): string =>
  `route ${at} ${blackhole ? 'blackhole ' : ''}${to}${via ? ` via ${via}` : ''} link ${link}${source ? ` source ${source}` : ''}${
    metric ? ` metric ${metric}` : ''
  }${table ? ` table ${table}` : ''}`

export const ruleLine = (at: string, { priority, from, table, exceptDefault }: SourceRule): string =>
  `source-rule ${at} ${priority} from ${from} table ${table ?? 'main'}${exceptDefault ? ' except default' : ''}`

export const neighbourLine = (at: string, { link, address, mac }: Neighbour): string =>
  `neighbour ${at} ${link} ${address} ${mac}`

export const forwardingLine = (at: string, { link, mac, endpoint }: Forwarding): string =>
  `forwarding ${at} ${link} ${mac}${endpoint ? ` ${endpoint}` : ''}`

export const sysctlLine = (at: string, name: string, value: string): string =>
  `sysctl ${at} ${name} = ${value}`

export const elementLine = (at: string, family: string, table: string, set: string, e: Element): string =>
  `element ${at} ${family} ${table} ${set}: ${e.key.join(' . ')}${e.verdict === undefined ? '' : ` : ${verdictText(e.verdict)}`}`
