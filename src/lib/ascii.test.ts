import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inAscii } from './ascii.ts'

const cases: [text: string, want: string][] = [
  ['"a b" ~', '"a b" ~'],
  ['cut…', 'cut…'],
  ['two\nlines', 'two\\u000alines'],
  // What JSON leaves as it is: the C1 form of a terminal's escape, right to left, one beyond 16 bits.
  ['\u009b31m', '\\u009b31m'],
  ['\u202etxt', '\\u202etxt'],
  ['😀', '\\ud83d\\ude00'],
]
for (const [text, want] of cases)
  test(`${JSON.stringify(text)} is ${want}`, () => {
    assert.equal(inAscii(text), want)
  })
