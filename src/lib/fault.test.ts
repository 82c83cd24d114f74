import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answers, asFault, Fault, isFault, sentence } from './fault.ts'

test('a fault reads as what was being done, what is wrong and what to do', () => {
  const fault = new Fault('exhausted', 'lease an address for default/web-1', 'network blue is full; widen it')
  assert.equal(String(fault), 'Fault: lease an address for default/web-1: network blue is full; widen it')
})

test('a fault stays the fault it is, and an error nobody foresaw is worth another try', () => {
  const fault = new Fault('missing', 'get pod', 'there is none')
  assert.equal(asFault(fault, 'attach'), fault)
  const cause = new TypeError('x is undefined')
  const wrapped = asFault(cause, 'attach')
  assert.deepEqual(
    [wrapped.message, wrapped.kind, wrapped.cause, asFault('gone', 'attach').message],
    ['attach: x is undefined', 'unavailable', cause, 'attach: gone'],
  )
})

test('a fault is told apart by its kinds', () => {
  const fault = new Fault('conflict', 'update', 'somebody was faster')
  assert.deepEqual(
    [
      isFault(fault),
      isFault(fault, 'missing', 'conflict'),
      isFault(fault, 'missing'),
      isFault(new Error('no')),
    ],
    [true, true, false, false],
  )
})

test('what is worth another try is told to a runtime as "try again later", all else as invalid', () => {
  // `exists` is no fault of the network configuration
  for (const [kind, { retry, cni }] of Object.entries(answers))
    if (kind !== 'exists') assert.equal(cni, retry ? 11 : 7, kind)
})

test('problems read as one sentence, each led by its path', () =>
  assert.equal(
    sentence([
      { path: 'spec.mtu', problem: 'is missing' },
      { path: '', problem: 'is not a Network' },
    ]),
    'spec.mtu: is missing; is not a Network',
  ))
