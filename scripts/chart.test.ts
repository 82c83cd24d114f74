import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { group } from '../src/api/meta.ts'
import { webhookConfigurations } from '../src/webhook/configurations.ts'
import { serviceName } from '../src/webhook/start.ts'
import { helmHere, manifestOf, rendered } from './helm.ts'
import { withValues } from './values.ts'

const deploy = new URL('../deploy/', import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, deploy), 'utf8')
const helm = helmHere()
const skip = helm ? false : 'no helm was built here: npm run cluster -- build helm'

interface Manifest {
  kind: string
  metadata: {
    name: string
    namespace?: string
    labels?: Record<string, string>
    annotations?: Record<string, string>
  }
  spec: Record<string, unknown>
}

const documents = (text: string): Manifest[] => parseAllDocuments(text).map((each) => each.toJS())

test('deploy/polynet.yaml is the chart', { skip }, () => {
  assert.equal(read('polynet.yaml'), manifestOf(helm ?? ''), 'run: npm run manifest')
})

test('what the API server asks about is what the webhook says', () => {
  const service = { namespace: 'polynet-system', name: serviceName, port: 443 }
  for (const wanted of webhookConfigurations({ service }))
    assert.deepEqual(
      parse(read(`chart/webhooks/${wanted.kind.toLowerCase()}.yaml`)),
      JSON.parse(JSON.stringify(wanted)),
      'run: npm run crds && npm run manifest',
    )
})

test('before helm removes anything, agents leave, by rights of their own; kubectl makes none of this', {
  skip,
}, () => {
  const hooks = documents(rendered(helm ?? '')).filter((each) => each?.metadata.annotations?.['helm.sh/hook'])
  assert.deepEqual(
    hooks.map(({ kind, metadata: { name, annotations = {} } }) =>
      [kind, name, annotations['helm.sh/hook'], annotations['helm.sh/hook-weight']].join(' '),
    ),
    [
      'ServiceAccount polynet-removal pre-delete -1',
      'Role polynet-removal pre-delete -1',
      'RoleBinding polynet-removal pre-delete -1',
      'Job polynet-removal pre-delete 0',
    ],
  )
  assert.deepEqual(
    documents(read('polynet.yaml')).filter(({ metadata }) => metadata.name === 'polynet-removal'),
    [],
  )
})

test('what a removal keeps are the definitions and the namespace, and it says which are shared with others', () => {
  const kept = documents(read('polynet.yaml')).filter(({ metadata }) => metadata.labels?.['polynet.dev/kept'])
  assert.deepEqual(
    kept.map(({ kind, metadata: { name, labels } }) => `${kind} ${name}: ${labels?.['polynet.dev/kept']}`),
    [
      'Namespace polynet-system: polynet',
      'CustomResourceDefinition ipamclaims.k8s.cni.cncf.io: shared',
      'CustomResourceDefinition network-attachment-definitions.k8s.cni.cncf.io: shared',
      'CustomResourceDefinition addressblocks.polynet.dev: polynet',
      'CustomResourceDefinition attachmentslices.polynet.dev: polynet',
      'CustomResourceDefinition hostphysicalnetworks.polynet.dev: polynet',
      'CustomResourceDefinition networks.polynet.dev: polynet',
      'CustomResourceDefinition physicalnetworks.polynet.dev: polynet',
    ],
  )
})

test('programs ask for the memory that they were measured to take', () => {
  const page = readFileSync(new URL('../docs/performance.md', deploy), 'utf8')
  const figures = (row: RegExp) => (row.exec(page)?.[1] ?? '').match(/\d+/g)?.map(Number) ?? []
  const measured = {
    agent: figures(/^\| Polynet agent, each node (.*)$/m),
    controller: figures(/^\| Polynet controller, webhook, once each (.*)$/m),
    webhook: figures(/^\| Polynet controller, webhook, once each (.*)$/m),
  }
  const values = parse(read('chart/values.yaml')) as Record<string, Resources>
  for (const [program, taken] of Object.entries(measured)) {
    const asked = values[program]?.resources.requests.memory ?? ''
    assert.match(asked, /^\d+Mi$/)
    assert.ok(taken.length > 0, `docs/performance.md has no figures of the ${program}`)
    for (const mib of taken)
      assert.ok(mib <= Number.parseInt(asked, 10), `the ${program} asks for ${asked}, and takes ${mib} MiB`)
  }
})

interface Resources {
  resources: { requests: { memory: string } }
}

test('only the agent is root, or writes to its own file system', () => {
  const pods = documents(read('polynet.yaml')).filter(({ kind }) =>
    ['Deployment', 'DaemonSet'].includes(kind),
  )
  const lines = pods.map(({ metadata, spec }) => {
    const pod = (spec.template as { spec: PodSpec }).spec
    const [container] = pod.containers
    const { privileged = false, readOnlyRootFilesystem, capabilities } = container?.securityContext ?? {}
    const user = container?.securityContext.runAsUser ?? pod.securityContext?.runAsUser
    return `${metadata.name} user ${user}${privileged ? ', privileged' : ''}${readOnlyRootFilesystem ? ', read-only' : ''}${capabilities ? `, without ${capabilities.drop}` : ''}`
  })
  assert.deepEqual(lines.sort(), [
    'polynet-agent user 0, privileged, read-only',
    'polynet-controller user 65532, read-only, without ALL',
    'polynet-webhook user 65532, read-only, without ALL',
  ])
})

interface PodSpec {
  securityContext?: { runAsUser?: number }
  containers: {
    securityContext: {
      runAsUser?: number
      privileged?: boolean
      readOnlyRootFilesystem?: boolean
      capabilities?: { drop: string[] }
    }
  }[]
}

const values: [title: string, values: string[], want: string | string[]][] = [
  ['without a webhook', ['webhook.enabled=false'], []],
  [
    'a monitor of each program',
    ['metrics.enabled=true', 'metrics.serviceMonitor.enabled=true'],
    ['agent', 'controller', 'webhook'],
  ],
  [
    'monitors with nothing to ask',
    ['metrics.serviceMonitor.enabled=true'],
    'metrics.serviceMonitor.enabled needs something to ask; set metrics.enabled as well',
  ],
  ['a value that there is none of', ['agents.confDir=/etc'], "additional properties 'agents' not allowed"],
  ['a subnet that is no prefix', ['defaultNetwork.subnets={10.244.0.0}'], "at '/defaultNetwork/subnets/0'"],
]
for (const [title, set, want] of values)
  test(`values: ${title}`, { skip }, () => {
    if (typeof want === 'string')
      return assert.throws(
        () => rendered(helm ?? '', set),
        (error: Error) => error.message.includes(want),
      )
    const monitors = documents(rendered(helm ?? '', set)).filter((each) => each?.kind === 'ServiceMonitor')
    assert.deepEqual(
      monitors.map(({ metadata }) => metadata.name),
      want.map((each) => `polynet-${each}`),
    )
  })

test('the webhook of a chart without one is nowhere in it', { skip }, () => {
  const names = documents(rendered(helm ?? '', ['webhook.enabled=false']))
    .filter((each) => each && !each.metadata.name.endsWith(group))
    .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
  assert.deepEqual(
    names.filter((name) => /webhook/i.test(name)),
    [],
  )
})

test('docs/install.md has the values that there are', () => {
  const page = readFileSync(new URL('../docs/install.md', deploy), 'utf8')
  assert.equal(page, withValues(page), 'run: npm run manifest')
})
