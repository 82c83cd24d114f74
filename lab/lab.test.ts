import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { labDir } from './boot.ts'
import { wayIn } from './enter.ts'

const way = wayIn()
const skip = way.how === 'none' ? way.why : false
const script = (name: string) => join(import.meta.dirname, name)
const started = new Set<ChildProcess>()
after(() => {
  for (const child of started) child.kill('SIGKILL')
})

/** A lab of its own process, as a person would start it; `as` runs it as another user. */
function startLab(args: string[], as?: number): Promise<{ child: ChildProcess; output: string }> {
  const child = spawn(process.execPath, [script('start.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(as === undefined ? {} : { uid: as, gid: as, env: { ...process.env, HOME: '/tmp' } }),
  })
  started.add(child)
  let output = ''
  return new Promise((resolve, reject) => {
    child.stdout!.setEncoding('utf8').on('data', (chunk) => {
      output += chunk
      if (output.includes('It ends with Ctrl-C')) resolve({ child, output })
    })
    child.on('error', reject)
    child.on('close', () => {
      started.delete(child)
      resolve({ child, output })
    })
  })
}

const nameIn = (output: string): string => /by the name of (\S+)\./.exec(output)?.[1] ?? ''

/** Processes on this machine whose command line names the lab's folder or something in it. */
const processesOf = (dir: string): string[] =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return args.some((arg) => arg === dir || arg.includes(`${dir}/`))
      } catch {
        return false
      }
    })

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; !holds() && i < 200; i++) await new Promise((resolve) => setTimeout(resolve, 50))
  assert.ok(holds())
}

test('npm start -- --exit shows the cluster and ends with 0', { skip, timeout: 90_000 }, async () => {
  const { child, output } = await startLab(['--exit'])
  assert.equal(child.exitCode, 0)
  assert.deepEqual(output.match(/^[A-Z]+( [A-Z]+)*$/gm), [
    'NODES',
    'PHYSICAL NETWORKS',
    'NETWORKS',
    'PODS',
    'WHO REACHES WHOM',
  ])
  assert.ok(!existsSync(labDir(nameIn(output))))
})

test('where the kernel does not allow a lab, the same is shown by a simulation', async () => {
  const { child, output } = await startLab(['--exit', '--sim'])
  assert.equal(child.exitCode, 0)
  assert.match(output, /^This is a simulation, not a lab on the kernel: --sim asks for one/)
  assert.match(output, /default\/web-1 +eth0 +n1 .* eth1 /)
})

test('a user without root gets the same by user namespaces', {
  skip: skip || !canBeNobody(),
  timeout: 90_000,
}, async () => {
  const { child, output } = await startLab(['--exit'], 65534)
  assert.equal(child.exitCode, 0)
  assert.match(output, /without root, by user namespaces/)
  assert.match(output, /default\/web-1 +eth0 +n1 .* eth1 /)
})

test('two labs run at once; one that is killed leaves nothing, and the other goes on', {
  skip,
  timeout: 120_000,
}, async () => {
  const [first, second] = [await startLab([]), await startLab([])]
  const [a, b] = [nameIn(first.output), nameIn(second.output)]
  assert.notEqual(a, b)
  first.child.kill('SIGKILL')
  await until(() => processesOf(labDir(a)).length === 0)
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
  assert.ok(!mounts.includes(`${labDir(a)}/`))
  const lab = (...args: string[]) =>
    execFileSync(process.execPath, [script('cli.ts'), ...args], { encoding: 'utf8' })
  assert.ok(!lab('list').split('\n').includes(a))
  assert.ok(!existsSync(labDir(a)))
  assert.match(lab('status', '--name', b), /default\/web-1 +eth0 +n1 .* eth1 /)
  assert.match(
    lab('exec', '--name', b, 'web-1', '--', 'cat', '/proc/net/dev'),
    /eth0:.*\n.*eth1:|eth1:.*\n.*eth0:/s,
  )
  second.child.kill('SIGTERM')
  await until(() => !existsSync(labDir(b)))
})

test('a lab whose first process is killed is cleaned up by the next look', {
  skip,
  timeout: 60_000,
}, async () => {
  const lab = (...args: string[]) =>
    execFileSync(process.execPath, [script('cli.ts'), ...args], { encoding: 'utf8' })
  const name = `t${process.pid}`
  lab('up', '--name', name, '--nodes', '1', '--nics', 'eth1')
  assert.ok(lab('list').split('\n').includes(name))
  process.kill(Number(readFileSync(join(labDir(name), 'pid'), 'utf8')), 'SIGKILL')
  await until(() => processesOf(labDir(name)).length === 0)
  assert.ok(existsSync(labDir(name)))
  assert.ok(!lab('list').split('\n').includes(name))
  assert.ok(!existsSync(labDir(name)))
})

const mistakes: [args: string, says: RegExp, exit: number][] = [
  ['bogus', /unknown command 'bogus'/, 2],
  ['kill', /missing required argument 'node'/, 2],
  ['up --nodes 0', /^take --nodes 0: it is 1 to 60$/m, 2],
  ['up --nics eth0', /^plug in NIC eth0: /, 2],
  ['up --port 99999', /^take --port 99999: it is 0 to 65535$/m, 2],
  ['up --name ../x', /^name a lab ..\/x: /, 2],
  ['status --name nowhere', /^find lab nowhere: it does not run; /, 4],
]

for (const [args, says, exit] of mistakes)
  test(`npm run lab -- ${args}: exits with ${exit}, and says why`, { skip }, () => {
    const { status, stderr } = spawnSync(process.execPath, [script('cli.ts'), ...args.split(' ')], {
      encoding: 'utf8',
    })
    assert.match(stderr, says)
    assert.equal(status, exit)
  })

/** Whether this test may start something as a user who owns nothing, and who may read the project. */
function canBeNobody(): boolean {
  if (process.getuid?.() !== 0) return false
  try {
    execFileSync(
      process.execPath,
      ['-e', `require('fs').readFileSync(${JSON.stringify(script('start.ts'))})`],
      {
        uid: 65534,
        gid: 65534,
        stdio: 'ignore',
      },
    )
    return true
  } catch {
    return false
  }
}
