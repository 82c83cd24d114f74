import assert from 'node:assert/strict'
import { spawn as nodeSpawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Ended, spawn } from './spawn.ts'

const dir = mkdtempSync(join(tmpdir(), 'polynet-spawn-'))
after(() => rmSync(dir, { recursive: true }))

const sh = (script: string, stdin = '', options = {}, env = {}): Promise<Ended> =>
  spawn('/bin/sh', ['sh', '-c', script], { PATH: '/usr/bin:/bin', ...env }, Buffer.from(stdin), {
    timeoutMs: 10_000,
    ...options,
  })
const text = ({ stdout, ...rest }: Ended) => ({ ...rest, stdout: stdout.toString() })

const cases: [string, Promise<Ended>, object][] = [
  [
    'what it printed on both outputs, and its exit code',
    sh('echo out; echo err >&2; exit 3'),
    { code: 3, stdout: 'out\n', stderr: 'err\n' },
  ],
  ['what it was given on stdin', sh('cat', 'hello'), { code: 0, stdout: 'hello', stderr: '' }],
  [
    'the environment it was given and no other',
    sh('env | grep -v -e ^PWD -e ^_= -e ^SHLVL | sort', '', {}, { A: 'b=c' }),
    { code: 0, stdout: 'A=b=c\nPATH=/usr/bin:/bin\n', stderr: '' },
  ],
  ['the signal that ended it', sh('kill -SEGV $$'), { signal: 'SIGSEGV', stdout: '', stderr: '' }],
  ['that it did not read its stdin', sh('exit 0', 'x'.repeat(1 << 20)), { code: 0, stdout: '', stderr: '' }],
  [
    'that its time was up, with all its children',
    sh('echo begun; sleep 60 & sleep 60', '', { timeoutMs: 300 }),
    { signal: 'SIGKILL', killed: 'timeout', stdout: 'begun\n', stderr: '' },
  ],
  [
    'as much output as it may print',
    sh('yes', '', { outputLimit: 4 }),
    { signal: 'SIGKILL', killed: 'output', stdout: 'y\ny\n', stderr: '' },
  ],
  [
    'its output when a daemon of its goes on holding it',
    sh('echo done; setsid sleep 2 &'),
    { code: 0, stdout: 'done\n', stderr: '' },
  ],
  ['a broken pipe, which is a signal again', sh('yes | head -1'), { code: 0, stdout: 'y\n', stderr: '' }],
  [
    'why it never began: it is not there',
    spawn(join(dir, 'none'), ['x'], {}, Buffer.of(), { timeoutMs: 1000 }),
    { error: 'ENOENT', stdout: '', stderr: '' },
  ],
  [
    'why it never began: no zero byte is an argument',
    spawn('/bin/true', ['x\0y'], {}, Buffer.of(), { timeoutMs: 1000 }),
    { error: 'EINVAL', stdout: '', stderr: '' },
  ],
]
for (const [what, run, want] of cases)
  test(`tells ${what}`, async () => {
    assert.deepEqual(text(await run), want)
  })

test('tells why it never began: it may not be executed, or is no program', async () => {
  writeFileSync(join(dir, 'plain'), 'x', { mode: 0o644 })
  writeFileSync(join(dir, 'garbage'), 'x', { mode: 0o755 })
  const run = (name: string) => spawn(join(dir, name), [name], {}, Buffer.of(), { timeoutMs: 1000 })
  assert.deepEqual([(await run('plain')).error, (await run('garbage')).error], ['EACCES', 'ENOEXEC'])
})

test('a program whose time is up takes its children with it', async () => {
  const { stdout } = await sh('sleep 60 & echo $!; sleep 60', '', { timeoutMs: 200 })
  const stat = `/proc/${Number(stdout)}/stat`
  // Gone, or dead and not yet reaped by whoever inherited it.
  if (existsSync(stat)) assert.match(readFileSync(stat, 'utf8'), /\) [ZX] /)
})

const openFiles = () => readdirSync('/proc/self/fd').length
const children = () => readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()

test('forty at once end each by themselves and leave no file open and no zombie behind', async () => {
  await sh('true')
  const before = openFiles()
  const runs = Array.from({ length: 40 }, (_, i) => sh(`cat; exit ${i}`, `${i}`))
  const ended = await Promise.all([...runs, spawn('/none', ['x'], {}, Buffer.of(), { timeoutMs: 1000 })])
  assert.deepEqual(
    ended.map((e) => e.error ?? `${e.code} ${e.stdout}`),
    [...Array.from({ length: 40 }, (_, i) => `${i} ${i}`), 'ENOENT'],
  )
  assert.equal(openFiles(), before)
  assert.equal(children(), '')
})

test("leaves Node's own children to Node", async () => {
  const child = nodeSpawn('/bin/sh', ['-c', 'exit 5'])
  const code = new Promise((resolve) => child.on('exit', resolve))
  await Promise.all([sh('exit 0'), sh('sleep 0.05')])
  assert.equal(await code, 5)
})

test('a child has no file of ours but the three', async () => {
  const { stdout } = await sh('ls /proc/$$/fd')
  assert.equal(
    stdout
      .toString()
      .trim()
      .split('\n')
      .filter((fd) => Number(fd) < 10)
      .join(' '),
    '0 1 2',
  )
})
