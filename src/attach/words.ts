import type { Problem } from '../lib/fault.ts'
import { interfaceNameProblem } from './interface-name.ts'
import { maxAttachments, type Selection } from './selection.ts'
import { isLabel, isSubdomain, shown } from './text.ts'

/** How an annotation of words is written: where a word ends, and what stands before an interface name. */
export interface Spelling {
  source: string
  /** For messages: `management:eth0 data:eth1`. */
  example: string
  words(text: string): string[]
  before: RegExp
  /** What is wrong with what stands before it. */
  nameProblem(namespace: string | undefined, name: string): string | undefined
}

/** NPWG v1.3 section 4.1.1: `[namespace/]name[@interface]`, comma between. */
export const npwgWords: Omit<Spelling, 'source'> = {
  example: 'blue,red/data@net5',
  words: (text) => text.split(','),
  before: /@/,
  nameProblem,
}

/** The two spellings of the founding talk and CNI-Genie: `management:eth0 data:eth1`, `net1@eth0,net2@eth4`. */
export const talkWords: Spelling = {
  source: 'networks',
  example: 'management:eth0 data:eth1',
  words: (text) => text.split(',').flatMap((part) => part.trim().split(/\s+/)),
  before: /[:@]/,
  nameProblem,
}

/** CNI-Genie's `cni`: a plugin's name in place of a network's, and the same one may come again. */
export const pluginWords: Spelling = {
  source: 'cni',
  example: 'calico,weave@eth1',
  words: (text) => text.split(','),
  before: /@/,
  nameProblem: (namespace, name) =>
    namespace === undefined &&
    name.length <= 63 &&
    /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/.test(name)
      ? undefined
      : `${shown(namespace === undefined ? name : `${namespace}/${name}`)} is not the name of a plugin; write it like calico`,
}

/** The networks that a list of words asks for, those that are right; what is wrong goes to `problems`. */
export function selectionsOf(text: string, spelling: Spelling, problems: Problem[]): Selection[] {
  const found: Selection[] = []
  const words = spelling.words(text.trim())
  if (words.length > maxAttachments) {
    const problem = `has ${words.length} entries; write at most ${maxAttachments}`
    problems.push({ path: `annotation ${spelling.source}`, problem })
    return []
  }
  for (const [i, word] of words.entries()) {
    const path = `annotation ${spelling.source}[${i}]`
    const selection = selectionOf(word.trim(), path, spelling, problems)
    if (selection) found.push(selection)
  }
  return found
}

function selectionOf(
  word: string,
  path: string,
  spelling: Spelling,
  problems: Problem[],
): Selection | undefined {
  const bad = (problem: string) => void problems.push({ path, problem })
  if (word === '') return bad(`is empty; write it like ${spelling.example}`)
  const [target = '', ifname, ...moreNames] = word.split(spelling.before).map((part) => part.trim())
  const parts = target.split('/')
  if (moreNames.length > 0 || parts.length > 2)
    return bad(`${shown(word)} is not [namespace/]name with an interface; write it like ${spelling.example}`)
  const name = parts.at(-1)!.trim()
  const namespace = parts.length === 2 ? parts[0]!.trim() : undefined
  const problem =
    spelling.nameProblem(namespace, name) ?? (ifname === undefined ? undefined : interfaceNameProblem(ifname))
  if (problem) return bad(problem)
  return { path, source: spelling.source, namespace, name, interface: ifname }
}

/** What is wrong with a reference to a network, and the remedy. */
export function nameProblem(namespace: string | undefined, name: string): string | undefined {
  if (namespace !== undefined && !isLabel(namespace))
    return `${shown(namespace)} is not the name of a namespace; use lower-case letters, digits and dashes`
  if (!isSubdomain(name))
    return `${shown(name)} is not the name of a network; use lower-case letters, digits, dashes and dots`
  return undefined
}
