import assert from 'node:assert/strict'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { realClock } from '../../lib/clock.ts'
import { silentLog } from '../../lib/log.ts'
import { confText } from './conf-place.ts'
import { startInstallation } from './install.ts'

/** A host's file system of this test's own, and an agent that is ready when the test says so. */
function host(t: TestContext, confs: string[] = [], yielding = false) {
  const hostRoot = mkdtempSync(join(tmpdir(), 'polynet-host-'))
  t.after(() => rmSync(hostRoot, { recursive: true }))
  const at = (path: string) => join(hostRoot, path)
  const shim = at('shim')
  writeFileSync(shim, 'the shim')
  mkdirSync(at('etc/cni/net.d'), { recursive: true })
  for (const name of confs) writeFileSync(at(`etc/cni/net.d/${name}`), '{}')
  const told: string[] = []
  let ready = false
  let lacking: string | undefined
  const start = () => {
    const installation = startInstallation({
      shim,
      hostRoot,
      binDir: '/opt/cni/bin',
      confDir: '/etc/cni/net.d',
      removedMark: at('removed'),
      yielding,
      ready: () => ready,
      lacking: async () => lacking,
      tell: (reason, message) => told.push(`${reason}: ${message}`),
      clock: realClock,
      log: silentLog,
    })
    t.after(() => installation.close())
    return installation
  }
  const files = () => {
    const here = (dir: string) => {
      try {
        return readdirSync(at(dir)).sort()
      } catch {
        return []
      }
    }
    return [...here('opt/cni/bin'), ...here('etc/cni/net.d')].join(' ')
  }
  return {
    at,
    shim,
    told,
    start,
    files,
    ready: () => {
      ready = true
    },
    lacks: (what?: string) => {
      lacking = what
    },
    /** What is there once that is `want`, or after a while. */
    async settled(want: string) {
      for (const until = Date.now() + 30_000; files() !== want && Date.now() < until; )
        await realClock.sleep(10)
      assert.equal(files(), want)
    },
  }
}

const shims = 'polynet-cni polynet-ipam'

test('shim and conf come when the agent is ready, and not before', async (t) => {
  const h = host(t, ['10-flannel.conflist'])
  h.start()
  await realClock.sleep(200)
  assert.equal(h.files(), '10-flannel.conflist')
  h.ready()
  await h.settled(`${shims} 00-polynet.conflist 10-flannel.conflist`)
  assert.equal(readFileSync(h.at('etc/cni/net.d/00-polynet.conflist'), 'utf8'), confText)
  assert.equal(readFileSync(h.at('opt/cni/bin/polynet-ipam'), 'utf8'), 'the shim')
  assert.equal(statSync(h.at('opt/cni/bin/polynet-cni')).mode & 0o777, 0o755)
})

test('they come when pods that ask for nothing have a network, and stay when that goes', async (t) => {
  const h = host(t)
  h.ready()
  h.lacks('there is no default network')
  const first = h.start()
  const missing = async (want: string | undefined) => {
    for (const until = Date.now() + 30_000; first.missing() !== want && Date.now() < until; )
      await realClock.sleep(10)
    assert.equal(first.missing(), want)
  }
  await missing('there is no default network')
  await realClock.sleep(300)
  assert.equal(h.files(), '')
  h.lacks()
  await missing(undefined)
  assert.equal(h.files(), `${shims} 00-polynet.conflist`)
  await first.close()
  // An agent that starts again while there is none: pods of its node are asked of it as before.
  h.lacks('there is no default network')
  rmSync(h.at('opt/cni/bin/polynet-cni'))
  h.start()
  await h.settled(`${shims} 00-polynet.conflist`)
})

test('what is there as it should be is not written again; another release’s shim is replaced, not changed', async (t) => {
  const h = host(t)
  h.ready()
  await (async () => {
    const installation = h.start()
    await h.settled(`${shims} 00-polynet.conflist`)
    await installation.close()
  })()
  const inodes = () =>
    ['opt/cni/bin/polynet-cni', 'etc/cni/net.d/00-polynet.conflist'].map((path) => statSync(h.at(path)).ino)
  const before = inodes()
  const again = h.start()
  await realClock.sleep(300)
  assert.deepEqual(inodes(), before)
  await again.close()
  writeFileSync(h.shim, 'a newer shim')
  h.start()
  while (readFileSync(h.at('opt/cni/bin/polynet-cni'), 'utf8') !== 'a newer shim') await realClock.sleep(10)
  assert.notEqual(inodes()[0], before[0])
  assert.equal(inodes()[1], before[1])
})

test('a conf that comes before ours gives ours a lower name, and is told of once', async (t) => {
  const h = host(t)
  h.ready()
  const installation = h.start()
  await h.settled(`${shims} 00-polynet.conflist`)
  writeFileSync(h.at('etc/cni/net.d/00-multus.conf'), '{}')
  await h.settled(`${shims} 0-polynet.conflist 00-multus.conf`)
  assert.equal(installation.first(), true)
  // Multus writes its own again now and then.
  writeFileSync(h.at('00-multus.conf'), '{ }')
  renameSync(h.at('00-multus.conf'), h.at('etc/cni/net.d/00-multus.conf'))
  await realClock.sleep(300)
  assert.deepEqual(h.told, [
    "CNIConfBefore: keep the first place in /etc/cni/net.d: /etc/cni/net.d/00-multus.conf comes before polynet's usual name, so polynet's has a lower one; take the other away, or start agents with --yield to leave it the pods",
  ])
  rmSync(h.at('etc/cni/net.d/00-multus.conf'))
  await h.settled(`${shims} 00-polynet.conflist`)
})

test('an agent that yields stays where it is, and says what that means', async (t) => {
  const h = host(t, ['00-a.conf'], true)
  h.ready()
  const installation = h.start()
  await h.settled(`${shims} 00-a.conf 00-polynet.conflist`)
  while (h.told.length === 0) await realClock.sleep(10)
  assert.equal(installation.first(), false)
  assert.match(h.told[0] ?? '', /^CNIConfNotFirst: .* new pods do not get; take it away or rename it$/)
})

test('a conf that somebody takes away is put back', async (t) => {
  const h = host(t)
  h.ready()
  h.start()
  await h.settled(`${shims} 00-polynet.conflist`)
  rmSync(h.at('etc/cni/net.d/00-polynet.conflist'))
  await h.settled(`${shims} 00-polynet.conflist`)
})

test('removed, our conf makes way for the plugin that was there before', async (t) => {
  const h = host(t, ['10-flannel.conflist'])
  h.ready()
  const installation = h.start()
  await h.settled(`${shims} 00-polynet.conflist 10-flannel.conflist`)
  await installation.remove()
  assert.equal(h.files(), `${shims} 10-flannel.conflist`)
})

test('removed where there is no other plugin, conf and shim stay, and a mark; installed again, the mark goes', async (t) => {
  const h = host(t)
  h.ready()
  const installation = h.start()
  await h.settled(`${shims} 00-polynet.conflist`)
  await installation.remove()
  assert.equal(h.files(), `${shims} 00-polynet.conflist`)
  assert.equal(readdirSync(h.at('')).includes('removed'), true)
  h.start()
  while (readdirSync(h.at('')).includes('removed')) await realClock.sleep(10)
})

test('removed where there is only loopback besides, conf and shim stay: by that no pod has a network', async (t) => {
  const h = host(t)
  h.ready()
  const loopback = { cniVersion: '1.0.0', name: 'loopback', type: 'loopback' }
  const { cniVersion, name, type } = loopback
  for (const [file, conf] of Object.entries({
    '99-loopback.conf': loopback,
    '200-lo.conflist': { cniVersion, name, plugins: [{ type }] },
  }))
    writeFileSync(h.at(`etc/cni/net.d/${file}`), JSON.stringify(conf))
  const installation = h.start()
  await h.settled(`${shims} 00-polynet.conflist 200-lo.conflist 99-loopback.conf`)
  await installation.remove()
  assert.equal(h.files(), `${shims} 00-polynet.conflist 200-lo.conflist 99-loopback.conf`)
  assert.equal(readdirSync(h.at('')).includes('removed'), true)
})
