import { spawnSync } from 'node:child_process'
import { existsSync, globSync, statfsSync } from 'node:fs'
import { freemem } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { run } from 'node:test'
import { inspect } from 'node:util'

/**
 * `npm test`: types, format and lint, then every test, in the order of what
 * fails soonest. Closes with one line, `N passed, N failed, N skipped`, and
 * exits with 1 when something failed. With `--cluster`, the tests on real
 * Kubernetes instead; with `--peers`, the smallest bench beside the peers; with
 * `--all`, all of it. With paths as arguments, only the tests below them run:
 * `npm test -- src/attach`; a path without any is a failure.
 */
interface Tally {
  passed: number
  failed: number
  skipped: number
}

const root = join(import.meta.dirname, '..')

// Hundreds of processes are started from the same sources: the first one compiles them (`module.enableCompileCache`).
process.env.NODE_COMPILE_CACHE ??= join(root, 'node_modules/.cache/compiled')

const checks: [title: string, command: string, args: string[]][] = [
  ['types', 'tsc', ['-p', '.']],
  ['format and lint', 'biome', ['check', '.']],
]

interface Stage {
  title: string
  patterns: string[]
  concurrency: number
  timeoutMs: number
  /** For real clusters, which take root: tools that are built first, and say how far they are. Each file's time is listed in the end. */
  tools?: string[]
}

const ordinary: Stage[] = [
  {
    title: 'pure, effects and sim',
    patterns: ['src', 'scripts', 'sim', 'images', 'bench'].map((dir) => `${dir}/**/*.test.ts`),
    concurrency: 2,
    timeoutMs: 240_000,
  },
  // Real kernels and whole clusters: one at a time, so that none waits for the other's CPU.
  {
    title: 'lab and stories',
    patterns: ['lab/**/*.test.ts', 'scenarios/**/*.test.ts'],
    concurrency: 1,
    timeoutMs: 480_000,
  },
]

/** Whatever some test on clusters takes, so that none waits for a compiler. */
const tools = [
  ...['kubernetes-1.37', 'containerd', 'etcd', 'plugins', 'coredns', 'helm', 'flannel', 'flannel-plugin'],
  ...['multus', 'whereabouts', 'agnhost'],
]

/**
 * `npm run test:cluster`: on real Kubernetes, which is built when there is none yet. Three clusters at once are what two
 * processors carry; the longest files begin, so that none is left alone in the end.
 */
const clusters: Stage = {
  title: 'real clusters',
  patterns: [
    ...['stories-*', 'bad-days', 'install', 'upgrade', 'migration', 'beside-multus'].map(
      (name) => `cluster/${name}.test.ts`,
    ),
    'cluster/!(peers).test.ts',
  ],
  concurrency: 3,
  timeoutMs: 1_800_000,
  tools,
}

/** Four nodes, and as many plugins at once. */
const peers: Stage = {
  title: 'beside the peers',
  patterns: ['cluster/peers.test.ts'],
  concurrency: 1,
  timeoutMs: 1_800_000,
  tools,
}

/** Runs one tool; its output is shown when it complains. */
function check(title: string, command: string, args: string[]): Tally {
  const began = performance.now()
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  const ok = status === 0
  if (!ok) console.log(`${stdout ?? ''}${stderr ?? ''}${error ?? ''}`)
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${title} ${seconds(began)}`)
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 }
}

/** Builds what clusters are made of; all of it says how far it is. */
function made(tools: string[]): Tally {
  const began = performance.now()
  const args = [join(root, 'cluster/cli.ts'), 'build', ...tools]
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  const ok = status === 0
  console.log(`${ok ? 'ok  ' : 'FAIL'} what clusters are made of ${seconds(began)}`)
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 }
}

/** Clusters are Go's garbage and containerd's files: where there is memory enough, it is used instead of processors. */
function spendMemory(): void {
  if (!existsSync('/dev/shm')) return
  const shm = statfsSync('/dev/shm', { bigint: true })
  if (freemem() < 16 * 2 ** 30 || shm.bavail * shm.bsize < 8n << 30n) return
  process.env.GOGC ??= '800'
  process.env.TMPDIR ??= '/dev/shm'
}

/** Runs test files, a line for each as it ends, and what failed in full. */
async function tests(
  files: string[],
  { concurrency, timeoutMs, timed = false }: { concurrency: number; timeoutMs: number; timed?: boolean },
  reasons: Reasons,
): Promise<Map<string, Tally>> {
  const tallies = new Map<string, Tally>()
  const execArgv = ['--import', join(import.meta.dirname, 'left-open.ts')]
  const stream = run({ files, concurrency, timeout: timeoutMs, cwd: root, execArgv })
  const progress = new Progress()
  stream.on('test:dequeue', ({ name, file }) => name === file && progress.begins(name))
  stream.on('test:complete', ({ name, file }) => (name === file ? progress.ends(name) : progress.passes()))
  stream.on('test:pass', ({ skip }) => {
    if (skip !== undefined && skip !== false)
      reasons.count(typeof skip === 'string' ? skip : 'no reason given')
  })
  stream.on('test:fail', ({ name, file, line, details }) => {
    // A parent that fails only because a test in it did has nothing to add.
    const error = details.error as Error & { failureType?: string; cause?: unknown }
    if (error.failureType === 'subtestsFailed') return
    const where =
      file === undefined ? '' : ` (${relative(root, file)}${line === undefined ? '' : `:${line}`})`
    console.log(
      `FAIL ${name === file ? 'the file itself' : name}${where}\n${indented(whyOf(error.cause ?? error))}`,
    )
  })
  // What tests print is for whoever works on them.
  stream.on('test:stdout', ({ message }) => {
    if (paths.length > 0) process.stdout.write(message)
  })
  stream.on('test:stderr', ({ message }) => process.stderr.write(message))
  stream.on('test:summary', ({ file, counts, duration_ms }) => {
    if (file === undefined) return
    const failed = counts.tests - counts.passed - counts.skipped - counts.todo
    const skips = counts.skipped + counts.todo
    tallies.set(file, { passed: counts.passed, failed, skipped: skips })
    const said = failed > 0 ? 'FAIL' : 'ok  '
    const failures = failed > 0 ? `, ${failed} failed` : ''
    const skipped = skips > 0 ? `, ${skips} skipped` : ''
    const took = `${(duration_ms / 1000).toFixed(1)} s`
    console.log(`${said} ${relative(root, file)}: ${counts.passed} passed${failures}${skipped}, ${took}`)
  })
  for await (const _ of stream);
  progress.over()
  if (timed) for (const line of progress.lines()) console.log(line)
  // Node counts a file that ends early as one test, which may even have passed.
  for (const file of files) {
    if (tallies.has(file)) continue
    console.log(`FAIL ${relative(root, file)}: ended before its last test`)
    tallies.set(file, { passed: 0, failed: 1, skipped: 0 })
  }
  return tallies
}

/** What goes on while nothing is said: results come in the order of the files, and some take many minutes. */
class Progress {
  readonly #began = performance.now()
  readonly #running = new Map<string, number>()
  readonly #took: [file: string, ms: number][] = []
  #done = 0
  readonly #ticker = setInterval(() => {
    const running = [...this.#running.keys()].map((file) => relative(root, file)).join(', ')
    console.log(`     ${seconds(this.#began)}: ${this.#done} tests done, running ${running}`)
  }, 30_000)

  begins(file: string): void {
    this.#running.set(file, performance.now())
  }

  ends(file: string): void {
    this.#took.push([file, performance.now() - (this.#running.get(file) ?? this.#began)])
    this.#running.delete(file)
  }

  passes(): void {
    this.#done++
  }

  over(): void {
    clearInterval(this.#ticker)
  }

  /** How long each file took, the longest first. */
  lines(): string[] {
    return this.#took
      .sort(([, a], [, b]) => b - a)
      .map(([file, ms]) => `${`${(ms / 1000).toFixed(1)} s`.padStart(10)}  ${relative(root, file)}`)
  }
}

/** Message and stack of an error and of what caused it, without the frames of Node itself. */
function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return inspect(error)
  const stack = (error.stack ?? String(error)).replaceAll(/\n +at .*\(?node:.*/g, '')
  return error.cause === undefined ? stack : `${stack}\ncaused by ${whyOf(error.cause)}`
}

/** Why tests were skipped, and how many for each reason. */
class Reasons {
  readonly #counts = new Map<string, number>()

  count(reason: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1)
  }

  lines(): string[] {
    return [...this.#counts].map(([reason, count]) => `skipped ${count}: ${reason}`)
  }
}

const seconds = (began: number): string => `${((performance.now() - began) / 1000).toFixed(1)} s`

const indented = (text: string): string => text.replaceAll(/^/gm, '     ')

/** The test files of patterns, in their order; those below one of `paths` when there are any. */
function filesOf(patterns: string[], paths: string[]): string[] {
  const found = new Set(
    patterns.flatMap((pattern) => globSync(pattern, { cwd: root }).sort()).map((path) => join(root, path)),
  )
  const wanted = paths.map((path) => resolve(path))
  return [...found].filter((file) => wanted.length === 0 || wanted.some((path) => isBelow(path, file)))
}

const isBelow = (path: string, file: string): boolean => file === path || file.startsWith(`${path}/`)

const [flags, paths] = [true, false].map((flag) =>
  process.argv.slice(2).filter((arg) => arg.startsWith('--') === flag),
) as [string[], string[]]
const everything = flags.includes('--all')
const stages = [
  ...(everything || flags.length === 0 ? ordinary : []),
  ...(everything || flags.includes('--cluster') ? [clusters] : []),
  ...(everything || flags.includes('--peers') ? [peers] : []),
]
const tallies: Tally[] = []
const reasons = new Reasons()

if (paths.length === 0 && stages.includes(ordinary[0]!))
  for (const [title, command, args] of checks) tallies.push(check(title, command, args))

const isRoot = process.getuid?.() === 0
let areMade = false

for (const { title, patterns, concurrency, timeoutMs, tools } of stages) {
  const files = filesOf(patterns, paths)
  if (files.length === 0) continue
  const began = performance.now()
  console.log(`\n${title}: ${files.length} files`)
  if (tools && everything && !isRoot) {
    for (const _ of files) reasons.count('real clusters take root')
    tallies.push({ passed: 0, failed: 0, skipped: files.length })
    continue
  }
  if (tools && paths.length === 0 && !areMade) {
    const tally = made(tools)
    tallies.push(tally)
    if (tally.failed > 0) break
    areMade = true
  }
  if (tools) spendMemory()
  const found = await tests(files, { concurrency, timeoutMs, timed: tools !== undefined }, reasons)
  // Clusters that share two processors may be too slow for each other, not for themselves.
  const failed = tools && everything ? files.filter((file) => found.get(file)!.failed > 0) : []
  if (failed.length > 0) {
    console.log(`played again, one by one: ${failed.map((file) => relative(root, file)).join(', ')}`)
    for (const each of await tests(failed, { concurrency: 1, timeoutMs }, reasons)) found.set(...each)
  }
  tallies.push(...found.values())
  console.log(`${title}: ${seconds(began)}`)
}

// Files outside the project, as given.
const others = paths
  .filter((path) => path.endsWith('.test.ts') && relative(root, resolve(path)).startsWith('..'))
  .map((path) => resolve(path))
if (others.length > 0)
  tallies.push(...(await tests(others, { concurrency: 1, timeoutMs: 60_000 }, reasons)).values())

const ran = [...stages.flatMap(({ patterns }) => filesOf(patterns, paths)), ...others]
const empty = paths.filter((path) => !ran.some((file) => isBelow(resolve(path), file)))
for (const path of empty) console.log(`FAIL ${path}: there is no test below it`)

const sum = (key: keyof Tally): number => tallies.reduce((total, tally) => total + tally[key], 0)
console.log(
  `\n${[...reasons.lines(), ''].join('\n')}${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`,
)
process.exit(sum('failed') > 0 || empty.length > 0 ? 1 : 0)
