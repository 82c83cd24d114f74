import assert from 'node:assert/strict'
import { test } from 'node:test'
import { valuesAt } from './jsonpath.ts'
import { durationText } from './table.ts'

const hour = 3600
const day = 24 * hour

// apimachinery/pkg/util/duration, HumanDuration
const durations: [number, string][] = [
  [-2, '<invalid>'],
  [-1, '0s'],
  [0, '0s'],
  [119, '119s'],
  [120, '2m'],
  [130, '2m10s'],
  [599, '9m59s'],
  [600, '10m'],
  [3 * hour - 1, '179m'],
  [3 * hour, '3h'],
  [3 * hour + 60, '3h1m'],
  [8 * hour + 60, '8h'],
  [47 * hour, '47h'],
  [2 * day, '2d'],
  [2 * day + hour, '2d1h'],
  [8 * day + hour, '8d'],
  [729 * day, '729d'],
  [730 * day, '2y'],
  [731 * day, '2y1d'],
  [9 * 365 * day, '9y'],
]
for (const [seconds, text] of durations)
  test(`${seconds} s are ${text}`, () => assert.equal(durationText(seconds), text))

const network = {
  metadata: { labels: { 'a.b/c': 'x' } },
  spec: { subnets: [{ cidr: '10.1.0.0/16' }, { cidr: 'fd00:10:1::/64' }], text: 'a]b' },
  status: {
    conditions: [
      { type: 'Ready', status: 'True', seen: 3 },
      { type: 'Other', status: 'False', seen: 4 },
    ],
  },
}

const paths: [string, unknown[]][] = [
  ['.spec.subnets[0].cidr', ['10.1.0.0/16']],
  ['.spec.subnets[-1].cidr', ['fd00:10:1::/64']],
  ['.spec.subnets[*].cidr', ['10.1.0.0/16', 'fd00:10:1::/64']],
  ['.metadata.labels.a\\.b/c', ['x']],
  [".metadata.labels['a.b/c']", ['x']],
  ['.status.conditions[?(@.type=="Ready")].status', ['True']],
  [".status.conditions[?(@.type=='Ready')].status", ['True']],
  ['.status.conditions[?(@.type!="Ready")].status', ['False']],
  ['.status.conditions[?(@.seen==4)].type', ['Other']],
  ['.status.nothing.here', []],
  ['.spec.subnets[7].cidr', []],
  ['.spec.text.length', []],
]
for (const [path, values] of paths)
  test(`${path} finds ${JSON.stringify(values)}`, () => assert.deepEqual(valuesAt(path, network), values))
