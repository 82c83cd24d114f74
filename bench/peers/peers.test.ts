import assert from 'node:assert/strict'
import { test } from 'node:test'
import { peers } from './peers.ts'
import { ratioText } from './ratio.ts'
import { podOf, polynet, whereabouts } from './ways.ts'

const ratios: [ours: number, theirs: number, want: string][] = [
  [9, 49, '1/5.4'],
  [49, 9, '5.44×'],
  [7, 7, '1.00×'],
  [0, 7, '-'],
  [7, 0, '-'],
]
for (const [ours, theirs, want] of ratios)
  test(`${ours} beside ${theirs} is ${want}`, () => assert.equal(ratioText(ours, theirs), want))

test('pods differ in their node, their namespace and the names of their networks alone', () => {
  const neutral = (text: string) =>
    text
      .replaceAll(/"n[123]"/g, '"node"')
      .replaceAll(/bench-[a-z]+/g, 'ns')
      .replaceAll(/(net|range)(\d)/g, 'net$2')
  const [ours, theirs] = [polynet, whereabouts].map((way) => neutral(JSON.stringify(podOf(way, 'pod', 4))))
  assert.equal(ours, theirs)
})

test('a row that does not exist is refused before anything is started', async () => {
  await assert.rejects(
    peers({ small: true, rows: ['attach', 'speed'] }),
    /there is no such row; idle, attach, pods/,
  )
})
