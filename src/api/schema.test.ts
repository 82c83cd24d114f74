import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sentence } from '../lib/fault.ts'
import { formats } from './format.ts'
import { check, type Struct } from './schema.ts'

interface Cable {
  from: string
  kind?: 'copper' | 'glass'
  strands?: { colour: string; lengthM?: number }[]
  marks?: Record<string, string>
}

const strand = {
  type: 'object',
  description: 'A strand.',
  fields: {
    colour: { type: 'string', required: true, description: 'Its colour.', maxLength: 8 },
    lengthM: { type: 'integer', description: 'Its length.', minimum: 1, maximum: 100 },
  },
} as const satisfies Struct<NonNullable<Cable['strands']>[number]>

const cable: Struct<Cable> = {
  type: 'object',
  description: 'A cable.',
  fields: {
    from: { type: 'string', required: true, description: 'Where it begins.', format: formats.label },
    kind: {
      type: 'string',
      description: 'What it is made of.',
      enum: ['copper', 'glass'],
      default: 'copper',
    },
    strands: { type: 'array', description: 'Its strands.', maxItems: 3, keys: ['colour'], items: strand },
    marks: {
      type: 'map',
      description: 'What is written on it.',
      maxItems: 2,
      values: { description: 'A text.', maxLength: 8 },
    },
  },
}

test('a schema that does not agree with its type does not compile', () => {
  const wrong: Struct<Cable>[] = [
    // @ts-expect-error a field of the type has no schema
    { ...cable, fields: { from: cable.fields.from, kind: cable.fields.kind, strands: cable.fields.strands } },
    // @ts-expect-error what the type requires, the schema does not
    { ...cable, fields: { ...cable.fields, from: { type: 'string', description: 'Where it begins.' } } },
    // @ts-expect-error what the schema requires, the type does not
    { ...cable, fields: { ...cable.fields, kind: { ...cable.fields.kind, required: true } } },
    // @ts-expect-error the type has no such value
    { ...cable, fields: { ...cable.fields, kind: { ...cable.fields.kind, enum: ['wood'] } } },
    // @ts-expect-error the type has text there
    { ...cable, fields: { ...cable.fields, from: { ...cable.fields.marks, required: true } } },
  ]
  assert.equal(wrong.length, 5)
})

const read = (input: unknown) => {
  const { value, problems } = check<Cable>(cable, input)
  return [value, problems.map((p) => sentence([p]))]
}

const cases: [title: string, input: unknown, value: unknown, problems: string[]][] = [
  ['defaults are filled in', { from: 'n1' }, { from: 'n1', kind: 'copper' }, []],
  [
    'a default is no one’s own: null is absent too',
    { from: 'n1', kind: null, strands: null },
    { from: 'n1', kind: 'copper' },
    [],
  ],
  ['unknown fields are left out', { from: 'n1', to: 'n2' }, { from: 'n1', kind: 'copper' }, []],
  [
    'inherited properties are not fields',
    Object.create({ from: 'n1' }),
    undefined,
    ['from: is missing; add it: Where it begins.'],
  ],
  [
    'every problem is told, and what is right is kept beside holes',
    {
      from: 'n1',
      kind: 'wood',
      strands: [{ colour: 'red', lengthM: 101 }, { lengthM: 1 }, { colour: 'multicoloured' }],
      marks: { a: 1, b: 'two' },
    },
    // biome-ignore lint/suspicious/noSparseArray: that is what is tested
    { from: 'n1', strands: [{ colour: 'red' }, , ,], marks: { b: 'two' } },
    [
      'kind: wood is unknown; use copper, glass',
      'strands[0].lengthM: 101 is out of bounds; use 1–100',
      'strands[1].colour: is missing; add it: Its colour.',
      'strands[2].colour: has 13 characters; at most 8 are possible',
      'marks[a]: 1 is not a string; quote it',
    ],
  ],
  [
    'bounds hold for lists and maps',
    { from: 'n1', strands: [{}, {}, {}, {}], marks: { a: '1', b: '2', c: '3' } },
    { from: 'n1', kind: 'copper' },
    ['strands: has 4 entries; at most 3 are possible', 'marks: has 3 entries; at most 2 are possible'],
  ],
  [
    'keys tell items apart',
    { from: 'n1', strands: [{ colour: 'red' }, { colour: 'blue' }, { colour: 'red' }] },
    {
      from: 'n1',
      kind: 'copper',
      strands: [{ colour: 'red' }, { colour: 'blue' }, { colour: 'red' }],
    },
    ['strands[2].colour: red is in strands[0] too; leave one out'],
  ],
  [
    'a value long and many-lined is shown short and on one line',
    { from: `n1\n${'x'.repeat(100)}` },
    undefined,
    [
      `from: "n1\\n${'x'.repeat(58)}… is not a name; write at most 63 of a-z 0-9 -, beginning and ending with a-z 0-9`,
    ],
  ],
  ['a list is no object', [], undefined, ['[] is not an object']],
]

for (const [title, input, value, problems] of cases)
  test(title, () => assert.deepEqual(read(input), [value, problems]))
