import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isWanted, type PodTemplate } from './wanted.ts'

const required = (...nodeSelectorTerms: object[]): PodTemplate => ({
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
})
const asks = (key: string, operator: string, ...values: string[]) => ({
  matchExpressions: [values.length > 0 ? { key, operator, values } : { key, operator }],
})
const named = (operator: string, ...values: string[]) => ({
  matchFields: [{ key: 'metadata.name', operator, values }],
})
const long = `n1.${'a'.repeat(60)}.example.org`

// Of node n1, with labels polynet=yes, rack=7 and an empty one.
const cases: [title: string, template: PodTemplate | undefined, want: boolean][] = [
  ['nothing is said', undefined, true],
  ['nothing is asked for', { nodeSelector: {}, affinity: {} }, true],
  ['it has the labels', { nodeSelector: { polynet: 'yes', rack: '7' } }, true],
  ['a label has another value', { nodeSelector: { polynet: 'no' } }, false],
  ['a label is missing', { nodeSelector: { polynet: 'yes', zone: 'a' } }, false],
  ['an empty label is missing', { nodeSelector: { zone: '' } }, false],
  ['a label is what every object has', { nodeSelector: { constructor: 'x' } }, false],
  ['an expression holds', required(asks('polynet', 'In', 'no', 'yes')), true],
  ['an expression does not hold', required(asks('polynet', 'NotIn', 'yes')), false],
  ['it must not have a label', required(asks('polynet', 'DoesNotExist')), false],
  ['an empty label is there', required(asks('empty', 'Exists')), true],
  ['a number is greater', required(asks('rack', 'Gt', '6')), true],
  ['a number is not less', required(asks('rack', 'Lt', '7')), false],
  ['one of the alternatives holds', required(asks('zone', 'Exists'), asks('rack', 'Exists')), true],
  ['a term holds in part', required({ ...asks('rack', 'Exists'), ...named('In', 'n2') }), false],
  ['it is named', required(named('In', 'n1')), true],
  ['another is named', required(named('In', 'n2')), false],
  ['it is excepted', required(named('NotIn', 'n1')), false],
  ['another is named at length', required(named('In', long)), false],
  ['there is no alternative', required(), false],
  ['the only term is empty', required({}), false],
  [
    'the labels hold, the term does not',
    { nodeSelector: { rack: '7' }, ...required(asks('a', 'Exists')) },
    false,
  ],
  [
    'the term holds, the labels do not',
    { nodeSelector: { rack: '8' }, ...required(asks('rack', 'Exists')) },
    false,
  ],
  // Who does not understand what is asked does not go by it.
  ['an operator is unknown', required(asks('zone', 'Near', 'a')), true],
  ['a field is unknown', required({ matchFields: [{ key: 'spec.x', operator: 'In', values: ['a'] }] }), true],
  ['an operator on its name is unknown', required(named('Near', 'n2')), true],
]
for (const [title, template, want] of cases)
  test(`a node is ${want ? 'wanted' : 'not wanted'}: ${title}`, () => {
    const labels = { polynet: 'yes', rack: '7', empty: '' }
    assert.equal(isWanted({ name: 'n1', labels }, template), want)
  })

test('a node without labels is wanted where none is asked for', () => {
  assert.equal(isWanted({ name: 'n1' }, {}), true)
  assert.equal(isWanted({ name: 'n1' }, { nodeSelector: { polynet: 'yes' } }), false)
})
