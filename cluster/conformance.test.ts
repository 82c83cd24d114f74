import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pageWith } from './conformance-page.ts'
import { focusOn, logName, namesIn, outcomeIn } from './conformance-tests.ts'

const name = '[sig-network] DNS should work (well?) [LinuxOnly] [Conformance]'

test('the program’s own list gives each test once, in order', () => {
  const listed = `- testname: Late
  codename: '[sig-network] Services should serve [Conformance]'
- testname: Early
  codename: '[sig-network] DNS should provide DNS for a long
    list [Conformance]'
- testname: Early again
  codename: '[sig-network] Services should serve [Conformance]'
`
  assert.deepEqual(namesIn(listed), [
    '[sig-network] DNS should provide DNS for a long list [Conformance]',
    '[sig-network] Services should serve [Conformance]',
  ])
})

test('the focus on a test takes it alone', () => {
  const focus = new RegExp(focusOn(name))
  assert.ok(focus.test(`Kubernetes e2e suite ${name}`))
  assert.ok(!focus.test(`${name} and more`))
  assert.ok(!focus.test('s [sig-network] DNS should work (wel) [LinuxOnly] [Conformance]'))
})

test('a log is named for its test', () => assert.equal(logName(name), 'dns-should-work-well.log'))

const logs: [string, string, object][] = [
  [
    'one passed',
    'SUCCESS! -- 1 Passed | 0 Failed | 0 Pending | 7000 Skipped',
    { state: 'passed', seconds: 2 },
  ],
  [
    'none ran',
    'SUCCESS! -- 0 Passed | 0 Failed | 0 Pending | 7001 Skipped',
    { state: 'skipped', seconds: 2 },
  ],
  [
    'one failed',
    '  [FAILED] in [It] - dns.go:7\n• [FAILED] [2 seconds]\n  [FAILED] timed out\nFAIL! -- 0 Passed | 1 Failed | 0 Pending | 7000 Skipped',
    { state: 'failed', seconds: 2, why: 'timed out', log: 'x' },
  ],
  [
    'the program ended before',
    'flag provided but not defined: -x\n',
    { state: 'failed', seconds: 2, why: 'flag provided but not defined: -x', log: 'x' },
  ],
]
for (const [title, log, outcome] of logs)
  test(`what a log says: ${title}`, () => assert.deepEqual(outcomeIn(log, 2, 'x'), outcome))

test('the page keeps what people wrote around the list', () => {
  const page =
    '# Title\n\nWords.\n\n<!-- begin: npm run test:conformance -->\nold\n<!-- end -->\n\nMore words.\n'
  const run = {
    kubernetes: '1.37.2',
    containerd: '2.4.2',
    nodes: 3,
    passed: [name, '[sig-network] A [Conformance]'],
  }
  const want = `# Title

Words.

<!-- begin: npm run test:conformance -->

Kubernetes 1.37.2, containerd 2.4.2, kube-proxy by nftables, 3 nodes. All 2 tests passed:

- A
- DNS should work (well?) \\[LinuxOnly]

<!-- end -->

More words.
`
  assert.equal(pageWith(page, run), want)
  assert.equal(pageWith(want, run), want)
})
