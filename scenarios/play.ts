import type { CniQuestion, Place } from '../lab/place.ts'
import { type Bound, wordFor } from '../lab/reach.ts'
import { screenOf } from '../lab/show.ts'
import { Fault, isFault } from '../src/lib/fault.ts'
import { kubectl, type Output } from './kubectl.ts'
import { poolsText } from './pools.ts'
import { type Names, outputMatches, type Story, substituted, wordsOf } from './story.ts'

/** How long a question may go on being answered differently from what the page expects; real nodes share the machine's processors. */
const patienceMs = { sim: 20_000, lab: 60_000, cluster: 60_000 } as const satisfies Record<
  Place['kind'],
  number
>

/**
 * Plays the steps one after another. What only asks (`get`, `describe`,
 * `reach`, …) is asked again until the answer is the page's, for a while; what
 * acts is done once. Rejects with `invalid` at the first step that came out
 * differently, with the page's line, what was expected and what came.
 */
export async function play(story: Story, place: Place, page = story.title): Promise<void> {
  const names: Names = new Map()
  const noted: Noted = new Map()
  for (const step of story.steps) {
    const words = wordsOf(substituted(step.command, names))
    const stdin = step.stdin && substituted(step.stdin, names)
    const until = performance.now() + (asks(words) ? patienceMs[place.kind] : 0)
    for (;;) {
      const began = performance.now()
      const { output } = await run(words, stdin, place, noted).catch((error): Output => {
        // What is asked for may be there in a moment.
        if (asks(words) && isFault(error, 'missing')) return { exit: 1, output: error.message }
        throw error
      })
      if (outputMatches(step.expected, output, names)) break
      if (performance.now() >= until)
        throw new Fault(
          'invalid',
          `${page}:${step.line}: $ ${step.command} (on ${place.kind})`,
          `came out differently\nexpected:\n${indented(step.expected.join('\n'))}\nactual:\n${indented(output)}`,
        )
      // Asking takes processor time from what is waited for: half of it at most.
      await new Promise((resolve) => setTimeout(resolve, Math.max(100, performance.now() - began)))
    }
  }
}

const indented = (text: string): string => text.replace(/^/gm, '  ')

const questions = new Set([
  'get',
  'describe',
  'logs',
  'reach',
  'send',
  'status',
  'leftovers',
  'pools',
  'show',
  'changes',
  'cni',
])

const asks = ([program, verb = '']: string[]): boolean =>
  (program === 'kubectl' || program === 'lab') && questions.has(verb)

async function run(words: string[], stdin: string | undefined, place: Place, noted: Noted): Promise<Output> {
  const [program = '', ...rest] = words
  if (program === 'kubectl') return kubectl(place, rest, stdin)
  // What people type is `npm run lab -- exec …`.
  const command =
    words.slice(0, 4).join(' ') === 'npm run lab --' ? words.slice(4) : program === 'lab' ? rest : undefined
  if (!command) return { exit: 127, output: `${program}: command not found` }
  return lab(place, command, noted)
}

/** The lab's commands, as far as stories use them; the same in both places. */
async function lab(place: Place, [verb = '', ...rest]: string[], noted: Noted): Promise<Output> {
  const words = rest.filter((word) => !word.startsWith('--'))
  const flag = (name: string) => rest.find((word) => word.startsWith(`--${name}`))
  const done: Output = { exit: 0, output: '' }
  switch (verb) {
    case 'show':
      return { exit: 0, output: await screenOf(place) }
    case 'reach':
      return {
        exit: 0,
        output: await reach(
          place,
          words,
          flag('answered') !== undefined,
          flag('by-address') ? 'address' : 'interface',
        ),
      }
    case 'send':
      return { exit: 0, output: await send(place, words, (name) => flag(name)?.slice(`--${name}=`.length)) }
    case 'exec': {
      const at = rest.indexOf('--')
      return place.exec(fullName(rest[0] ?? ''), rest.slice(at + 1))
    }
    case 'kill': {
      const at = flag('at')?.slice('--at='.length)
      await place.kill(words[0] ?? '', flag('agent') || at ? 'agent' : 'node', at)
      return done
    }
    case 'start':
      await place.start(words[0] ?? '')
      return done
    case 'reboot':
      await place.kill(words[0] ?? '', 'node')
      await place.start(words[0] ?? '')
      return done
    case 'plug':
    case 'unplug':
      await place.plug(words[0] ?? '', words[1] ?? '', verb === 'plug')
      return done
    case 'cni': {
      const [node = '', command, ...pods] = words
      const asked: CniQuestion = {
        command: command as CniQuestion['command'],
        pods: pods.map(fullName),
        sandbox: flag('sandbox')?.slice('--sandbox='.length),
      }
      const times = Number(flag('times')?.slice('--times='.length) ?? 1)
      const answers = await Promise.all(Array.from({ length: times }, () => place.cni(node, asked)))
      return {
        exit: Math.max(...answers.map((each) => each.exit)),
        output: answers.map((each) => each.output).join('\n'),
      }
    }
    case 'api':
      await place.outage(words[0] === 'stop')
      return done
    case 'leftovers': {
      const part = flag('with')?.slice('--with='.length) ?? ''
      const lines = await place.leftovers(words[0] ?? '')
      return { exit: 0, output: lines.filter((line) => line.includes(part)).join('\n') }
    }
    case 'pools':
      return { exit: 0, output: await poolsText(place, words[0] ?? '') }
    case 'note':
      for (const [node, lines] of await atRest(place)) noted.set(node, lines)
      return done
    case 'changes':
      return { exit: 0, output: changes(noted, await ownedBy(place)).join('\n') }
    default:
      return { exit: 1, output: `lab: no such command: ${verb}` }
  }
}

/** What each node had of Polynet's when `lab note` was said; `lab changes` says what is different now. */
type Noted = Map<string, string[]>

async function ownedBy(place: Place): Promise<Noted> {
  const nodes = await place.nodes()
  const all = nodes.map(async (node): Promise<[string, string[]]> => {
    try {
      return [node, await place.leftovers(node)]
    } catch (error) {
      if (isFault(error, 'missing', 'unavailable')) return [node, ['it is switched off']]
      throw error
    }
  })
  return new Map(await Promise.all(all))
}

/** What is owned once it stays the same for as long as nodes take to hear of each other. */
async function atRest(place: Place): Promise<Noted> {
  for (let before = await ownedBy(place); ; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const now = await ownedBy(place)
    if (changes(before, now).length === 0) return now
    before = now
  }
}

const changes = (before: Noted, now: Noted): string[] =>
  [...now].flatMap(([node, lines]) => {
    const had = before.get(node) ?? []
    return [
      ...had.filter((line) => !lines.includes(line)).map((line) => `${node} lost ${line}`),
      ...lines.filter((line) => !had.includes(line)).map((line) => `${node} has ${line}`),
    ]
  })

/** `send POD INTERFACE ADDRESS [--source=IP] [--mac=MAC] [--to-mac=MAC]`: one packet, and who got it. */
async function send(
  place: Place,
  words: string[],
  flag: (name: string) => string | undefined,
): Promise<string> {
  const [pod = '', name = '', to = ''] = words
  const forged = { source: flag('source'), mac: flag('mac'), toMac: flag('to-mac') }
  const got = await place.send({ pod: fullName(pod), interface: name, to, ...forged })
  return got.length === 0 ? 'received by nobody' : got.map((each) => `received by ${each}`).join('\n')
}

const fullName = (pod: string): string => (pod.includes('/') ? pod : `default/${pod}`)

/**
 * `reach`: everyone to everyone, a line per packet; `reach a b`: between these
 * pods only; `--answered`: without those that nobody answered; `--by-address`: by sockets that are bound to
 * an address instead of an interface. Sorted, so that a page can say it.
 */
async function reach(place: Place, pods: string[], onlyAnswered: boolean, bound: Bound): Promise<string> {
  const probes = await place.reach(pods.length > 0 ? pods.map(fullName) : undefined, bound)
  return probes
    .filter((probe) => !onlyAnswered || probe.answeredBy !== undefined)
    .map(
      (probe) =>
        `${probe.from.pod} ${probe.from.interface} > ${probe.to.pod} ${probe.to.interface} ${probe.address}: ${wordFor(probe)}`,
    )
    .sort()
    .join('\n')
}
