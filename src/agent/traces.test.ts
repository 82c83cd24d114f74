import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CniRequest } from '../cni/request.ts'
import { ManualClock } from '../lib/clock.ts'
import { Traces } from './traces.ts'

const request = (pod: string, command: CniRequest['command'] = 'ADD', containerID = pod): CniRequest => ({
  program: 'polynet-cni',
  command,
  containerID,
  netns: '',
  ifName: 'eth0',
  args: { K8S_POD_NAMESPACE: 'default', K8S_POD_NAME: pod },
  path: [],
  config: { cniVersion: '1.1.0', name: 'polynet', type: 'polynet-cni' },
})

/** `command pod: steps`, of each. */
const textOf = (traces: Traces): string[] =>
  traces
    .list()
    .map(
      ({ command, pod, steps, ms, problem }) =>
        `${command} ${pod}: ${[...steps.map(({ did }) => did), ms === undefined ? '…' : (problem ?? 'answered')].join(', ')}`,
    )

test('a pod’s last ADD and its last DEL are kept, each with its steps', () => {
  const traces = new Traces(new ManualClock())
  for (const [sandbox, step] of [
    ['one', 'before'],
    ['two', 'kernel changed'],
  ] as const)
    for (const command of ['ADD', 'DEL'] as const) {
      const asked = request('web', command, sandbox)
      traces.begin(asked)
      traces.turn(asked)
      traces.did(sandbox, step)
      traces.end(asked)
    }
  assert.deepEqual(textOf(traces), ['ADD web: kernel changed, answered', 'DEL web: kernel changed, answered'])
})

test('steps are those of the request whose turn it is', () => {
  const traces = new Traces(new ManualClock())
  const [add, del] = [request('web', 'ADD'), request('web', 'DEL')]
  traces.begin(add)
  traces.turn(add)
  traces.begin(del)
  traces.did('web', 'addresses leased')
  assert.deepEqual(textOf(traces), ['ADD web: addresses leased, …'])
  traces.end(add, 'attach pod default/web: no room')
  traces.turn(del)
  traces.did('web', 'addresses released')
  traces.end(del)
  assert.deepEqual(textOf(traces), [
    'ADD web: addresses leased, attach pod default/web: no room',
    'DEL web: addresses released, answered',
  ])
})

test('what is asked of the agent otherwise is not kept', () => {
  const traces = new Traces(new ManualClock())
  for (const asked of [
    request('web', 'CHECK'),
    request('', 'STATUS'),
    { ...request('web'), program: 'polynet-ipam' },
  ]) {
    traces.begin(asked)
    traces.turn(asked)
    traces.did('web', 'kernel changed')
    traces.end(asked)
  }
  assert.deepEqual(traces.list(), [])
})

test('they take no more room than there is, and nothing that a terminal obeys', () => {
  const traces = new Traces(new ManualClock())
  const played = (pod: string, step: string, times: number) => {
    const asked = request(pod)
    traces.begin(asked)
    traces.turn(asked)
    for (let i = 0; i < times; i++) traces.did(pod, step)
    traces.end(asked)
  }
  for (let i = 0; i < 300; i++) played(`pod-${i}`, 'kernel changed', 3)
  assert.equal(traces.list().length, 256)
  assert.equal(traces.list().at(-1)?.pod, 'pod-299')
  for (let i = 0; i < 300; i++) played(`\u001b[2J${i}${'x'.repeat(10_000)}`, '\u001b]0;'.repeat(100), 60)
  const text = JSON.stringify(traces.list())
  assert.ok(text.length < 512 << 10, String(text.length))
  assert.ok(!text.includes('u001b'))
})
