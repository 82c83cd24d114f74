import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Log, silentLog } from '../lib/log.ts'
import { raiseNeighbourTables } from './neighbour-tables.ts'

let sys = ''
before(() => {
  sys = mkdtempSync(join(tmpdir(), 'polynet-sys-'))
})
after(() => rmSync(sys, { recursive: true }))

const at = (family: string, n: number) => join(sys, `net/${family}/neigh/default/gc_thresh${n}`)
const both = ['ipv4', 'ipv6'] as const

function given(thresholds: string): void {
  for (const family of both) {
    mkdirSync(join(at(family, 1), '..'), { recursive: true })
    thresholds.split(' ').forEach((value, i) => {
      writeFileSync(at(family, i + 1), `${value}\n`)
    })
  }
}

const now = (family: string) => [1, 2, 3].map((n) => Number(readFileSync(at(family, n), 'utf8'))).join(' ')

const heard = () => {
  const lines: string[] = []
  const log: Log = {
    ...silentLog,
    info: (text) => lines.push(`info ${text}`),
    warn: (text) => lines.push(`warn ${text}`),
  }
  return { lines, log }
}

const cases: [before: string, after: string][] = [
  ['128 512 1024', '8192 32768 65536'],
  ['4096 8192 131072', '8192 32768 131072'],
  ['80000 90000 100000', '80000 90000 100000'],
]
for (const [before, after] of cases)
  test(`neighbour tables of ${before} become ${after}, in both families, and are told of if that is more`, () => {
    given(before)
    const { lines, log } = heard()
    raiseNeighbourTables(log, sys)
    assert.deepEqual(both.map(now), [after, after])
    const told = both.map((family) => `info raised the neighbour table of ${family}`)
    assert.deepEqual(lines, before === after ? [] : told)
    raiseNeighbourTables(log, sys)
    assert.deepEqual(lines, before === after ? [] : told)
  })

test('where they are not the namespace’s to set, it says who can', () => {
  const { lines, log } = heard()
  raiseNeighbourTables(log, join(sys, 'nowhere'))
  assert.deepEqual(
    lines,
    both.map(
      (family) =>
        `info the neighbour table of ${family} is set by the machine that this namespace is on; raise net.${family}.neigh.default.gc_thresh1, 2 and 3 there to 8192, 32768, 65536 where pods use Layer2 networks`,
    ),
  )
})

/** Runs it on this kernel, where `setUp` (a shell's words) has been done in namespaces of its own. */
function onThisKernel(setUp: string, flags: string[], directory = '/proc/sys'): string {
  const module = join(import.meta.dirname, 'neighbour-tables.ts')
  const script = `import(${JSON.stringify(module)}).then((m) => m.raiseNeighbourTables({ info: console.log, warn: console.log }, ${JSON.stringify(directory)}))`
  const run = spawnSync(
    'unshare',
    [...flags, 'sh', '-c', `${setUp} && exec "$@"`, 'sh', process.execPath, '-e', script],
    { encoding: 'utf8' },
  )
  return run.stdout + run.stderr
}

const skip = spawnSync('unshare', ['--mount', '--net', 'true']).status === 0 ? false : 'takes namespaces'

test('on this kernel a namespace of its own has no such settings', { skip }, () => {
  assert.match(onThisKernel('true', ['--net']), /^the neighbour table of ipv4 is set by the machine/)
})

test('on this kernel, settings that are mounted to be read only are left, with the remedy', { skip }, () => {
  given('128 40000 1024')
  const setUp = `mount --bind ${sys} ${sys} && mount -o remount,bind,ro ${sys}`
  const said = onThisKernel(setUp, ['--mount', '--propagation', 'private'], sys)
  assert.deepEqual(
    said.trim().split('\n'),
    both.map(
      (family) =>
        `raise the neighbour table of ${family}: net.${family}.neigh.default.gc_thresh3 cannot be written (EROFS); put net.${family}.neigh.default.gc_thresh3=65536, net.${family}.neigh.default.gc_thresh1=8192 into /etc/sysctl.d of this node, else its pods and the node itself may not find new neighbours`,
    ),
  )
  assert.equal(now('ipv4'), '128 40000 1024')
})
