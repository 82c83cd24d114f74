import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../lib/fault.ts'
import { openJournal } from './file.ts'
import type { Journal } from './journal.ts'
import { memoryDisk, memoryJournal } from './memory.ts'

/** A place for one journal, opened again and again. */
interface Home {
  open(bootId?: string): Promise<Journal>
  remove(): Promise<void>
}

const kinds: [name: string, home: () => Promise<Home>][] = [
  [
    'in a file',
    async () => {
      const directory = await mkdtemp(join(tmpdir(), 'journal-'))
      return {
        open: (bootId = 'boot-1') => openJournal(join(directory, 'journal'), { bootId, fsync: false }),
        remove: () => rm(directory, { recursive: true }),
      }
    },
  ],
  [
    'in memory',
    async () => {
      const disk = memoryDisk()
      return { open: async (bootId = 'boot-1') => memoryJournal(disk, { bootId }), remove: async () => {} }
    },
  ],
]

const shown = (entries: ReadonlyMap<string, unknown>): string =>
  [...entries]
    .sort()
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(' ')

for (const [name, makeHome] of kinds) {
  const inHome = (title: string, body: (home: Home) => Promise<void>) =>
    test(`a journal ${name}: ${title}`, async () => {
      const home = await makeHome()
      await body(home).finally(() => home.remove())
    })

  inHome('what was put is there, now and after it was closed', async (home) => {
    const journal = await home.open()
    await journal.put('a', { ips: ['10.1.0.7/16'] })
    await journal.put('b', 1)
    await journal.put('b', 2)
    await journal.delete('c')
    await journal.put('d', null)
    await journal.delete('d')
    assert.equal(shown(journal.entries()), 'a={"ips":["10.1.0.7/16"]} b=2')
    assert.deepEqual(journal.get('a'), { ips: ['10.1.0.7/16'] })
    await journal.close()
    const again = await home.open()
    assert.equal(shown(again.entries()), 'a={"ips":["10.1.0.7/16"]} b=2')
    await again.close()
  })

  inHome('several changes are made at once, in their order', async (home) => {
    const journal = await home.open()
    await journal.write(
      new Map<string, unknown>([
        ['a', 1],
        ['b', 2],
      ]),
    )
    await Promise.all([
      journal.write(
        new Map<string, unknown>([
          ['a', undefined],
          ['c', 3],
        ]),
      ),
      journal.put('c', 4),
      journal.put('d', 5),
    ])
    assert.equal(shown(journal.entries()), 'b=2 c=4 d=5')
    await journal.close()
    const again = await home.open()
    assert.equal(shown(again.entries()), 'b=2 c=4 d=5')
    await again.close()
  })

  inHome(
    'fields are amended, now and after it was closed, and nothing comes of it where nothing is',
    async (home) => {
      const journal = await home.open()
      await journal.put('a', { state: 'adding', unreported: { ips: [] }, netns: '/a' })
      await Promise.all([
        journal.amend('a', { state: 'added' }),
        journal.amend('a', { unreported: null, state: 'deleting' }),
        journal.amend('b', { state: 'added' }),
      ])
      const amended = 'a={"state":"deleting","netns":"/a"}'
      assert.equal(shown(journal.entries()), amended)
      await journal.close()
      const again = await home.open()
      assert.equal(shown(again.entries()), amended)
      await again.close()
    },
  )

  inHome('a change that follows at once on another is not forgotten', async (home) => {
    const journal = await home.open()
    for (let i = 0; i < 50; i++) await journal.put('a', i)
    await journal.put('a', 0).then(() => journal.put('a', 'last'))
    assert.equal(journal.get('a'), 'last')
    await journal.close()
  })

  inHome('only one at a time has it open', async (home) => {
    const journal = await home.open()
    await assert.rejects(
      home.open(),
      (error) =>
        isFault(error, 'unavailable') &&
        error.message.includes('another agent has it open; stop that one first'),
    )
    await journal.close()
    await (await home.open()).close()
  })

  inHome('nothing is written once it is closed', async (home) => {
    const journal = await home.open()
    await journal.close()
    await assert.rejects(journal.put('a', 1), (error) => isFault(error, 'unavailable'))
  })

  inHome('after a boot, what was held is the previous boot’s until it is forgotten', async (home) => {
    const state = async (bootId: string, act?: (journal: Journal) => Promise<void>) => {
      const journal = await home.open(bootId)
      await act?.(journal)
      const text = `now: ${shown(journal.entries())} | before: ${shown(journal.previousBoot)}`
      await journal.close()
      return text
    }
    const story = [
      await state('boot-1', (j) => j.put('a', 1)),
      await state('boot-2'),
      await state('boot-2', (j) => j.put('b', 2)),
      // Booted again before anybody took it over.
      await state('boot-3'),
      await state('boot-3', (j) => j.put('b', 3)),
      await state('boot-3', (j) => j.forgetPreviousBoot('b')),
      await state('boot-3', (j) => j.forgetPreviousBoot()),
    ]
    assert.deepEqual(story, [
      'now: a=1 | before: ',
      'now:  | before: a=1',
      'now: b=2 | before: a=1',
      'now:  | before: a=1 b=2',
      'now: b=3 | before: a=1 b=2',
      'now: b=3 | before: a=1',
      'now: b=3 | before: ',
    ])
  })
}

test('a journal in memory: a full disk refuses, and nothing is lost', async () => {
  const disk = memoryDisk()
  const journal = memoryJournal(disk)
  await journal.put('a', 1)
  disk.full = () => true
  await assert.rejects(journal.put('b', 2), (error) => isFault(error, 'kernel'))
  disk.full = undefined
  await journal.put('c', 3)
  assert.equal(shown(journal.entries()), 'a=1 c=3')
})

test('a journal in memory: a crash loses only what was under way', async () => {
  const disk = memoryDisk()
  const journal = memoryJournal(disk)
  await journal.put('a', 1)
  const lost = journal.put('b', 2)
  journal.crash()
  await assert.rejects(lost)
  assert.equal(shown(memoryJournal(disk).entries()), 'a=1')
})
