import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KubeObject } from '../api/meta.ts'
import type { Network } from '../api/network.ts'
import type { AdmissionRequest } from './admission.ts'
import { review } from './review.ts'
import { pod, viewOf } from './view.fixture.ts'

const request = (object: unknown, more: Partial<AdmissionRequest> = {}): AdmissionRequest => {
  const { apiVersion, kind, metadata } = object as KubeObject
  const [version = '', group = ''] = apiVersion.split('/').reverse()
  return {
    uid: 'u',
    kind: { group, version, kind },
    operation: 'CREATE',
    namespace: metadata.namespace ?? 'blue',
    object: object as KubeObject,
    ...more,
  }
}

/** The verdict as lines: what refuses it, then what it is warned of. */
const told = (asked: AdmissionRequest): string[] => {
  const { refused, warnings } = review(viewOf(), asked)
  return [...(refused === undefined ? [] : [`refused: ${refused}`]), ...warnings.map((w) => `warning: ${w}`)]
}

const npwg = 'k8s.v1.cni.cncf.io/networks'
const pods: [what: string, annotations: Record<string, string>, want: string[]][] = [
  ['asks for nothing', {}, []],
  ['asks for networks that it gets', { networks: 'data:eth1 red/open:eth2' }, []],
  ['asks for plugins that some node may have', { cni: 'calico,weave@eth3' }, []],
  [
    'is malformed',
    { networks: 'data:eth1:eth2 Data' },
    [
      'refused: attach pod blue/web: annotation networks[0]: data:eth1:eth2 is not [namespace/]name with an interface; ' +
        'write it like management:eth0 data:eth1; annotation networks[1]: Data is not the name of a network; ' +
        'use lower-case letters, digits, dashes and dots',
    ],
  ],
  [
    'is malformed as JSON',
    { [npwg]: '[{"name":"data","ips":["10.1.0.300"]}]' },
    [
      `refused: attach pod blue/web: annotation ${npwg}[0].ips[0]: 10.1.0.300 is not an IP address; ` +
        'write it as a.b.c.d or x::y, or with a prefix length',
    ],
  ],
  [
    'asks for a Network that is not there yet',
    { networks: 'later data' },
    [
      'warning: annotation networks[0]: there is no Network later in namespace blue; create it, or correct the name',
    ],
  ],
  [
    'asks for a Network that does not admit it',
    { networks: 'red/private' },
    [
      'refused: attach pod blue/web: annotation networks[0]: there is no Network red/private that admits pods of namespace blue; ' +
        'ask its owner to create it, or to widen spec.allowedNamespaces',
    ],
  ],
  [
    "asks for another namespace's Network that is not there",
    { networks: 'red/nothing' },
    [
      'refused: attach pod blue/web: annotation networks[0]: there is no Network red/nothing that admits pods of namespace blue; ' +
        'ask its owner to create it, or to widen spec.allowedNamespaces',
    ],
  ],
  [
    'asks for a Network that overlaps an older one, as eth0',
    { networks: 'green:eth0' },
    [
      'refused: attach pod blue/web: annotation networks[0]: Network blue/green cannot be eth0, ' +
        'because its subnets overlap Network blue/data; ask for eth1',
    ],
  ],
  [
    'asks for two Networks that cannot be made',
    { networks: 'broken wire' },
    [
      'refused: attach pod blue/web: attach eth1 to Network blue/broken: spec.subnets[0].cidr: 10.1.0.0/33 is not a prefix (0–32); correct its length; attach eth2 to Network blue/wire: macvlan is not for namespace blue; ' +
        "the cluster's administrator can allow it: annotate namespace blue with polynet.dev/allowed-plugins: macvlan",
    ],
  ],
]
for (const [what, annotations, want] of pods)
  test(`a pod that ${what}: ${want.length === 0 ? 'accepted' : want[0]!.split(':')[0]}`, () =>
    assert.deepEqual(told(request(pod(annotations))), want))

test('a pod on the host’s network is accepted, whatever it says', () => {
  assert.deepEqual(told(request(pod({ networks: '///' }, { hostNetwork: true }))), [])
})

test('annotations of a pod that runs are not refused any more', () => {
  const running = { nodeName: 'n1' }
  const changed = (annotations: Record<string, string>, before: Record<string, string>) =>
    told(request(pod(annotations, running), { operation: 'UPDATE', oldObject: pod(before, running) }))
  assert.deepEqual(changed({ networks: 'data', note: 'x' }, { networks: 'data' }), [])
  assert.deepEqual(changed({ networks: '///' }, { networks: 'data' }), [
    'warning: which networks a pod gets is read when it starts; this one keeps what it has, make it again to change them',
    'warning: attach pod blue/web: annotation networks[0]: /// is not [namespace/]name with an interface; write it like management:eth0 data:eth1',
  ])
})

test('annotations of a pod that waits for a node are refused as when it is made', () => {
  const update = { operation: 'UPDATE', oldObject: pod({}) } as const
  assert.match(told(request(pod({ networks: '///' }), update))[0] ?? '', /^refused: attach pod blue\/web/)
})

const template = { metadata: { annotations: { networks: '/// later' } }, spec: { containers: [] } }
const templates: [apiVersion: string, kind: string, spec: unknown][] = [
  ...['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet'].map((kind): [string, string, unknown] => [
    'apps/v1',
    kind,
    { template },
  ]),
  ['batch/v1', 'Job', { template }],
  ['batch/v1', 'CronJob', { jobTemplate: { spec: { template } } }],
]
for (const [apiVersion, kind, spec] of templates)
  test(`a ${kind} whose pods will be refused is warned of it`, () => {
    const object = { apiVersion, kind, metadata: { namespace: 'blue', name: 'web' }, spec }
    const want = [
      'warning: attach pod blue/web-*: annotation networks[0]: /// is not [namespace/]name with an interface; write it like management:eth0 data:eth1; ' +
        'annotation networks[1]: there is no Network later in namespace blue; create it, or correct the name',
    ]
    assert.deepEqual(told(request(object)), want)
    const owned = { ...object, metadata: { ...object.metadata, ownerReferences: [{ name: 'up' }] } }
    assert.deepEqual(told(request(owned)), [])
    const same = request(object, { operation: 'UPDATE', oldObject: object as unknown as KubeObject })
    assert.deepEqual(told(same), [])
  })

const ours: [what: string, object: unknown, want: string[]][] = [
  [
    'Network',
    { spec: { subnets: [{ cidr: '10.1.0.0/33' }], plugin: 'polynet', vlan: 7 } },
    [
      'refused: Network it: spec.subnets[0].cidr: 10.1.0.0/33 is not a prefix (0–32); correct its length; ' +
        'spec.vlan: is for topology Direct; set spec.topology to that, or leave it out',
    ],
  ],
  ['Network', { spec: { subnets: [{ cidr: '10.1.0.0/16' }] } }, []],
  [
    'PhysicalNetwork',
    { spec: { nics: [{ match: {} }] } },
    [
      'refused: PhysicalNetwork it: spec.nics[0].match: matches every NIC; give at least one of name, driver, pciAddress, mac',
    ],
  ],
  [
    'HostPhysicalNetwork',
    { spec: { mappings: [{ physicalNetwork: 'phy-net0', match: {} }] } },
    [
      'refused: HostPhysicalNetwork it: spec.mappings[0].match: matches every NIC; give at least one of name, driver, pciAddress, mac',
    ],
  ],
]
for (const [kind, body, want] of ours)
  test(`a ${kind}: ${want.length === 0 ? 'accepted' : 'refused'}`, () => {
    const object = { apiVersion: 'polynet.dev/v1alpha1', kind, metadata: { name: 'it' }, ...(body as object) }
    assert.deepEqual(told(request(object)), want)
  })

const definition = (config?: string) => ({
  apiVersion: 'k8s.cni.cncf.io/v1',
  kind: 'NetworkAttachmentDefinition',
  metadata: { namespace: 'blue', name: 'it' },
  spec: config === undefined ? {} : { config },
})
test('a NetworkAttachmentDefinition that no program can read is refused', () => {
  assert.deepEqual(told(request(definition())), [])
  assert.match(
    told(request(definition('{"type"')))[0] ?? '',
    /^refused: read the conf of NetworkAttachmentDefinition blue\/it: /,
  )
})

test('a NetworkAttachmentDefinition that may not be executed yet is warned of it', () => {
  assert.deepEqual(told(request(definition('{"type":"macvlan"}'))), [
    "warning: plugins[0].type: macvlan is not for namespace blue; the cluster's administrator can allow it: " +
      'annotate namespace blue with polynet.dev/allowed-plugins: macvlan',
  ])
})

test('kinds that nobody asked about are accepted', () => {
  const odd = {
    apiVersion: 'example.com/v1',
    kind: 'Toaster',
    metadata: { name: 'it' },
  } as unknown as Network
  assert.deepEqual(told(request(odd)), [])
  assert.deepEqual(told(request(pod({ networks: '///' }), { operation: 'DELETE', object: null })), [])
})
