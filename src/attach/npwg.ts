import type { Problem } from '../lib/fault.ts'
import { selectionOfElement } from './element.ts'
import { maxAttachments, type Selection } from './selection.ts'
import { shownValue } from './text.ts'
import { npwgWords, selectionsOf } from './words.ts'

export const networksKey = 'k8s.v1.cni.cncf.io/networks'

/**
 * The networks that an annotation in NPWG's form asks for, text or JSON: JSON
 * as soon as it has a bracket, a brace or a double quote. Everything wrong
 * with it goes to `problems`.
 */
export function npwgSelections(input: string, source: string, problems: Problem[]): Selection[] {
  const text = input.trim()
  if (!/[[{"]/.test(text)) return selectionsOf(text, { source, ...npwgWords }, problems)
  const path = `annotation ${source}`
  const list = jsonOf(text, path, problems)
  if (list === undefined) return []
  if (!Array.isArray(list)) {
    problems.push({ path, problem: `${shownValue(list)} is not a list; write it like [{"name": "blue"}]` })
    return []
  }
  if (list.length > maxAttachments) {
    problems.push({ path, problem: `has ${list.length} entries; write at most ${maxAttachments}` })
    return []
  }
  return list
    .map((element, i) => selectionOfElement(element, `${path}[${i}]`, source, problems))
    .filter((selection) => selection !== undefined)
}

function jsonOf(text: string, path: string, problems: Problem[]): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const why = String((error as Error).message)
      .replace(/, (\.\.\.)?".*/s, '')
      .replace(/[^ -~]/g, '?')
    problems.push({ path, problem: `is not JSON (${why}); write it like [{"name": "blue"}] or blue,red` })
    return undefined
  }
}
