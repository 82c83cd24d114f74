import { inAscii } from './ascii.ts'
import type { Parsed } from './fault.ts'

/**
 * Selectors as Kubernetes has them: a label selector as an object or as the
 * text of `kubectl -l`, and the text of `--field-selector`. Both forms of a
 * label selector become requirements, all of which must hold.
 */
export interface Requirement {
  key: string
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt'
  values: string[]
}

/** The object form (meta/v1 LabelSelector; also a node selector term's expressions, hence Gt and Lt). */
export interface Selector {
  matchLabels?: Record<string, string>
  matchExpressions?: { key: string; operator: string; values?: string[] }[]
}

export type Labels = Readonly<Record<string, string>>

/** Whether all requirements hold. As in Kubernetes, `NotIn` also holds where the label is absent. */
export const holds = (requirements: readonly Requirement[], labels: Labels = {}): boolean =>
  requirements.every((r) => holdsOne(r, Object.hasOwn(labels, r.key) ? labels[r.key] : undefined))

function holdsOne({ operator, values }: Requirement, value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
    case 'Gt':
      return isInteger(value) && Number(value) > Number(values[0])
    case 'Lt':
      return isInteger(value) && Number(value) < Number(values[0])
  }
}

/** Whether `labels` match; an empty selector matches everything, an invalid one nothing. */
export function selects(selector: Selector, labels: Labels = {}): boolean {
  const parsed = parseSelector(selector)
  return parsed.ok && holds(parsed.value, labels)
}

/** The requirements of a selector object, or everything that is wrong with it. */
export function parseSelector(selector: Selector): Parsed<Requirement[]> {
  const all = [
    ...Object.entries(selector.matchLabels ?? {}).map(([key, value]) => ({
      path: `matchLabels[${/^[\w./-]{1,64}$/.test(key) ? key : quote(key)}]`,
      requirement: { key, operator: 'In' as const, values: [value] },
    })),
    ...(selector.matchExpressions ?? []).map(({ key, operator, values = [] }, i) => ({
      path: `matchExpressions[${i}]`,
      requirement: { key, operator: operator as Requirement['operator'], values },
    })),
  ]
  const problems = all.flatMap(({ path, requirement }) =>
    faultsOf(requirement).map((problem) => ({ path, problem })),
  )
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value: all.map((a) => a.requirement) }
}

/** What is wrong with a requirement, a sentence each. */
function faultsOf({ key, operator, values }: Requirement): string[] {
  const found: string[] = []
  if (!isLabelKey(key))
    found.push(
      `${quote(key)} is not a label key; write [domain/]name, the name at most 63 of A-Z a-z 0-9 - _ .`,
    )
  for (const value of values.filter((v) => !isLabelValue(v)))
    found.push(`${quote(value)} is not a label value; write at most 63 of A-Z a-z 0-9 - _ .`)
  if (operator === 'In' || operator === 'NotIn') {
    if (values.length === 0) found.push(`${operator} needs values; name at least one`)
  } else if (operator === 'Exists' || operator === 'DoesNotExist') {
    if (values.length > 0) found.push(`${operator} takes no values; leave them out, or use In`)
  } else if (operator === 'Gt' || operator === 'Lt') {
    if (values.length !== 1 || !isInteger(values[0])) found.push(`${operator} needs one integer`)
  } else found.push(`${quote(operator)} is not an operator; use In, NotIn, Exists or DoesNotExist`)
  return found
}

/**
 * The requirements that the text of `kubectl -l` writes: `a=b`, `a==b`,
 * `a!=b`, `a in (x,y)`, `a notin (x,y)`, `a`, `!a`, `a>1`, `a<1`, joined by
 * commas. Empty text requires nothing.
 */
export function parseLabels(text: string): Parsed<Requirement[]> {
  const requirements: Requirement[] = []
  for (const term of terms(text)) {
    const requirement = parseTerm(term)
    if (!requirement)
      return {
        ok: false,
        problems: [
          {
            path: '',
            problem: `${quote(term)} is not a label requirement; write a=b, a!=b, a in (b,c), a or !a`,
          },
        ],
      }
    requirements.push(requirement)
  }
  const problems = requirements.flatMap((r) => faultsOf(r).map((problem) => ({ path: '', problem })))
  return problems.length > 0 ? { ok: false, problems } : { ok: true, value: requirements }
}

/** Split at the commas that are not inside parentheses. */
function terms(text: string): string[] {
  if (text.trim() === '') return []
  const found: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++
    else if (text[i] === ')') depth--
    else if (text[i] === ',' && depth === 0) {
      found.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  return [...found, text.slice(start).trim()]
}

function parseTerm(term: string): Requirement | undefined {
  const set = /^([^\s!=<>(),]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term)
  if (set)
    return {
      key: set[1]!,
      operator: set[2] === 'in' ? 'In' : 'NotIn',
      values: set[3]!.split(',').map((v) => v.trim()),
    }
  const compared = /^([^\s!=<>(),]+)\s*(==|=|!=|>|<)\s*([^\s!=<>(),]*)$/.exec(term)
  if (compared)
    return {
      key: compared[1]!,
      operator: ({ '>': 'Gt', '<': 'Lt', '!=': 'NotIn' } as const)[compared[2]!] ?? 'In',
      values: [compared[3]!],
    }
  const bare = /^(!?)\s*([^\s!=<>(),]+)$/.exec(term)
  return bare ? { key: bare[2]!, operator: bare[1] ? 'DoesNotExist' : 'Exists', values: [] } : undefined
}

/** One comparison of a field selector. */
export interface FieldRequirement {
  path: string
  equal: boolean
  value: string
}

/** What the text of `--field-selector` asks for: `a.b=c`, `a.b==c`, `a.b!=c`; a backslash escapes `,`, `=` and itself. */
export function parseFields(text: string): Parsed<FieldRequirement[]> {
  if (text.trim() === '') return { ok: true, value: [] }
  const found: FieldRequirement[] = []
  for (const term of text.match(/(?:\\.|[^,\\])+/gs) ?? []) {
    const parts = /^([\w.[\]'/-]+?)(==|=|!=)((?:\\[\\,=]|[^\\=])*)$/s.exec(term.trim())
    if (!parts)
      return {
        ok: false,
        problems: [{ path: '', problem: `${quote(term)} is not a field requirement; write a.b=c or a.b!=c` }],
      }
    const [, path = '', operator, value = ''] = parts
    found.push({ path, equal: operator !== '!=', value: value.replace(/\\(.)/gs, '$1') })
  }
  return { ok: true, value: found }
}

/** Whether all hold; an absent field counts as empty. */
export const fieldsHold = (requirements: readonly FieldRequirement[], object: unknown): boolean =>
  requirements.every(({ path, equal, value }) => (fieldOf(object, path) === value) === equal)

function fieldOf(object: unknown, path: string): string {
  let at = object
  for (const part of path.split('.'))
    at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined
  return at === undefined || at === null ? '' : String(at)
}

const isInteger = (text: string | undefined): boolean => text !== undefined && /^-?[0-9]+$/.test(text)

/** `[domain/]name`, as Kubernetes validates qualified names. */
export function isLabelKey(key: string): boolean {
  const slash = key.lastIndexOf('/')
  const domain = key.slice(0, Math.max(0, slash))
  if (slash === 0 || domain.length > 253) return false
  if (slash > 0 && !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(domain))
    return false
  return /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(key.slice(slash + 1))
}

export const isLabelValue = (value: string): boolean =>
  /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(value)

const quote = (text: string): string =>
  inAscii(JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text))
