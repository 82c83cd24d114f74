import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { isFault } from '../../lib/fault.ts'
import { silentLog } from '../../lib/log.ts'
import { openJournal, salvageJournal } from './file.ts'

const options = { bootId: 'boot-1', fsync: false }

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'journal-'))
  await body(directory).finally(() => rm(directory, { recursive: true }))
}

const keysOf = async (path: string): Promise<string> => {
  const journal = await openJournal(path, options)
  const keys = [...journal.entries().keys()].join(' ')
  await journal.close()
  return keys
}

test('whatever byte a crash stops at, what was written before is there and what was under way is not', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const journal = await openJournal(path, options)
    const sizes: number[] = [(await stat(path)).size]
    for (const key of ['a', 'b', 'c']) {
      await journal.put(key, { ips: ['10.1.0.7/16'] })
      sizes.push((await stat(path)).size)
    }
    await journal.close()
    const torn = join(directory, 'torn')
    for (let size = sizes[0]!; size <= sizes[3]!; size++) {
      await copyFile(path, torn)
      await truncate(torn, size)
      const whole = ['a', 'b', 'c'].filter((_, i) => sizes[i + 1]! <= size).join(' ')
      assert.equal(await keysOf(torn), whole, `cut at ${size}`)
      // It was cut off, so that what is written next is found.
      const again = await openJournal(torn, options)
      await again.put('z', 1)
      await again.close()
      assert.equal(await keysOf(torn), `${whole} z`.trim(), `after writing to the one cut at ${size}`)
    }
  }))

test('a tail of zeros or of garbage, as a power cut leaves it, is cut off', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const journal = await openJournal(path, options)
    await journal.put('a', 1)
    await journal.close()
    const good = await readFile(path)
    for (const tail of [
      Buffer.alloc(4096),
      Buffer.alloc(300, 0xa5),
      Buffer.from([5, 0, 0, 0, 1, 2, 3, 4, 5]),
    ]) {
      await writeFile(path, Buffer.concat([good, tail]))
      assert.equal(await keysOf(path), 'a')
    }
  }))

test('damage before the end is refused: addresses that are held might be given away', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const journal = await openJournal(path, options)
    const begin = (await stat(path)).size
    for (const key of ['a', 'b', 'c']) await journal.put(key, 1)
    await journal.close()
    const good = await readFile(path)
    // In the record's length, in its checksum, in its text.
    for (const at of [0, 2, 5, 10]) {
      const bytes = Buffer.from(good)
      bytes[begin + at]! ^= 1
      await writeFile(path, bytes)
      await assert.rejects(
        openJournal(path, options),
        (error) => isFault(error, 'kernel') && error.message.includes(`it is damaged at byte ${begin}`),
        `byte ${at}`,
      )
    }
  }))

test('whoever takes Polynet off a node hears all that whole records say, of the boot before too, and of damage', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    assert.deepEqual(await salvageJournal(path), { entries: new Map() })
    await writeFile(path, 'polynet-')
    assert.deepEqual(await salvageJournal(path), { entries: new Map() })
    for (const [bootId, key] of [
      ['one', 'a'],
      ['two', 'b'],
      ['two', 'c'],
    ] as const) {
      const journal = await openJournal(path, { bootId })
      await journal.put(key, key)
      await journal.close()
    }
    const said = async () => {
      const { entries, damage } = await salvageJournal(path)
      return `${[...entries.keys()].sort()} ${damage ?? ''}`
    }
    assert.equal(await said(), 'a,b,c ')
    const bytes = await readFile(path)
    bytes[bytes.lastIndexOf('"b"')]! ^= 1
    await writeFile(path, bytes)
    assert.match(await said(), /^a,c it is damaged at byte \d+, and what follows cannot be trusted$/)
    await writeFile(path, bytes.fill(0, 0, 4))
    assert.equal(await said(), 'a,c the file is no journal of Polynet')
    await rm(path)
    await mkdir(path)
    assert.match(await said(), /^ EISDIR/)
  }))

test('damage of a boot before is cut off, what stands before it is of that boot, and the file is kept aside', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const before = await openJournal(path, { ...options, bootId: 'boot-0' })
    for (const key of ['a', 'b']) await before.put(key, 1)
    const damaged = (await stat(path)).size
    for (const key of ['c', 'd']) await before.put(key, 1)
    await before.close()
    const bytes = await readFile(path)
    bytes[damaged + 10]! ^= 1
    await writeFile(path, bytes)
    const warnings: string[] = []
    const log = { ...silentLog, warn: (message: string) => warnings.push(message) }
    const journal = await openJournal(path, { ...options, log })
    assert.deepEqual([[...journal.previousBoot.keys()], [...journal.entries().keys()]], [['a', 'b'], []])
    assert.match(warnings.join(), new RegExp(`damaged at byte ${damaged}, .* ${path}.damaged$`))
    assert.deepEqual(await readFile(`${path}.damaged`), bytes)
    assert.equal((await stat(`${path}.damaged`)).mode & 0o777, 0o600)
    await journal.put('now', 1)
    await journal.close()
    assert.equal(await keysOf(path), 'now')
  }))

test('wherever it is damaged, what is held since the boot is never taken for that of the boot before', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const before = await openJournal(path, { ...options, bootId: 'boot-0' })
    for (const key of ['a', 'b']) await before.put(key, 1)
    await before.close()
    const old = await readFile(path)
    const journal = await openJournal(path, options)
    const begin = (await stat(path)).size
    for (const key of ['c', 'd']) await journal.put(key, 1)
    await journal.close()
    const good = await readFile(path)
    const held = good.subarray(begin)
    const first = good.subarray(0, begin)
    const refused = async (bytes: Buffer, what: string) => {
      await writeFile(path, bytes)
      await assert.rejects(openJournal(path, options), /it is damaged at byte/, what)
    }
    for (let at = 18; at < begin; at++) {
      const bytes = Buffer.concat([first, held])
      bytes[at]! ^= 1
      await refused(bytes, `byte ${at}`)
    }
    // As where the disk was full when the boot was noted, so that it could not be written anew.
    const behind = Buffer.concat([old, first.subarray(18), held])
    behind[old.length - 3]! ^= 1
    await refused(behind, 'before the boot is noted')
  }))

test('a file that is something else is refused and left alone', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    await writeFile(path, 'a letter to a friend, and not short')
    await assert.rejects(openJournal(path, options), /is no journal of Polynet; move it away/)
    assert.equal(await readFile(path, 'utf8'), 'a letter to a friend, and not short')
  }))

test('a file in which nothing was ever amended is read, and written anew', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const journal = await openJournal(path, options)
    await journal.put('a', { n: 1 })
    await journal.close()
    const bytes = await readFile(path)
    await writeFile(path, Buffer.concat([Buffer.from('polynet-journal/1\n'), bytes.subarray(18)]))
    const newer = await openJournal(path, options)
    await newer.amend('a', { n: 2 })
    await newer.close()
    assert.equal((await readFile(path, 'utf8')).slice(0, 18), 'polynet-journal/2\n')
    const again = await openJournal(path, options)
    assert.deepEqual(again.get('a'), { n: 2 })
    await again.close()
  }))

test('a directory that does not exist is a fault with its remedy', () =>
  assert.rejects(
    openJournal('/nowhere/at/all/journal', options),
    (error) => isFault(error, 'kernel') && error.message.includes('ENOENT'),
  ))

test('the file stays small however much is written, and the previous boot’s entries stay in it', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    const before = await openJournal(path, { ...options, bootId: 'boot-0' })
    await before.put('old', 1)
    await before.close()
    const journal = await openJournal(path, options)
    await journal.put('first', 1)
    const value = { text: 'x'.repeat(2000) }
    for (let i = 0; i < 2000; i++) await journal.put(`key-${i % 7}`, { i, ...value })
    assert.ok((await stat(path)).size < 1_200_000, `${(await stat(path)).size} bytes`)
    await assert.rejects(openJournal(path, options), (error) => isFault(error, 'unavailable'))
    await journal.close()
    const again = await openJournal(path, options)
    assert.equal(again.entries().size, 8)
    assert.equal((again.get('key-6') as { i: number }).i, 1999 - ((1999 - 6) % 7))
    assert.deepEqual([...again.previousBoot], [['old', 1]])
    await again.close()
  }))

const writer = `
  import { openJournal } from ${JSON.stringify(new URL('./file.ts', import.meta.url).href)}
  const journal = await openJournal(process.argv[1], { bootId: 'boot-1', fsync: process.argv[3] !== 'no-fsync' })
  let n = Number(process.argv[2])
  const lane = async (name) => {
    for (;;) {
      const mine = n++
      try {
        await journal.write(new Map([['k' + mine % 97, mine], ['twin' + mine % 97, mine], ['pad', 'x'.repeat(mine % 3000)]]))
        process.stdout.write('+' + mine + '\\n')
      } catch (error) {
        process.stdout.write('!' + error.message + '\\n')
        return
      }
    }
  }
  process.stdout.write('ready\\n')
  await Promise.all(['a', 'b', 'c', 'd'].map(lane))
`

const startWriter = (path: string, from: number): ChildProcess =>
  spawn(process.execPath, ['--input-type=module-typescript', '-e', writer, path, String(from), 'no-fsync'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })

test('killed at any moment, it has every change that was answered, and no change by half', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'journal')
    let next = 0
    for (let round = 0; round < 8; round++) {
      const child = startWriter(path, next)
      const answered = new Map<string, number>()
      let ready = false
      const lines = createInterface({ input: child.stdout! })
      lines.on('line', (line) => {
        ready ||= line === 'ready'
        if (!line.startsWith('+')) return
        const n = Number(line.slice(1))
        answered.set(`k${n % 97}`, Math.max(n, answered.get(`k${n % 97}`) ?? 0))
        next = Math.max(next, n + 1)
      })
      const ended = once(lines, 'close')
      while (!ready) await new Promise((resolve) => setTimeout(resolve, 5))
      await new Promise((resolve) => setTimeout(resolve, 20 + round * 23))
      child.kill('SIGKILL')
      await ended
      const journal = await openJournal(path, options)
      for (const [key, n] of answered)
        assert.ok((journal.get(key) as number) >= n, `round ${round}: ${key}=${n}`)
      for (const [key, value] of journal.entries())
        if (key.startsWith('k'))
          assert.equal(journal.get(key.replace('k', 'twin')), value, `round ${round}: ${key}`)
      next = Math.max(next, ...[...journal.entries()].map(([, v]) => (typeof v === 'number' ? v + 1 : 0)))
      await journal.close()
      assert.ok(answered.size > 0, `round ${round}: nothing was answered`)
    }
  }))

const smallDisk = ['unshare', '--user', '--map-root-user', '--mount']
const canMount =
  spawnSync(smallDisk[0]!, [...smallDisk.slice(1), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

test(
  'on a full disk a change is refused with the remedy, and everything before it stays',
  { skip: canMount ? false : 'no user namespaces to mount a small disk in' },
  () =>
    inDirectory(async (directory) => {
      const script = `
        import { openJournal } from ${JSON.stringify(new URL('./file.ts', import.meta.url).href)}
        import { statSync, unlinkSync, writeFileSync } from 'node:fs'
        const journal = await openJournal('journal', { bootId: 'boot-1' })
        writeFileSync('ballast', Buffer.alloc(40 * 1024))
        let n = 0
        let fault
        while (!fault) await journal.put('k' + n, 'x'.repeat(1500)).then(() => n++, (error) => { fault = error })
        const refused = [fault.kind, fault.problem, journal.entries().size === n]
        unlinkSync('ballast')
        await journal.put('after', 1)
        await journal.close()
        const again = await openJournal('journal', { bootId: 'boot-1' })
        console.log(JSON.stringify([...refused, n > 5, again.entries().size === n + 1, again.get('after')]))
      `
      const command = `mount -t tmpfs -o size=128k tmpfs "$0" && cd "$0" && exec "$@"`
      const node = [process.execPath, '--input-type=module-typescript', '-e', script]
      const run = spawnSync(smallDisk[0]!, [...smallDisk.slice(1), 'sh', '-c', command, directory, ...node])
      assert.equal(run.stderr.toString(), '')
      assert.deepEqual(JSON.parse(run.stdout.toString()), [
        'kernel',
        'the disk is full; make room, then it goes on by itself',
        ...[true, true, true, 1],
      ])
    }),
)
