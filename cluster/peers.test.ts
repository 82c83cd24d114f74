import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'

interface Figures {
  title: string
  columns: string[]
  rows: (string | number)[][]
  failed?: true
}

/** In its smallest size: that it works and what it promises, not how fast. */
test('every row beside the peers finds figures, and Polynet loses nothing in them', {
  timeout: 1_500_000,
}, async () => {
  const bench = join(import.meta.dirname, '../bench/main.ts')
  const child = spawn(process.execPath, [bench, 'peers', '--small', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise((resolve) => child.once('close', resolve))
  const [said, complaints] = await Promise.all([text(child.stdout), text(child.stderr)])
  assert.notEqual(said, '', complaints)
  for (const [row] of complaints.matchAll(/^\w+ took .*$/gm)) console.log(row)
  const { figures } = JSON.parse(said) as { figures: Figures[] }
  const failed = figures.filter((each) => each.failed).map(({ title, rows }) => `${title}: ${rows}`)
  assert.deepEqual(failed, [])
  for (const { title, columns, rows } of figures)
    for (const row of rows) assert.equal(row.length, columns.length, title)
  const bad = ['doubled', 'lost', 'leaked', 'left', 'other contradictions', 'never']
  const lost = figures.flatMap(({ title, columns, rows }) =>
    rows
      .filter(([by]) => String(by).startsWith('Polynet'))
      .flatMap((row) =>
        columns.flatMap((column, i) =>
          bad.includes(column) && row[i] !== 0 ? [`${title}: ${row[0]}: ${row[i]} ${column}`] : [],
        ),
      ),
  )
  assert.deepEqual(lost, [])
  assert.equal(await ended, 0)
})
