import { appendFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { parseAddress } from '../../lib/ip.ts'

/** A look at all that the kernel remembers takes some ms; an address rests longer than this before another pod has it. */
const togetherMs = 5000

interface Group {
  addresses: Set<string>
  /** Present once it has begun. */
  forgotten?: Promise<void>
}

/**
 * Addresses of pods that are gone, by the namespace that their connections
 * are remembered in: those of a while are forgotten together. They are noted
 * in a file until then, for whoever comes after an agent that was killed.
 */
export class Departed {
  readonly #groups = new Map<string, Group[]>()
  readonly #path: string
  readonly #forget: (netns: string, addresses: string[]) => Promise<void>
  #timer: NodeJS.Timeout | undefined
  #isRecalled = false

  constructor(path: string, forget: (netns: string, addresses: string[]) => Promise<void>) {
    this.#path = path
    this.#forget = forget
  }

  add(netns: string, addresses: string[]): void {
    this.#put(netns, addresses)
    orNot(() => appendFileSync(this.#path, lineOf(netns, addresses)))
  }

  /** Once: adds what one noted that was killed before it had forgotten it. */
  recall(): void {
    if (this.#isRecalled) return
    this.#isRecalled = true
    orNot(() => {
      // The last line may be part of one.
      for (const line of readFileSync(this.#path, 'utf8').split('\n').slice(0, -1)) {
        const [netns = '', ...addresses] = line.split(' ')
        this.#put(
          netns,
          addresses.filter((address) => parseAddress(address)),
        )
      }
    })
  }

  #put(netns: string, addresses: string[]): void {
    const groups = this.#groups.get(netns) ?? []
    this.#groups.set(netns, groups)
    const waiting = groups.find(({ forgotten }) => forgotten === undefined) ?? { addresses: new Set() }
    if (!groups.includes(waiting)) groups.push(waiting)
    for (const address of addresses) waiting.addresses.add(address)
    this.#timer ??= setTimeout(() => this.forgetAll(), togetherMs)
  }

  /** What to wait for before one of these addresses is somebody's again at once, as whoever keeps his has it. */
  before(netns: string, addresses: string[]): Promise<void>[] {
    const groups = this.#groups.get(netns) ?? []
    return groups
      .filter((group) => addresses.some((address) => group.addresses.has(address)))
      .map((group) => this.#begin(netns, group))
  }

  forgetAll(): Promise<void>[] {
    clearTimeout(this.#timer)
    this.#timer = undefined
    return [...this.#groups].flatMap(([netns, groups]) => groups.map((group) => this.#begin(netns, group)))
  }

  /** One after another in each namespace; a failure leaves what is remembered to the kernel's own time. */
  #begin(netns: string, group: Group): Promise<void> {
    if (group.forgotten) return group.forgotten
    const groups = this.#groups.get(netns) ?? []
    const before = groups.flatMap(({ forgotten }) => forgotten ?? [])
    group.forgotten = Promise.all(before)
      .then(() => this.#forget(netns, [...group.addresses]))
      .catch(() => {})
      .then(() => {
        groups.splice(groups.indexOf(group), 1)
        if (groups.length === 0) this.#groups.delete(netns)
        this.#note()
      })
    return group.forgotten
  }

  /** What is left, in place of all that was. */
  #note(): void {
    const lines = [...this.#groups].flatMap(([netns, groups]) =>
      groups.map(({ addresses }) => lineOf(netns, [...addresses])),
    )
    orNot(() => {
      writeFileSync(`${this.#path}.new`, lines.join(''))
      renameSync(`${this.#path}.new`, this.#path)
    })
  }
}

const lineOf = (netns: string, addresses: string[]): string => `${[netns, ...addresses].join(' ')}\n`

/** A note is for the case that this program is killed; without one, the kernel forgets in its own time. */
function orNot(note: () => void): void {
  try {
    note()
  } catch {}
}
