import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { evaluate } from '@marcbachmann/cel-js'
import { parse } from 'yaml'
import type { OpenAPI } from './crd.ts'
import { crds } from './crds.ts'
import { resources } from './resources.ts'
import type { Rule } from './schema.ts'

const chart = new URL('../../deploy/chart/', import.meta.url)

test('the chart has what scripts/crds.ts writes', () => {
  const files = new Map(
    ['crds/', 'definitions/'].flatMap((folder) =>
      readdirSync(new URL(folder, chart)).map((file) => [
        file,
        readFileSync(new URL(folder + file, chart), 'utf8'),
      ]),
    ),
  )
  assert.deepEqual(
    [...files.keys()].sort(),
    crds()
      .map((c) => `${c.metadata.name}.yaml`)
      .sort(),
  )
  for (const crd of crds()) {
    const written = parse(files.get(`${crd.metadata.name}.yaml`) ?? '')
    assert.deepEqual(written, JSON.parse(JSON.stringify(crd)), 'run: npm run crds')
  }
})

test('each is of a kind that Polynet reads, under its name', () => {
  const known = new Set(Object.values(resources).map((r) => `${r.plural}.${r.group} ${r.version} ${r.kind}`))
  for (const { metadata, spec } of crds())
    assert.ok(known.has(`${metadata.name} ${spec.versions[0]?.name} ${spec.names.kind}`), metadata.name)
})

interface Node {
  path: string
  schema: OpenAPI
}

/** The schema and everything below it. */
function* nodes(schema: OpenAPI, path: string): Generator<Node> {
  yield { path, schema }
  for (const [name, child] of Object.entries((schema.properties ?? {}) as Record<string, OpenAPI>))
    yield* nodes(child, `${path}.${name}`)
  if (schema.items) yield* nodes(schema.items as OpenAPI, `${path}[]`)
  if (schema.additionalProperties) yield* nodes(schema.additionalProperties as OpenAPI, `${path}[*]`)
}

const all: Node[] = crds().flatMap((crd) => [
  ...nodes(crd.spec.versions[0]!.schema.openAPIV3Schema, crd.spec.names.kind),
])

/** What the API server demands of a structural schema, and we of ourselves. */
const demands: [title: string, breaks: (schema: OpenAPI, path: string) => boolean][] = [
  ['every field is described', (s, path) => !s.description && !/^\w+\.metadata$/.test(path)],
  [
    'descriptions are sentences',
    (s) => typeof s.description === 'string' && !/^[A-Z].*\.$/s.test(s.description),
  ],
  ['every field has one type', (s) => typeof s.type !== 'string'],
  ['lists and maps are bounded', (s) => s.type === 'array' && s.maxItems === undefined],
  [
    'required fields have no default',
    (s) =>
      ((s.required ?? []) as string[]).some(
        (name) => (s.properties as Record<string, OpenAPI>)[name]?.default !== undefined,
      ),
  ],
  [
    'keys of list items are required',
    (s) =>
      ((s['x-kubernetes-list-map-keys'] ?? []) as string[]).some(
        (key) => !((s.items as OpenAPI).required as string[] | undefined)?.includes(key),
      ),
  ],
  [
    'an object has fields or values, not both',
    (s) => s.properties !== undefined && s.additionalProperties !== undefined,
  ],
  [
    'every rule says what to do',
    (s) =>
      ((s['x-kubernetes-validations'] ?? []) as Rule[]).some(
        (r) => !r.rule || !r.message || /\n/.test(r.message),
      ),
  ],
]

for (const [title, breaks] of demands)
  test(title, () =>
    assert.deepEqual(
      all.filter(({ schema, path }) => breaks(schema, path)).map((n) => n.path),
      [],
    ),
  )

test('every column leads to a field that the schema has', () => {
  for (const { spec } of crds())
    for (const column of spec.versions[0]!.additionalPrinterColumns) {
      const path = column.jsonPath.replaceAll(/\[[^\]]*\]/g, '[]')
      const ends = path.startsWith('.metadata.') || all.some((n) => n.path === `${spec.names.kind}${path}`)
      assert.ok(ends, `${spec.names.kind} ${column.name} ${column.jsonPath}`)
    }
})

const specRules = (kind: string): Rule[] =>
  all.find((n) => n.path === `${kind}.spec`)!.schema['x-kubernetes-validations'] as Rule[]

const broken = (kind: string, self: object, oldSelf?: object): string[] =>
  specRules(kind)
    .filter((r) => oldSelf !== undefined || !r.rule.includes('oldSelf'))
    .filter((r) => evaluate(r.rule, { self, oldSelf }) !== true)
    .map((r) => r.message)

const blue = { plugin: 'polynet', subnets: [{ cidr: '10.1.0.0/16' }] }

const changes: [title: string, to: object, from: object | undefined, want: string[]][] = [
  ['a Network of today', blue, undefined, []],
  [
    'a Network unchanged',
    { ...blue, mtu: 1400, topology: 'Direct', direct: {}, vlan: 7, blockSize: {} },
    undefined,
    [],
  ],
  ['a subnet appended', { ...blue, subnets: [...blue.subnets, { cidr: 'fd00:10:1::/64' }] }, blue, []],
  ['the default topology said', { ...blue, topology: 'Layer3' }, blue, []],
  [
    'a subnet put first',
    { ...blue, subnets: [{ cidr: '10.2.0.0/16' }, ...blue.subnets] },
    blue,
    ['the cidr of a subnet cannot be changed, moved or taken away; append another subnet instead'],
  ],
  [
    'a subnet whose text begins the same',
    { ...blue, subnets: [{ cidr: '10.1.0.0/16' }] },
    { ...blue, subnets: [{ cidr: '10.1.0.0/1' }] },
    ['the cidr of a subnet cannot be changed, moved or taken away; append another subnet instead'],
  ],
  [
    'all taken away from another plugin’s',
    { plugin: 'flannel' },
    { plugin: 'flannel', subnets: blue.subnets },
    ['the cidr of a subnet cannot be changed, moved or taken away; append another subnet instead'],
  ],
  [
    'everything changed that cannot be',
    {
      subnets: blue.subnets,
      plugin: 'polynet',
      topology: 'Layer2',
      physicalNetwork: 'phy-net1',
      blockSize: { ipv4: 27 },
      mtu: 1400,
    },
    { ...blue, physicalNetwork: 'phy-net0', blockSize: { ipv4: 26 } },
    [
      'topology cannot be changed; make another Network and move the pods',
      'physicalNetwork cannot be changed; make another Network and move the pods',
      'blockSize cannot be changed; make another Network and move the pods',
      'mtu cannot be changed; make another Network and move the pods',
    ],
  ],
  [
    'another plugin',
    { plugin: 'flannel', subnets: blue.subnets },
    blue,
    ['plugin cannot be changed; make another Network and move the pods'],
  ],
  ['no subnet', { plugin: 'polynet' }, undefined, ['subnets are missing; give at least one cidr']],
  [
    'what belongs to topology Direct',
    { ...blue, vlan: 7, direct: { mode: 'vlan' }, config: '{}' },
    undefined,
    [
      'config is for another plugin than polynet; name it in plugin, or leave config out',
      'vlan is for topology Direct; set that, or leave vlan out',
      'direct is for topology Direct; set that, or leave direct out',
    ],
  ],
  [
    'a topology for another plugin',
    { plugin: 'flannel', topology: 'Layer3' },
    undefined,
    ['topology is for plugin polynet; another plugin has its own, so leave it out'],
  ],
]

for (const [title, to, from, want] of changes)
  test(`the API server ${want.length > 0 ? 'refuses' : 'takes'} ${title}`, () =>
    assert.deepEqual(broken('Network', to, from), want))

test('the API server refuses another tunnel port', () =>
  assert.deepEqual(broken('PhysicalNetwork', { tunnelPort: 5790 }, { tunnelPort: 5789 }), [
    'tunnelPort cannot be changed; nodes would not hear each other meanwhile: make another PhysicalNetwork',
  ]))
