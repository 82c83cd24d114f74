import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lease } from '../api/core.ts'
import { crds } from '../api/crds.ts'
import { resources } from '../api/resources.ts'
import { MemoryKube } from '../kube/memory/store.ts'
import type { Kube } from '../kube/port.ts'
import { ManualClock } from '../lib/clock.ts'
import { Fault } from '../lib/fault.ts'
import { silentLog } from '../lib/log.ts'
import { type Candidate, startCandidate } from './candidate.ts'
import { defaultNetworkOf } from './default-network.ts'

const lease = { namespace: 'polynet-system', name: 'polynet-controller' }

async function cluster() {
  const clock = new ManualClock()
  const kube = new MemoryKube({ clock, crds: crds() })
  await kube.create(resources.namespaces, {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'polynet-system' },
  })
  const lost: string[] = []
  const all: Candidate[] = []
  /** A controller that reaches the API server until it is cut off. */
  const candidate = (identity: string) => {
    let cut = false
    const answer = () => {
      if (cut) throw new Fault('unavailable', identity, 'cut off')
    }
    const reached = new Proxy(kube as Kube, {
      get: (target, key) => {
        const method = Reflect.get(target, key)
        return typeof method !== 'function'
          ? method
          : (...args: unknown[]) => {
              if (key === 'watch') return method.apply(target, args)
              answer()
              return method.apply(target, args)
            }
      },
    })
    const started = startCandidate({
      kube: reached,
      clock,
      log: silentLog,
      defaultNetwork: defaultNetworkOf(['10.244.0.0/16']),
      election: { lease, identity, clock, lost: (why) => lost.push(`${identity}: ${why}`) },
    })
    all.push(started)
    return Object.assign(started, {
      cutOff: () => {
        cut = true
      },
    })
  }
  const close = async () => {
    const closed = Promise.all(all.map((c) => c.close()))
    await clock.advance(60_000)
    await closed
  }
  const held = async () => (await kube.get<Lease>(resources.leases, lease)).spec
  return { clock, kube, candidate, lost, held, close }
}

const leading = (...candidates: Candidate[]) =>
  candidates.map((c) => (c.leads() ? 'leads' : 'waits')).join(' ')

test('of two controllers one works, and the other is ready to', async () => {
  const { clock, kube, candidate, held, close } = await cluster()
  const [a, b] = [candidate('a'), candidate('b')]
  assert.equal(b.unready(), 'the API server was not reached yet; see whether it runs')
  await clock.advance(60_000)
  assert.equal(leading(a, b), 'leads waits')
  assert.deepEqual([a.unready(), b.unready()], [undefined, undefined])
  const { renewTime: _, ...rest } = await held()
  assert.deepEqual(rest, {
    holderIdentity: 'a',
    leaseDurationSeconds: 15,
    acquireTime: '2026-01-01T00:00:00.000000Z',
    leaseTransitions: 0,
  })
  const { items } = await kube.list(resources.networks)
  assert.deepEqual(
    items.map((n) => [n.metadata.name, n.spec.subnets, n.status?.vni !== undefined]),
    [['default', [{ cidr: '10.244.0.0/16' }], true]],
  )
  await close()
})

test('when the one ends, the other takes over at its next try', async () => {
  const { clock, candidate, lost, close } = await cluster()
  const [a, b] = [candidate('a'), candidate('b')]
  await clock.advance(20_000)
  const closed = a.close()
  await clock.advance(2500)
  await closed
  assert.equal(leading(a, b), 'waits leads')
  assert.deepEqual(lost, [])
  await close()
})

test('when the one is cut off it stops after ten seconds, and the other begins after fifteen; never both', async () => {
  const { clock, candidate, lost, held, close } = await cluster()
  const [a, b] = [candidate('a'), candidate('b')]
  await clock.advance(20_000)
  a.cutOff()
  const seen: string[] = []
  for (let ms = 0; ms < 30_000; ms += 100) {
    await clock.advance(100)
    if (seen.at(-1) !== leading(a, b)) seen.push(leading(a, b))
  }
  assert.deepEqual(seen, ['leads waits', 'waits waits', 'waits leads'])
  assert.deepEqual(lost, ['a: no renewal succeeded within 10 s'])
  assert.equal((await held()).leaseTransitions, 1)
  await close()
})

test('who finds another in the lease stops at once', async () => {
  const { clock, kube, candidate, lost, close } = await cluster()
  const a = candidate('a')
  await clock.advance(20_000)
  const now = await kube.get<Lease>(resources.leases, lease)
  await kube.update(resources.leases, { ...now, spec: { ...now.spec, holderIdentity: 'c' } })
  await clock.advance(2500)
  assert.equal(leading(a), 'waits')
  assert.deepEqual(lost, ['a: c has it'])
  await close()
})

test('who finds its lease gone stops at once: another may have it', async () => {
  const { clock, kube, candidate, lost, close } = await cluster()
  const a = candidate('a')
  await clock.advance(20_000)
  await kube.delete(resources.leases, lease)
  await clock.advance(2500)
  assert.equal(leading(a), 'waits')
  assert.deepEqual(lost, ['a: nobody has it'])
  await close()
})

test('a default network that is there stays as it is', async () => {
  const { clock, kube, candidate, close } = await cluster()
  const there = defaultNetworkOf(['10.1.0.0/16'])
  await kube.create(resources.networks, there)
  candidate('a')
  await clock.advance(20_000)
  const { spec } = await kube.get(resources.networks, { namespace: 'polynet-system', name: 'default' })
  assert.deepEqual(spec.subnets, [{ cidr: '10.1.0.0/16' }])
  await close()
})
