import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sentence } from './fault.ts'
import {
  fieldsHold,
  holds,
  parseFields,
  parseLabels,
  parseSelector,
  type Selector,
  selects,
} from './selector.ts'

const node = { 'kubernetes.io/hostname': 'n1', zone: 'east', rack: '7', empty: '' }

const texts: [text: string, matches: boolean | string][] = [
  ['', true],
  ['zone=east', true],
  ['zone==east', true],
  ['zone=west', false],
  ['zone!=west', true],
  // a label that is absent is not any value
  ['disk!=ssd', true],
  ['disk=ssd', false],
  ['disk=', false],
  ['empty=', true],
  ['zone in (west, east)', true],
  ['zone in (west,north)', false],
  ['zone notin (west,north)', true],
  ['disk notin (ssd)', true],
  ['zone', true],
  ['!zone', false],
  ['!disk', true],
  ['disk', false],
  ['rack>6', true],
  ['rack<7', false],
  ['zone>1', false],
  ['zone=east,kubernetes.io/hostname in (n1,n2),!disk', true],
  ['zone=east,rack=8', false],
  // no inherited property is a label
  ['toString', false],
  ['zone=east,', '"" is not a label requirement; write a=b, a!=b, a in (b,c), a or !a'],
  ['zone in east', '"zone in east" is not a label requirement; write a=b, a!=b, a in (b,c), a or !a'],
  ['zone=a=b', '"zone=a=b" is not a label requirement; write a=b, a!=b, a in (b,c), a or !a'],
  ['rack>x', 'Gt needs one integer'],
  ['-a=b', '"-a" is not a label key; write [domain/]name, the name at most 63 of A-Z a-z 0-9 - _ .'],
]

for (const [text, want] of texts)
  test(`-l '${text}' ${typeof want === 'string' ? 'is refused' : want ? 'matches' : 'does not match'}`, () => {
    const parsed = parseLabels(text)
    assert.equal(parsed.ok ? holds(parsed.value, node) : sentence(parsed.problems), want)
  })

const objects: [selector: Selector, matches: boolean][] = [
  [{}, true],
  [{ matchLabels: { zone: 'east' } }, true],
  [{ matchLabels: { zone: 'east', rack: '8' } }, false],
  [{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['east', 'west'] }] }, true],
  [{ matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['east'] }] }, false],
  [{ matchExpressions: [{ key: 'disk', operator: 'DoesNotExist' }] }, true],
  [{ matchExpressions: [{ key: 'zone', operator: 'Exists' }] }, true],
  [{ matchExpressions: [{ key: 'rack', operator: 'Gt', values: ['6'] }] }, true],
  // what cannot be understood selects nothing
  [{ matchExpressions: [{ key: 'zone', operator: 'Like', values: ['e*'] }] }, false],
]

for (const [selector, want] of objects)
  test(`${JSON.stringify(selector)} ${want ? 'selects' : 'does not select'} the node`, () =>
    assert.equal(selects(selector, node), want))

test('a selector object is refused with everything that is wrong with it', () => {
  const parsed = parseSelector({
    matchLabels: { 'a b': 'c', zone: 'east!' },
    matchExpressions: [
      { key: 'zone', operator: 'In' },
      { key: 'zone', operator: 'Exists', values: ['x'] },
      { key: 'zone', operator: 'Like', values: ['x'] },
    ],
  })
  assert.deepEqual(parsed.ok ? [] : parsed.problems.map((p) => sentence([p])), [
    'matchLabels["a b"]: "a b" is not a label key; write [domain/]name, the name at most 63 of A-Z a-z 0-9 - _ .',
    'matchLabels[zone]: "east!" is not a label value; write at most 63 of A-Z a-z 0-9 - _ .',
    'matchExpressions[0]: In needs values; name at least one',
    'matchExpressions[1]: Exists takes no values; leave them out, or use In',
    'matchExpressions[2]: "Like" is not an operator; use In, NotIn, Exists or DoesNotExist',
  ])
})

const pod = { metadata: { name: 'web-1', namespace: 'default' }, spec: { nodeName: 'n1', x: 'a,b=c' } }

const fields: [text: string, matches: boolean | string][] = [
  ['', true],
  ['spec.nodeName=n1', true],
  ['spec.nodeName==n1', true],
  ['spec.nodeName!=n1', false],
  ['spec.nodeName=n1,metadata.name=web-1', true],
  ['spec.nodeName=n1,metadata.name=web-2', false],
  ['status.phase=', true],
  ['status.phase!=Running', true],
  ['spec.x=a\\,b\\=c', true],
  ['spec.nodeName', '"spec.nodeName" is not a field requirement; write a.b=c or a.b!=c'],
]

for (const [text, want] of fields)
  test(`--field-selector '${text}' ${typeof want === 'string' ? 'is refused' : want ? 'matches' : 'does not match'}`, () => {
    const parsed = parseFields(text)
    assert.equal(parsed.ok ? fieldsHold(parsed.value, pod) : sentence(parsed.problems), want)
  })
