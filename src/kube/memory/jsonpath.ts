import { isObject } from '../../lib/json.ts'

/**
 * The values that a printer column's path finds: `.a.b`, `['a']`, `[0]`,
 * `[*]`, `[?(@.a=="b")]`, and `\.` for a dot in a name. None where the path
 * leads nowhere.
 */
export function valuesAt(path: string, root: unknown): unknown[] {
  let found = [root]
  for (const step of stepsOf(path)) found = found.flatMap((value) => taken(step, value))
  return found
}

type Step = { key: string } | { index: number } | 'all' | { filter: string; equal: boolean; value: unknown }

const parsed = new Map<string, Step[]>()

function stepsOf(path: string): Step[] {
  let steps = parsed.get(path)
  if (!steps) {
    steps = [...path.matchAll(token)].map(stepOf)
    parsed.set(path, steps)
  }
  return steps
}

const token =
  /\.((?:\\.|[^.[\\])+)|\[\s*(?:(-?\d+)|(\*)|'([^']*)'|"([^"]*)"|\?\(\s*@((?:\\.|[^=!])+?)\s*(==|!=)\s*("[^"]*"|'[^']*'|[^)]+?)\s*\))\s*\]/g

function stepOf([, name, index, star, single, double, filter, operator, literal]: RegExpMatchArray): Step {
  if (name !== undefined) return name === '*' ? 'all' : { key: name.replace(/\\(.)/g, '$1') }
  if (index !== undefined) return { index: Number(index) }
  if (star !== undefined) return 'all'
  if (filter !== undefined) return { filter, equal: operator === '==', value: literalOf(literal!) }
  return { key: single ?? double ?? '' }
}

function literalOf(text: string): unknown {
  if (/^["']/.test(text)) return text.slice(1, -1)
  if (text === 'true' || text === 'false') return text === 'true'
  return Number.isNaN(Number(text)) ? text : Number(text)
}

function taken(step: Step, value: unknown): unknown[] {
  if (step === 'all') return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : []
  if ('index' in step) {
    const item = Array.isArray(value) ? value.at(step.index) : undefined
    return item === undefined ? [] : [item]
  }
  if ('key' in step) {
    const child = isObject(value) && Object.hasOwn(value, step.key) ? value[step.key] : undefined
    return child === undefined || child === null ? [] : [child]
  }
  if (!Array.isArray(value)) return []
  return value.filter((item) => valuesAt(step.filter, item).some((v) => v === step.value) === step.equal)
}
