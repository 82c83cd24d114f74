import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { buildImage } from '../images/images.ts'
import { answers, asFault, Fault } from '../src/lib/fault.ts'
import { toolDir, versionOf } from './build.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { pageWith } from './conformance-page.ts'
import { networkTests, type Outcome, runTest, type Suite } from './conformance-tests.ts'
import { installPolynet } from './install.ts'
import { eventually, findings, kubectlOf } from './kubectl.ts'

/** Kubernetes' own conformance tests of the network, with Polynet as the cluster's only one. */

interface Options {
  focus?: string
  workers: string
  name: string
  list?: boolean
}

const program = new Command('npm run test:conformance --')
  .description("Kubernetes' own conformance tests of the network, with Polynet as the cluster's only one")
  .option('--focus <regex>', 'only the tests whose names match')
  .option('--workers <n>', 'how many tests at once', String(Math.max(2, availableParallelism())))
  .option('--name <name>', 'of the cluster, beside others', `conformance-${process.pid}`)
  .option('--list', 'print the names of the tests, and end')
  .showHelpAfterError()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : answers.invalid.exit))

const nodes = 3
const page = join(import.meta.dirname, '../docs/conformance.md')
const stop = new AbortController()
const say = (line: string) => console.error(line)

/** The exit code. With KUBECONFIG set the tests run on that cluster, as it is. */
async function main({ name, focus = '', workers, list }: Options): Promise<number> {
  const e2e = join(await toolDir('e2e', say), 'e2e.test')
  const tests = (await networkTests(e2e)).filter((test) => new RegExp(focus).test(test))
  if (tests.length === 0) throw new Fault('missing', `run the tests of ${focus}`, 'there is none; see --list')
  if (list) {
    console.log(tests.join('\n'))
    return 0
  }
  const kubectl = join(await toolDir('kubernetes-1.37', say), 'kubectl')
  const cluster = process.env.KUBECONFIG ? undefined : await prepared(name)
  const logs = mkdtempSync(join(tmpdir(), 'polynet-conformance-'))
  try {
    const kubeconfig = cluster?.kubeconfig ?? process.env.KUBECONFIG ?? ''
    const suite: Suite = { program: e2e, kubeconfig, kubectl, logs, timeoutMs: 900_000 }
    const outcomes = await runAll(suite, tests, Number(workers))
    const count = (state: Outcome['state']) => tests.filter((each) => outcomes.get(each)?.state === state)
    const [passed, skipped, failed] = [count('passed'), count('skipped'), count('failed')]
    console.log(`${passed.length} passed, ${failed.length} failed, ${skipped.length} did not run`)
    const left = cluster ? await leftBehind(cluster) : []
    for (const line of left) console.log(line)
    if (failed.length + skipped.length + left.length > 0) {
      console.log(`logs: ${logs}`)
      return 1
    }
    rmSync(logs, { recursive: true })
    if (cluster && focus === '') writePage(passed)
    return 0
  } finally {
    await cluster?.close()
  }
}

/** A cluster with Polynet, and what the tests run on its nodes. */
async function prepared(name: string): Promise<Cluster> {
  const images = [await buildImage('agnhost', say), await buildImage('glibc-dns-testing', say)]
  const cluster = await startCluster({ name, nodes, defaultNetwork: 'none', say })
  try {
    await installPolynet(cluster, [], say)
    for (const { path } of images) await cluster.loadImage('all', path)
    return cluster
  } catch (error) {
    await cluster.close()
    throw error
  }
}

/** Several at once, then those that failed once more, one after another: a busy machine is no verdict. */
async function runAll(suite: Suite, tests: string[], workers: number): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>()
  const run = async (name: string) => {
    const outcome = await runTest(suite, name, stop.signal)
    outcomes.set(name, outcome)
    console.log(`${outcome.state} ${outcome.seconds} s ${name}`)
    if (outcome.state === 'failed') console.log(`  ${outcome.why}; ${outcome.log}`)
  }
  const queue = [...tests]
  const worker = async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) await run(name)
  }
  await Promise.all(Array.from({ length: workers }, worker))
  const again = tests.filter((name) => outcomes.get(name)?.state === 'failed')
  if (again.length > 0) console.log(`once more, one after another: ${again.length}`)
  for (const name of again) await run(name)
  return outcomes
}

/** What of the tests' is still there, and what contradicts itself, once their namespaces had the time to go. */
async function leftBehind(cluster: Cluster): Promise<string[]> {
  const kubectl = kubectlOf(cluster)
  const left = await eventually(
    '',
    () => kubectl(['get', 'namespaces', '-l', 'e2e-run', '-o', 'name']),
    180_000,
  )
  return [...left.split('\n').filter((line) => line !== ''), ...(await findings(kubectl))]
}

function writePage(passed: string[]): void {
  const run = {
    kubernetes: versionOf('e2e').slice(1),
    containerd: versionOf('containerd').slice(1),
    nodes,
    passed,
  }
  writeFileSync(page, pageWith(readFileSync(page, 'utf8'), run))
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())

try {
  process.exitCode = await main(program.parse().opts<Options>())
} catch (error) {
  const fault = asFault(error, 'run the conformance tests')
  console.error(stop.signal.aborted ? 'interrupted' : fault.message)
  process.exitCode = answers[fault.kind].exit
}
