import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parse } from 'yaml'
import { Fault } from '../src/lib/fault.ts'

/** Kubernetes' own tests, as its conformance defines them. */
export interface Suite {
  /** The compiled tests, `e2e.test`. */
  program: string
  kubeconfig: string
  kubectl: string
  /** Where each test's log is written. */
  logs: string
  timeoutMs: number
}

export type Outcome =
  | { state: 'passed' | 'skipped'; seconds: number }
  | { state: 'failed'; seconds: number; why: string; log: string }

/** The names of all conformance tests of the network, as the program itself lists them, in order. */
export async function networkTests(program: string): Promise<string[]> {
  const child = spawn(program, ['--list-conformance-tests'], { stdio: ['ignore', 'pipe', 'ignore'] })
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => resolve())
  })
  const [listed] = await Promise.all([text(child.stdout), ended])
  const names = namesIn(listed).filter((name) => name.startsWith('[sig-network]'))
  if (names.length > 0) return names
  throw new Fault('missing', 'list the conformance tests', `${program} lists none; build it again`)
}

/** What `--list-conformance-tests` prints: a list of documents' fields. */
export const namesIn = (listed: string): string[] =>
  [...new Set((parse(listed) as { codename: string }[]).map(({ codename }) => codename))].sort()

/** Runs one test by its name, against the cluster. */
export async function runTest(suite: Suite, name: string, signal: AbortSignal): Promise<Outcome> {
  mkdirSync(suite.logs, { recursive: true })
  const log = join(suite.logs, logName(name))
  const began = performance.now()
  const fd = openSync(log, 'w')
  try {
    await ended(suite, name, fd, signal)
  } finally {
    closeSync(fd)
  }
  const seconds = Math.round((performance.now() - began) / 100) / 10
  return outcomeIn(readFileSync(log, 'utf8'), seconds, log)
}

/** The process is given time to take away what its test has made. */
function ended(suite: Suite, name: string, fd: number, signal: AbortSignal): Promise<void> {
  const { program, kubeconfig, kubectl, timeoutMs } = suite
  const args = [
    `--kubeconfig=${kubeconfig}`,
    `--kubectl-path=${kubectl}`,
    '--provider=local',
    '--ginkgo.no-color',
    '--ginkgo.v',
    `--ginkgo.timeout=${Math.round(timeoutMs / 1000)}s`,
    `--ginkgo.focus=${focusOn(name)}`,
  ]
  const child = spawn(program, args, { stdio: ['ignore', fd, fd], signal, killSignal: 'SIGKILL' })
  const late = setTimeout(() => child.kill('SIGKILL'), timeoutMs + 60_000)
  return new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => resolve())
  }).finally(() => clearTimeout(late))
}

/** A regular expression of Go's that takes this test and no other. */
export const focusOn = (name: string): string => `${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`

export const logName = (name: string): string =>
  `${name
    .replace(/^\[sig-network\] | \[[A-Za-z]+\]/g, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 120)}.log`

/** What the log of one test says that it came to. */
export function outcomeIn(log: string, seconds: number, path: string): Outcome {
  const counts = /(\d+) Passed \| (\d+) Failed/.exec(log)
  if (counts?.[2] === '0') return { state: counts[1] === '0' ? 'skipped' : 'passed', seconds }
  // Before it stands where it failed, as `[FAILED] in [It] - file`.
  const why = /^ *\[FAILED\] (?!in \[|\[)(.*)/m.exec(log)?.[1] ?? log.trim().split('\n').at(-1) ?? ''
  return { state: 'failed', seconds, why: why.trim(), log: path }
}
