import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { wayIn } from '../lab/enter.ts'
import { textOf } from './figures.ts'
import { missingReference } from './reference.ts'

const run = promisify(execFile)
const bench = async (...args: string[]): Promise<string> =>
  (await run(process.execPath, [join(import.meta.dirname, 'main.ts'), ...args])).stdout

const way = wayIn()
const noKernel = way.how === 'none' && way.why

const profiles = mkdtempSync(join(tmpdir(), 'polynet-profiles-'))
after(() => rmSync(profiles, { recursive: true, force: true }))

/** Each in its smallest size: that it works, not how fast. */
const benches: [name: string, skip: string | false | undefined][] = [
  ['attach', noKernel || missingReference()],
  ['memory', noKernel],
  ['scale', false],
  ['datapath', noKernel],
  ['packets', noKernel || (spawnSync('cc', ['--version']).status === 0 ? false : 'no C compiler')],
  ['addresses', false],
]

for (const [name, skip] of benches)
  test(`${name} says on what it was measured, and what it found`, { skip: skip ?? false }, async () => {
    const more = name === 'attach' ? ['--profile', profiles] : []
    const { machine, figures, text } = JSON.parse(await bench(name, '--small', '--json', ...more))
    if (name === 'attach')
      assert.deepEqual(readdirSync(profiles).sort(), ['attach-many.cpuprofile', 'attach.cpuprofile'])
    assert.match(machine.node, /^v\d+\./)
    if (figures)
      for (const { columns, rows } of figures)
        for (const row of rows) assert.equal(row.length, columns.length)
    else assert.match(text, /\d/)
  })

test('every bench is in the help', async () => {
  const help = await bench('--help')
  for (const [name, skip] of benches)
    if (skip !== 'there is none') assert.match(help, new RegExp(`^  ${name} `, 'm'))
})

test('figures are a table with as many digits as count', () => {
  const rows = [
    ['ADD', 1, 0.1234],
    ['ADD', 4, 12.345],
    ['DEL', 200, 123.45],
  ]
  const figures = { title: 'Time', columns: ['command', 'networks', 'ms'], rows, notes: ['Milliseconds.'] }
  assert.equal(
    textOf(figures),
    [
      'Time',
      '',
      'command   networks   ms',
      'ADD       1          0.12',
      'ADD       4          12.3',
      'DEL       200        123',
      '',
      'Milliseconds.',
    ].join('\n'),
  )
})
