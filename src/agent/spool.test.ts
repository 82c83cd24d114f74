import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { frameOf } from '../cni/frame.ts'
import { ManualClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import type { Agent } from './agent.ts'
import { startSpool } from './spool.ts'

const request = (command: string, containerID: string) =>
  frameOf(
    'polynet-cni',
    { CNI_COMMAND: command, CNI_CONTAINERID: containerID, CNI_NETNS: '', CNI_IFNAME: 'eth0' },
    Buffer.from('{"cniVersion":"1.0.0","name":"pods","type":"polynet-cni"}'),
  )

/** A spool with these DELs, worked off by an agent that answers as `answer` says: why it fails, if it does. */
async function spool(
  t: TestContext,
  ids: string[],
  answer: (containerID: string) => Promise<string | undefined>,
) {
  const dir = await mkdtemp(join(tmpdir(), 'polynet-spool-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const put = (id: string, frame: Uint8Array = request('DEL', id)) => writeFile(join(dir, id), frame)
  for (const id of ids) await put(id)
  const clock = new ManualClock()
  const begun = clock.now()
  const second = () => (clock.now() - begun) / 1000
  const tries: { id: string; at: number }[] = []
  const warnings: string[] = []
  const state = { ready: true }
  const handle: Agent['handle'] = async ({ containerID }, isTold) => {
    assert.ok(isTold, 'it would be logged twice')
    tries.push({ id: containerID, at: second() })
    const why = await answer(containerID)
    return why === undefined ? { exit: 0, stdout: '' } : { exit: 1, stdout: why }
  }
  const stop = startSpool({
    ...{ dir, handle, clock },
    ready: () => state.ready,
    log: {
      ...silentLog,
      warn: (message, fields) =>
        warnings.push(`${second()}: ${message} ${(fields as { stdout?: string }).stdout ?? ''}`),
    },
  })
  t.after(stop)
  /** Lets seconds pass, in each of which the disk has time for what is due. */
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      for (let turns = 0; turns < 40; turns++) await readdir(dir)
      await clock.advance(1000)
    }
    for (let turns = 0; turns < 40; turns++) await readdir(dir)
  }
  return { dir, put, clock, tries, warnings, state, stop, pass }
}

test('a DEL that keeps failing is tried ever more slowly, at least every half a minute, and told when why is new', async (t) => {
  let why: string | undefined = 'the switch is on fire'
  const { dir, tries, warnings, pass } = await spool(t, ['a'], async () => why)
  await pass(100)
  const pauses = tries.map(({ at }, i) => at - (tries[i - 1]?.at ?? 0)).slice(1)
  const atLeast = [1, 2, 4, 8, 16, 30, 30, 30]
  for (const [i, pause] of pauses.entries())
    assert.ok(pause >= (atLeast[i] ?? 30) && pause <= 32, `${pauses.join(' ')}`)
  assert.ok(pauses.length >= 6, `${pauses.join(' ')}`)
  const failed = 'work off the spool: a DEL failed; it stays there and is tried again'
  assert.deepEqual(warnings, [`0: ${failed} the switch is on fire`])
  why = 'the switch is gone'
  await pass(70)
  assert.deepEqual(
    warnings.slice(1).map((line) => line.replace(/^\d+: /, '')),
    [`${failed} the switch is gone`],
  )
  why = undefined
  await pass(35)
  assert.deepEqual(await readdir(dir), [])
  const last = tries.length
  await pass(35)
  assert.equal(tries.length, last)
})

test('a DEL that hangs and one that fails hold up no other, and are not played twice at once', async (t) => {
  const free = Promise.withResolvers<undefined>()
  const { dir, put, tries, pass } = await spool(t, ['a', 'b', 'c'], async (id) =>
    id === 'a' ? free.promise : id === 'b' ? 'it will not let go' : undefined,
  )
  await pass(1)
  assert.deepEqual((await readdir(dir)).sort(), ['a', 'b'])
  await put('d')
  await pass(3)
  assert.deepEqual((await readdir(dir)).sort(), ['a', 'b'])
  await pass(60)
  assert.equal(tries.filter(({ id }) => id === 'a').length, 1)
  free.resolve(undefined)
  await pass(1)
  assert.deepEqual(await readdir(dir), ['b'])
})

test('of many that hang eight are played at once, the oldest', async (t) => {
  const free = Promise.withResolvers<undefined>()
  const ids = Array.from({ length: 12 }, (_, i) => `pod-${10 + i}`)
  const { dir, tries, pass } = await spool(t, ids, () => free.promise)
  await pass(5)
  assert.deepEqual(tries.map(({ id }) => id).sort(), ids.slice(0, 8))
  free.resolve(undefined)
  await pass(2)
  assert.deepEqual([tries.length, await readdir(dir)], [12, []])
})

test('what is no DEL is dropped, half-written files are left alone', async (t) => {
  const { dir, put, tries, warnings, pass } = await spool(t, ['1'], async () => undefined)
  await put('2', request('ADD', '2'))
  await put('3', Buffer.from('garbage'))
  await put('.4', request('DEL', '4'))
  await pass(2)
  assert.deepEqual([tries.map(({ id }) => id), await readdir(dir)], [['1'], ['.4']])
  assert.equal(warnings.filter((line) => line.includes('not a DEL; dropped')).length, 2)
})

test('nothing is played while the agent is not ready, nor once the spool is stopped', async (t) => {
  const { dir, put, tries, state, stop, pass } = await spool(t, ['a'], async () => undefined)
  await pass(1)
  state.ready = false
  await put('b')
  await pass(5)
  assert.deepEqual(await readdir(dir), ['b'])
  state.ready = true
  await pass(2)
  assert.deepEqual(await readdir(dir), [])
  stop()
  await put('c')
  await pass(5)
  assert.deepEqual([tries.map(({ id }) => id), await readdir(dir)], [['a', 'b'], ['c']])
})

test('a file that cannot be removed is told once and keeps no other DEL from being played', async (t) => {
  const { dir, tries, warnings, pass } = await spool(t, ['a', 'b'], async (id) => {
    if (id !== 'a') return undefined
    // As `rm` sees it: something there that it does not remove.
    await rename(join(dir, 'a'), join(dir, '.a'))
    await mkdir(join(dir, 'a'))
    return undefined
  })
  for (let i = 0; i < 40; i++) {
    await pass(i === 0 ? 0 : 1)
    if (!(await readdir(dir)).includes('.a')) continue
    await rmdir(join(dir, 'a'))
    await rename(join(dir, '.a'), join(dir, 'a'))
  }
  assert.deepEqual(await readdir(dir), ['a'])
  assert.ok(tries.length > 4, `${tries.length}`)
  assert.equal(warnings.length, 1, warnings.join('\n'))
  assert.match(warnings[0]!, /work off the spool: .*; check the disk and the directory's rights/)
})
