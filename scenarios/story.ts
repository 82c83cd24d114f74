/**
 * A story: a Markdown page on which people read what to type and what comes
 * back, and which is played as a test. Blocks marked `console` hold commands
 * behind `$ ` and what each prints; a `yaml` block is what the next
 * `kubectl … -f -` reads. Everything else is prose.
 */
export interface Story {
  title: string
  /** Where it is played; absent: everywhere. The page says so, and why: `<!-- only lab: reason -->`. */
  only?: 'sim' | 'lab' | 'cluster'
  /** Where it is not played: `<!-- not on cluster: reason -->`. */
  notOn?: 'cluster'
  /** It is about what the agent says, which a webhook would say first: `<!-- past the webhook: reason -->`. */
  pastWebhook?: true
  steps: Step[]
}

export interface Step {
  /** In the page, from 1. */
  line: number
  command: string
  stdin?: string
  expected: string[]
}

/** Never fails: what is no step is prose. */
export function parseStory(page: string): Story {
  const lines = page.split('\n')
  const title = lines.find((line) => line.startsWith('# '))?.slice(2) ?? 'a story without a title'
  const only = /^<!-- only (sim|lab|cluster):/m.exec(page)?.[1] as Story['only']
  const notOn = /^<!-- not on cluster: /m.test(page) ? 'cluster' : undefined
  const pastWebhook = /^<!-- past the webhook: /m.test(page)
  const steps: Step[] = []
  let yaml: string | undefined
  for (let i = 0; i < lines.length; i++) {
    const fence = /^( *)```(\w*)/.exec(lines[i] ?? '')
    if (!fence) continue
    const indent = fence[1]!.length
    const start = i + 1
    const block: string[] = []
    while (++i < lines.length && !(lines[i] ?? '').trim().startsWith('```'))
      block.push(lines[i]!.slice(indent))
    if (fence[2] === 'yaml') yaml = block.join('\n')
    if (fence[2] === 'console') steps.push(...stepsIn(block, start + 1, yaml))
  }
  return { title, ...(only && { only }), ...(notOn && { notOn }), ...(pastWebhook && { pastWebhook }), steps }
}

function stepsIn(block: string[], firstLine: number, yaml: string | undefined): Step[] {
  const steps: Step[] = []
  for (let i = 0; i < block.length; i++) {
    const text = block[i]!
    if (!text.startsWith('$ ')) {
      steps.at(-1)?.expected.push(text)
      continue
    }
    const step: Step = { line: firstLine + i, command: text.slice(2), expected: [] }
    const heredoc = / <<'?(\w+)'?$/.exec(step.command)
    if (heredoc) {
      const body: string[] = []
      while (++i < block.length && block[i] !== heredoc[1]) body.push(block[i]!)
      step.command = step.command.slice(0, heredoc.index)
      step.stdin = body.join('\n')
    } else if (/ -f -( |$)/.test(step.command)) step.stdin = yaml
    steps.push(step)
  }
  return steps.map((step) => ({ ...step, expected: trimmed(step.expected) }))
}

const trimmed = (lines: string[]): string[] => {
  let end = lines.length
  while (end > 0 && lines[end - 1]!.trim() === '') end--
  return lines.slice(0, end)
}

/** The command's words as a shell splits them: quotes group, a backslash takes the next character; no expansion. */
export function wordsOf(command: string): string[] {
  const words: string[] = []
  for (const match of command.matchAll(/(?:'[^']*'|"(?:\\.|[^"])*"|\\.|[^\s'"\\])+/g))
    words.push(
      match[0].replace(/'([^']*)'|"((?:\\.|[^"])*)"|\\(.)/g, (_, single, double, escaped) =>
        single !== undefined ? single : double !== undefined ? double.replace(/\\(.)/g, '$1') : escaped,
      ),
    )
  return words
}

/** What names in capitals stood for so far: `<ADDRESS>` matches anything once and the same ever after. */
export type Names = Map<string, string>

/** The command with what its names stand for. */
export const substituted = (command: string, names: Names): string =>
  command.replace(/<([A-Z][A-Z0-9-]*)>/g, (whole, name) => names.get(name) ?? whole)

/**
 * Whether the output is the expected one. Runs of blanks count as one, so
 * columns may be wider; `<word>` is any text without blanks, except the words
 * that kubectl itself prints so; a line `...` is any number of lines, `<...>`
 * any part of one. Learns names in capitals when it matches.
 */
export function outputMatches(expected: string[], output: string, names: Names): boolean {
  const seen = new Set<string>()
  const pattern = expected
    .map((line) => (line.trim() === '...' ? '(?:.*\\n)*?' : `${linePattern(line, names, seen)}\\n`))
    .join('')
  const actual = trimmed(output.split('\n'))
    .map((line) => `${evened(line)}\n`)
    .join('')
  const match = new RegExp(`^${pattern}$`).exec(actual)
  if (!match) return false
  for (const [group, value] of Object.entries(match.groups ?? {}))
    names.set(group.replaceAll('_', '-'), value)
  return true
}

const evened = (line: string): string => line.trimEnd().replace(/\s+/g, ' ')

const literal = new Set(['none', 'unset', 'unknown', 'nil', 'invalid', 'pending', 'no value'])

function linePattern(line: string, names: Names, seen: Set<string>): string {
  return evened(line)
    .split(/(<[^<>]+>)/)
    .map((part, i) => {
      if (i % 2 === 0) return escaped(part)
      const word = part.slice(1, -1)
      if (literal.has(word)) return escaped(part)
      if (word === '...') return '.*'
      if (!/^[A-Z][A-Z0-9-]*$/.test(word)) return '\\S+'
      const known = names.get(word)
      if (known !== undefined) return escaped(known)
      const group = word.replaceAll('-', '_')
      if (seen.has(group)) return `\\k<${group}>`
      seen.add(group)
      return `(?<${group}>\\S+?)`
    })
    .join('')
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
