import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFirst, sourceRules } from './source-rules.ts'
import type { HeldAttachment } from './view.ts'

const held = (more: Partial<HeldAttachment>): HeldAttachment => ({
  networkUID: 'blue-uid',
  containerID: 'c1',
  interface: 'eth0',
  pod: 'tenant-a/web',
  netns: '/run/netns/web',
  addresses: [{ address: '10.1.0.7/16' }],
  index: 0,
  ...more,
})

test('an interface needs no rules where it is the first and has the default route', () => {
  const cases: [Partial<HeldAttachment>, boolean][] = [
    [{ defaultRoute: [] }, true],
    [{}, false],
    [{ index: 1 }, false],
    [{ index: 1, defaultRoute: [] }, false],
  ]
  for (const [more, first] of cases) assert.equal(isFirst(held(more)), first, JSON.stringify(more))
})

test('rules of a pod’s interfaces stand in the same order for each, and none is of two', () => {
  const all = Array.from({ length: 32 }, (_, index) =>
    sourceRules(held({ index })).rules.map((r) => r.priority),
  )
  assert.equal(new Set(all.flat()).size, 96)
  const [own = [], main = [], last = []] = [0, 1, 2].map((n) => all.map((of) => of[n] ?? 0))
  assert.ok(Math.max(...own) < Math.min(...main) && Math.max(...main) < Math.min(...last))
})
