import assert from 'node:assert/strict'
import { test } from 'node:test'
import { faultOf, type Status } from './status.ts'

const cases: [what: string, status: Partial<Status>, kind: string][] = [
  ['a reason counts', { code: 500, reason: 'Invalid' }, 'invalid'],
  ['without one the code does', { code: 409 }, 'exists'],
  [
    'an object that is too large for etcd will be so again',
    { code: 500, message: 'etcdserver: request is too large' },
    'invalid',
  ],
  ['what nobody knows may pass', { code: 599, reason: 'Tired' }, 'unavailable'],
]
for (const [what, status, kind] of cases)
  test(`a failed request: ${what}`, () => {
    const whole: Status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      code: 500,
      ...status,
    }
    assert.equal(faultOf(whole, 'patch').kind, kind)
  })
