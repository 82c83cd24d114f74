import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkAttachmentDefinition } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { sentence } from '../lib/fault.ts'
import type { Asking } from './asking.ts'
import { attachmentsFor } from './attachments.ts'
import { noneFor } from './permission.ts'
import type { AttachmentRequest } from './request.ts'

// One pod of namespace blue, and what it can see.
const network = (namespace: string, name: string, spec: Network['spec'] = {}, deleted = false): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace, name, ...(deleted && { deletionTimestamp: '2026-01-01T00:00:00Z' }) },
  spec,
})
const definition = (namespace: string, name: string): NetworkAttachmentDefinition => ({
  apiVersion: 'k8s.cni.cncf.io/v1',
  kind: 'NetworkAttachmentDefinition',
  metadata: { namespace, name },
})
const networks = [
  network('polynet-system', 'default'),
  network('polynet-system', 'other'),
  network('blue', 'management'),
  network('blue', 'data'),
  network('blue', 'green'), // overlaps another
  network('blue', 'uplink', { primary: true }),
  network('blue', 'uplink2', { primary: true }),
  network('blue', 'leaving', {}, true),
  network('blue', 'twice'), // there is a definition of that name, too
  network('red', 'private'),
  network('red', 'tenant', { allowedNamespaces: { from: 'Tenant' } }),
  network('red', 'open', { allowedNamespaces: { from: 'All' } }),
  network('red', 'gold', {
    allowedNamespaces: { from: 'Selector', selector: { matchLabels: { tier: 'gold' } } },
  }),
  network('red', 'silver', {
    allowedNamespaces: { from: 'Selector', selector: { matchLabels: { tier: 'silver' } } },
  }),
  network('red', 'nobody', { allowedNamespaces: { from: 'Selector' } }),
]
const definitions = [
  definition('blue', 'macvlan-conf'),
  definition('blue', 'twice'),
  definition('red', 'sriov-net'),
  definition('default', 'shared'),
  definition('kube-system', 'cluster-wide'),
]
const find = <T extends { metadata: { namespace?: string; name: string } }>(
  list: T[],
  namespace: string,
  name: string,
) => list.find((o) => o.metadata.namespace === namespace && o.metadata.name === name)

const flannel = { name: 'cbr0', source: '/etc/cni/net.d/10-flannel.conflist' }
const weave = { name: 'weave', source: '/etc/cni/net.d/20-weave.conf' }

const asking = (annotations: Record<string, string>, more: Partial<Asking> = {}): Asking => ({
  pod: { namespace: 'blue', name: 'web', annotations },
  namespace: { labels: { tier: 'gold' } },
  network: (namespace, name) => find(networks, namespace, name),
  definition: (namespace, name) => find(definitions, namespace, name),
  confs: [],
  overlap: (n) => (n.metadata.name === 'green' ? 'Network red/private' : undefined),
  ...more,
})

/** One line per request: `eth0=Network blue/data from networks, route`. */
function line(request: AttachmentRequest): string {
  const { interface: ifname, target, source, default: isDefault, defaultRoute, ...rest } = request
  const name = target.kind === 'Plugin' ? target.name : `${target.namespace}/${target.name}`
  const kind = target.kind === 'NetworkAttachmentDefinition' ? 'NAD' : target.kind
  const route = defaultRoute && `route${defaultRoute.length > 0 ? ` by ${defaultRoute}` : ''}`
  const wishes = Object.keys(rest).length > 0 ? JSON.stringify(rest) : undefined
  assert.equal(isDefault, ifname === 'eth0')
  return [`${ifname}=${kind} ${name} from ${source}`, route, wishes].filter((part) => part).join(', ')
}

function told(input: Asking): string[] {
  const parsed = attachmentsFor(input)
  return parsed.ok ? parsed.value.map(line) : [sentence(parsed.problems)]
}

const npwg = 'k8s.v1.cni.cncf.io/networks'
const eth0 = 'eth0=Network polynet-system/default from cluster'

const spellings: [title: string, annotations: Record<string, string>, want: string[]][] = [
  ['nothing said: the default network', {}, [`${eth0}, route`]],
  [
    'the talk, colons and spaces',
    { networks: 'management:eth0 data:eth1' },
    ['eth0=Network blue/management from networks, route', 'eth1=Network blue/data from networks'],
  ],
  [
    'the talk, at signs and commas',
    { networks: 'management@eth0,data@eth4' },
    ['eth0=Network blue/management from networks, route', 'eth4=Network blue/data from networks'],
  ],
  [
    'eth0 comes first wherever it stands',
    { networks: ' data:eth1 ,  management:eth0 ' },
    ['eth0=Network blue/management from networks, route', 'eth1=Network blue/data from networks'],
  ],
  [
    'the talk without eth0 and without names: counted from eth1, past the names asked for',
    { networks: 'data management:eth1 red/open' },
    [
      `${eth0}, route`,
      'eth2=Network blue/data from networks',
      'eth1=Network blue/management from networks',
      'eth3=Network red/open from networks',
    ],
  ],
  [
    'Genie: networks beside a blank cni count from eth0',
    { cni: ' ', networks: 'management,data' },
    ['eth0=Network blue/management from networks, route', 'eth1=Network blue/data from networks'],
  ],
  ['Genie: a blank cni alone', { cni: '' }, [`${eth0}, route`]],
  [
    'Genie: plugins, one twice, past the name asked for',
    { cni: 'flannel, weave@eth1,flannel' },
    ['eth0=Plugin flannel from cni, route', 'eth1=Plugin weave from cni', 'eth2=Plugin flannel from cni'],
  ],
  [
    'Genie: a name on a plugin whose conf is generated is kept',
    { cni: 'bridge@eth7,cbr0' },
    ['eth0=Plugin cbr0 from cni, route', 'eth7=Plugin bridge from cni'],
  ],
  [
    'Genie: a plugin under another name only',
    { cni: 'weave@eth3' },
    ['eth0=Plugin flannel from conf, route', 'eth3=Plugin weave from cni'],
  ],
  ['polynet is a plugin', { cni: 'polynet' }, ['eth0=Network polynet-system/default from cni, route']],
  ['cni beats networks', { cni: 'weave', networks: 'data' }, ['eth0=Plugin weave from cni, route']],
  [
    'NPWG text: net1 and up; a definition before a network of that name',
    { [npwg]: 'macvlan-conf, data@db0 ,twice,default/shared' },
    [
      `${eth0}, route`,
      'net1=NAD blue/macvlan-conf from k8s.v1.cni.cncf.io/networks',
      'db0=Network blue/data from k8s.v1.cni.cncf.io/networks',
      'net3=NAD blue/twice from k8s.v1.cni.cncf.io/networks',
      'net4=NAD default/shared from k8s.v1.cni.cncf.io/networks',
    ],
  ],
  [
    'NPWG: the same network three times, a name taken beforehand',
    { [npwg]: 'data,data@net1,data' },
    [
      `${eth0}, route`,
      'net2=Network blue/data from k8s.v1.cni.cncf.io/networks',
      'net1=Network blue/data from k8s.v1.cni.cncf.io/networks',
      'net3=Network blue/data from k8s.v1.cni.cncf.io/networks',
    ],
  ],
  [
    'NPWG beats cni and networks',
    { [npwg]: 'data', cni: 'weave', networks: 'management' },
    ['eth0=Plugin flannel from conf, route', 'net1=Network blue/data from k8s.v1.cni.cncf.io/networks'],
  ],
  ['NPWG: an empty list', { [npwg]: '[]' }, [`${eth0}, route`]],
  [
    'NPWG: blank',
    { [npwg]: ' ', networks: 'data' },
    [`${eth0}, route`, 'eth1=Network blue/data from networks'],
  ],
  [
    'NPWG JSON with every key',
    {
      [npwg]: JSON.stringify([
        {
          name: 'macvlan-conf',
          namespace: 'blue',
          interface: 'net9',
          ips: ['10.1.0.7/16', 'FD00:10:1::0007', '10.1.0.8/32'],
          mac: '02-23-45-67-89-AB',
          'infiniband-guid': '24:8A:07:03:00:8D:AE:2E',
          portMappings: [{ hostPort: 80, containerPort: 8080, protocol: 'TCP', hostIP: '192.168.1.11' }],
          bandwidth: { ingressRate: 1000000, ingressBurst: 80000 },
          'cni-args': { mode: 'fast', deep: { list: [1] } },
          'default-route': ['10.1.0.1', 'fd00:10:1::1'],
          deviceID: '0000:81:00.1',
          'com.example.note': 'passed over',
          'example.com/note': {},
        },
        { name: 'data', interfaceRequest: 'data0', 'ipam-claim-reference': 'web-data' },
      ]),
    },
    [
      eth0,
      'net9=NAD blue/macvlan-conf from k8s.v1.cni.cncf.io/networks, route by 10.1.0.1,fd00:10:1::1, ' +
        '{"ips":["10.1.0.7/16","fd00:10:1::7","10.1.0.8"],"mac":"02:23:45:67:89:ab",' +
        '"infinibandGuid":"24:8a:07:03:00:8d:ae:2e",' +
        '"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp","hostIP":"192.168.1.11"}],' +
        '"bandwidth":{"ingressRate":1000000,"ingressBurst":80000},' +
        '"cniArgs":{"mode":"fast","deep":{"list":[1]}},"deviceID":"0000:81:00.1"}',
      'data0=Network blue/data from k8s.v1.cni.cncf.io/networks, {"ipamClaim":"web-data"}',
    ],
  ],
  [
    'NPWG: the default route with the network’s own gateway',
    { [npwg]: '[{"name":"data","default-route":[]}]' },
    [eth0, 'net1=Network blue/data from k8s.v1.cni.cncf.io/networks, route'],
  ],
  [
    'NPWG: eth0 replaces the default network',
    { [npwg]: 'management@eth0,data' },
    [
      'eth0=Network blue/management from k8s.v1.cni.cncf.io/networks, route',
      'net2=Network blue/data from k8s.v1.cni.cncf.io/networks',
    ],
  ],
  [
    'the MAC of the address asked for, and a MAC of one’s own',
    {
      [npwg]:
        '[{"name":"data","ips":["10.1.0.7/16"],"mac":"0a:58:0a:01:00:07"},{"name":"management","mac":"02:00:00:00:00:01"}]',
    },
    [
      `${eth0}, route`,
      'net1=Network blue/data from k8s.v1.cni.cncf.io/networks, {"ips":["10.1.0.7/16"],"mac":"0a:58:0a:01:00:07"}',
      'net2=Network blue/management from k8s.v1.cni.cncf.io/networks, {"mac":"02:00:00:00:00:01"}',
    ],
  ],
  [
    'a primary network takes the default route',
    { networks: 'uplink data' },
    [eth0, 'eth1=Network blue/uplink from networks, route', 'eth2=Network blue/data from networks'],
  ],
  [
    'default-route beats primary',
    { [npwg]: '[{"name":"uplink"},{"name":"uplink2"},{"name":"data","default-route":["10.1.0.1"]}]' },
    [
      eth0,
      'net1=Network blue/uplink from k8s.v1.cni.cncf.io/networks',
      'net2=Network blue/uplink2 from k8s.v1.cni.cncf.io/networks',
      'net3=Network blue/data from k8s.v1.cni.cncf.io/networks, route by 10.1.0.1',
    ],
  ],
  [
    'a network that overlaps another under another name',
    { networks: 'green' },
    [`${eth0}, route`, 'eth1=Network blue/green from networks'],
  ],
  [
    'elsewhere, open to all and by label',
    { networks: 'red/open red/gold' },
    [`${eth0}, route`, 'eth1=Network red/open from networks', 'eth2=Network red/gold from networks'],
  ],
]

for (const [title, annotations, want] of spellings)
  test(title, () => {
    const confs = 'cni' in annotations && annotations.cni?.trim() && annotations.cni !== 'polynet'
    assert.deepEqual(told(asking(annotations, { confs: confs ? [flannel, weave] : [] })), want)
  })

const key = 'polynet.dev/default-network'
const multus = 'v1.multus-cni.io/default-network'
const confs = [
  { name: 'lo', source: '/etc/cni/net.d/00-loopback.conf' },
  { name: 'multus-cni-network', source: '/etc/cni/net.d/00-multus.conf' },
  flannel,
]

const defaults: [title: string, input: Asking, want: string[]][] = [
  ['Polynet’s own', asking({}), [`${eth0}, route`]],
  ['the conf on the node', asking({}, { confs }), ['eth0=Plugin flannel from conf, route']],
  [
    'the node’s choice, whoever may attach to it',
    asking({}, { confs, node: { annotations: { [key]: 'red/private' } } }),
    ['eth0=Network red/private from node, route'],
  ],
  [
    'the node’s choice without namespace',
    asking({}, { confs, node: { annotations: { [key]: 'default' } } }),
    ['eth0=Network polynet-system/default from node, route'],
  ],
  [
    'the node’s choice of a plugin',
    asking({}, { confs: [weave, flannel], node: { annotations: { [key]: 'flannel' } } }),
    ['eth0=Plugin flannel from node, route'],
  ],
  [
    'the namespace’s choice',
    asking(
      {},
      { confs, namespace: { annotations: { [key]: 'data' } }, node: { annotations: { [key]: 'other' } } },
    ),
    ['eth0=Network blue/data from namespace, route'],
  ],
  [
    'the cluster’s own, whatever its namespace and its node say',
    asking({ [key]: 'default' }, { confs, namespace: { annotations: { [key]: 'data' } } }),
    ['eth0=Network polynet-system/default from polynet.dev/default-network, route'],
  ],
  [
    'the pod’s choice, and more',
    asking(
      { [key]: 'management', networks: 'data' },
      { confs, namespace: { annotations: { [key]: 'data' } } },
    ),
    [
      'eth0=Network blue/management from polynet.dev/default-network, route',
      'eth1=Network blue/data from networks',
    ],
  ],
  [
    'the pod’s choice as Multus writes it: its namespace, then kube-system',
    asking({ [multus]: '[{"name":"cluster-wide","mac":"02:00:00:00:00:01"}]', [npwg]: 'data' }),
    [
      'eth0=NAD kube-system/cluster-wide from v1.multus-cni.io/default-network, route, {"mac":"02:00:00:00:00:01"}',
      'net1=Network blue/data from k8s.v1.cni.cncf.io/networks',
    ],
  ],
  [
    'the namespace’s choice is looked at only when it is needed',
    asking({ networks: 'management:eth0' }, { namespace: { annotations: { [key]: 'nowhere' } } }),
    ['eth0=Network blue/management from networks, route'],
  ],
  [
    'the namespace chooses what it may not attach to',
    asking({}, { namespace: { annotations: { [key]: 'red/private' } } }),
    [
      "namespace blue's annotation polynet.dev/default-network: there is no NetworkAttachmentDefinition or Network red/private " +
        'for pods of namespace blue; a Network has to admit them by spec.allowedNamespaces, ' +
        'a NetworkAttachmentDefinition to be in one of default, kube-system, polynet-system, blue',
    ],
  ],
  [
    'the namespace chooses what is not there',
    asking({}, { namespace: { annotations: { [key]: 'nowhere' } } }),
    [
      "namespace blue's annotation polynet.dev/default-network: there is no NetworkAttachmentDefinition or " +
        'Network nowhere in namespace blue; create it, or correct the name',
    ],
  ],
  [
    'the node chooses nonsense',
    asking({}, { node: { annotations: { [key]: 'a,b@eth1' } } }),
    ["the node's annotation polynet.dev/default-network: names 2 networks; name one"],
  ],
  [
    'no default network at all',
    asking({}, { network: () => undefined }),
    [
      'default network: there is no default network; create Network polynet-system/default, or install a ' +
        'network plugin on the node',
    ],
  ],
  [
    'a pod chooses twice',
    asking({ [key]: 'management', [multus]: 'data' }),
    ['annotation polynet.dev/default-network: is there beside v1.multus-cni.io/default-network; keep one'],
  ],
  [
    'a pod chooses a default network and asks for eth0',
    asking({ [key]: 'management', networks: 'data:eth0' }),
    [
      'annotation networks[0]: asks for eth0, as annotation polynet.dev/default-network does; choose another name',
    ],
  ],
  [
    'a default network under another name',
    asking({ [multus]: 'management@net0' }),
    [
      'annotation v1.multus-cni.io/default-network: asks for net0; the default network is always eth0, ' +
        'remove the interface',
    ],
  ],
  [
    'a default network that overlaps another',
    asking({ [key]: 'green' }),
    [
      'annotation polynet.dev/default-network: Network blue/green cannot be eth0, because its subnets overlap ' +
        'Network red/private; ask for eth1',
    ],
  ],
]

for (const [title, input, want] of defaults)
  test(`default network: ${title}`, () => assert.deepEqual(told(input), want))

test('a pod on the host’s network gets nothing, whatever it says', () => {
  const input = asking({ networks: '///' })
  assert.deepEqual(told({ ...input, pod: { ...input.pod, hostNetwork: true } }), [])
})

test('every NetworkAttachmentDefinition is everybody’s where the administrator says so', () => {
  assert.deepEqual(told(asking({ [npwg]: 'red/sriov-net' }, { sharedNamespaces: ['*'] })), [
    `${eth0}, route`,
    'net1=NAD red/sriov-net from k8s.v1.cni.cncf.io/networks',
  ])
})

test('nothing follows from the labels of a namespace that nobody has seen', () => {
  assert.deepEqual(told(asking({ networks: 'red/gold' }, { namespace: undefined })), [
    `annotation networks[0]: ${noneFor('red/gold', 'blue')}`,
  ])
})

const at = 'annotation k8s.v1.cni.cncf.io/networks'
const wrong: [annotations: Record<string, string>, want: string][] = [
  // names
  [
    { networks: 'nowhere' },
    'annotation networks[0]: there is no Network nowhere in namespace blue; create it, or correct the name',
  ],
  [
    { networks: 'macvlan-conf' },
    'annotation networks[0]: macvlan-conf is a NetworkAttachmentDefinition; name it in k8s.v1.cni.cncf.io/networks',
  ],
  [{ networks: 'red/private' }, `annotation networks[0]: ${noneFor('red/private', 'blue')}`],
  [{ networks: 'red/tenant' }, `annotation networks[0]: ${noneFor('red/tenant', 'blue')}`],
  [{ networks: 'red/silver' }, `annotation networks[0]: ${noneFor('red/silver', 'blue')}`],
  [{ networks: 'red/nobody' }, `annotation networks[0]: ${noneFor('red/nobody', 'blue')}`],
  [
    { networks: 'leaving' },
    'annotation networks[0]: Network blue/leaving is being deleted; wait, and create it again',
  ],
  [
    { networks: 'Data' },
    'annotation networks[0]: Data is not the name of a network; use lower-case letters, digits, dashes and dots',
  ],
  [
    { networks: '../data' },
    'annotation networks[0]: .. is not the name of a namespace; use lower-case letters, digits and dashes',
  ],
  [
    { networks: 'a/b/data' },
    'annotation networks[0]: a/b/data is not [namespace/]name with an interface; write it like management:eth0 data:eth1',
  ],
  [
    { networks: 'data:eth1:eth2' },
    'annotation networks[0]: data:eth1:eth2 is not [namespace/]name with an interface; write it like management:eth0 data:eth1',
  ],
  [
    { networks: 'data,,management' },
    'annotation networks[1]: is empty; write it like management:eth0 data:eth1',
  ],
  [{ [npwg]: 'data,' }, `${at}[1]: is empty; write it like blue,red/data@net5`],
  [
    { [npwg]: 'nowhere' },
    `${at}[0]: there is no NetworkAttachmentDefinition or Network nowhere in namespace blue; create it, or correct the name`,
  ],
  [
    { [npwg]: 'red/sriov-net' },
    `${at}[0]: there is no NetworkAttachmentDefinition or Network red/sriov-net for pods of namespace blue; a Network has to admit them by spec.allowedNamespaces, a NetworkAttachmentDefinition to be in one of default, kube-system, polynet-system, blue`,
  ],
  [
    { cni: 'calico' },
    'annotation cni[0]: plugin calico has no configuration on the node; install it, or choose another plugin',
  ],
  [
    { cni: '../../bin/sh' },
    'annotation cni[0]: ../../bin/sh is not [namespace/]name with an interface; write it like calico,weave@eth1',
  ],
  [{ cni: 'a/b' }, 'annotation cni[0]: a/b is not the name of a plugin; write it like calico'],
  [{ cni: '..' }, 'annotation cni[0]: .. is not the name of a plugin; write it like calico'],
  // interfaces
  [
    { networks: 'data:averyveryverylongname' },
    'annotation networks[0]: interface name averyveryverylongname is longer than 15 characters; shorten it',
  ],
  [
    { networks: 'data:lo' },
    'annotation networks[0]: interface name lo belongs to the kernel; choose another, like eth1',
  ],
  [
    { networks: 'data:..' },
    'annotation networks[0]: interface name .. is not one the kernel takes; use letters, digits, dot, dash and underscore',
  ],
  [
    { networks: 'data:' },
    'annotation networks[0]: interface name "" is not one the kernel takes; use letters, digits, dot, dash and underscore',
  ],
  [
    { networks: 'data:eth%d' },
    'annotation networks[0]: interface name "eth%d" is not one the kernel takes; use letters, digits, dot, dash and underscore',
  ],
  [
    { networks: 'data:pn0' },
    'annotation networks[0]: interface name pn0 begins with pn, which marks what Polynet owns; choose another, like eth1',
  ],
  [
    { networks: 'data:eth1 management:eth1' },
    'annotation networks[1]: asks for eth1, as annotation networks[0] does; choose another name',
  ],
  [
    { networks: 'green:eth0' },
    'annotation networks[0]: Network blue/green cannot be eth0, because its subnets overlap Network red/private; ask for eth1',
  ],
  [
    { [npwg]: 'macvlan-conf@eth0' },
    `${at}[0]: asks for eth0, which takes a Network; choose another name, or name it in v1.multus-cni.io/default-network`,
  ],
  [
    { networks: 'uplink uplink2' },
    `annotation networks[1]: is primary, as annotation networks[0] is; write the one that takes the default route with default-route in k8s.v1.cni.cncf.io/networks`,
  ],
  // JSON
  [
    { [npwg]: '[{"name":"data"},]' },
    `${at}: is not JSON (Unexpected token ']'); write it like [{"name": "blue"}] or blue,red`,
  ],
  [{ [npwg]: '{"name":"data"}' }, `${at}: an object is not a list; write it like [{"name": "blue"}]`],
  [{ [npwg]: '["data"]' }, `${at}[0]: data is not an object; write it like {"name": "blue"}`],
  [{ [npwg]: '[{"namespace":"blue"}]' }, `${at}[0].name: is missing or no text; name the network`],
  [{ [npwg]: '[{"name":7}]' }, `${at}[0].name: is missing or no text; name the network`],
  [{ [npwg]: '[{"name":"data","namespace":7}]' }, `${at}[0].namespace: 7 is no text; name a namespace`],
  [
    { [npwg]: '[{"name":"data","interface":["eth1"]}]' },
    `${at}[0].interface: a list is no text; write an interface name`,
  ],
  [
    { [npwg]: '[{"name":"data","interface":"a","interfaceRequest":"b"}]' },
    `${at}[0]: has interface and interfaceRequest with different values; keep interface`,
  ],
  [
    { [npwg]: '[{"name":"data","ipz":[]}]' },
    `${at}[0]: has the unknown key ipz; remove it, or write your own with a domain in front`,
  ],
  [
    { [npwg]: '[{"name":"data","__proto__":{"ips":["10.1.0.7"]}}]' },
    `${at}[0]: has the unknown key __proto__; remove it, or write your own with a domain in front`,
  ],
  [
    { [npwg]: '[{"name":"data","constructor":{}}]' },
    `${at}[0]: has the unknown key constructor; remove it, or write your own with a domain in front`,
  ],
  [
    { [npwg]: '[{"name":"management"},{"name":"data","ips":["10.1.0.300"]}]' },
    `${at}[1].ips[0]: 10.1.0.300 is not an IP address; write it as a.b.c.d or x::y, or with a prefix length`,
  ],
  [
    { [npwg]: '[{"name":"data","ips":["10.1.0.3/33"]}]' },
    `${at}[0].ips[0]: 10.1.0.3/33 is not an IP address; write it as a.b.c.d or x::y, or with a prefix length`,
  ],
  [
    { [npwg]: '[{"name":"data","ips":["127.0.0.1"]}]' },
    `${at}[0].ips[0]: 127.0.0.1 is an address no pod can hold (loopback, link-local, multicast); ask for another`,
  ],
  [
    { [npwg]: '[{"name":"data","ips":["::ffff:10.1.0.1"]}]' },
    `${at}[0].ips[0]: ::ffff:10.1.0.1 is an address no pod can hold (loopback, link-local, multicast); ask for another`,
  ],
  [{ [npwg]: '[{"name":"data","ips":"10.1.0.3"}]' }, `${at}[0].ips: 10.1.0.3 is not a list; put it in [ ]`],
  [
    { [npwg]: '[{"name":"data","ips":["10.1.0.3"],"ipam-claim-reference":"c"}]' },
    `${at}[0]: has both ips and ipam-claim-reference; keep one`,
  ],
  [
    { [npwg]: '[{"name":"data","mac":"01:00:5e:00:00:01"}]' },
    `${at}[0].mac: 01:00:5e:00:00:01 is not a unicast MAC address; write it like 02:00:00:00:00:01`,
  ],
  [
    { [npwg]: '[{"name":"data","infiniband-guid":"24:8a"}]' },
    `${at}[0].infiniband-guid: 24:8a is not an InfiniBand GUID; write eight bytes like 24:8a:07:03:00:8d:ae:2e`,
  ],
  [
    {
      [npwg]:
        '[{"name":"macvlan-conf","portMappings":[{"hostPort":0,"containerPort":"80","protocol":"icmp","hostIP":"x","port":1}]}]',
    },
    `${at}[0].portMappings[0]: has the unknown key port; use hostPort, containerPort, protocol, hostIP; ${at}[0].portMappings[0].hostPort: 0 is not a port; write a number from 1 to 65535; ${at}[0].portMappings[0].containerPort: 80 is not a port; write a number from 1 to 65535; ${at}[0].portMappings[0].protocol: icmp is not a protocol; write tcp, udp or sctp; ${at}[0].portMappings[0].hostIP: x is not an IP address; write it as a.b.c.d or x::y`,
  ],
  [
    { [npwg]: '[{"name":"macvlan-conf","bandwidth":{"ingressRate":-1}}]' },
    `${at}[0].bandwidth.ingressRate: -1 is not a rate; write a whole number of bits per second`,
  ],
  [
    { [npwg]: '[{"name":"data","cni-args":[]}]' },
    `${at}[0].cni-args: a list is not an object; write it like {"key": "value"}`,
  ],
  [
    { [npwg]: '[{"name":"data","cni-args":{"a":{"__proto__":{"type":"x"}}}}]' },
    `${at}[0].cni-args: has the key __proto__, which no plugin takes; remove it`,
  ],
  [
    { [npwg]: '[{"name":"data","cni-args":{"a":[[[[[[[[[]]]]]]]]]}}]' },
    `${at}[0].cni-args: is nested more than 8 deep; flatten it`,
  ],
  [
    { [npwg]: '[{"name":"data","deviceID":"../../etc"}]' },
    `${at}[0].deviceID: ../../etc is not a device; write it like 0000:81:00.1`,
  ],
  [
    { [npwg]: '[{"name":"data","default-route":["10.1.0.0/16"]}]' },
    `${at}[0].default-route[0]: 10.1.0.0/16 is not the IP address of a gateway; write it as a.b.c.d or x::y`,
  ],
  [
    { [npwg]: '[{"name":"data","default-route":[]},{"name":"management","default-route":[]}]' },
    `${at}[1]: has default-route, as ${at}[0] has; keep one`,
  ],
  [
    { [npwg]: '[{"name":"data","ips":["169.254.169.254"]}]' },
    `${at}[0].ips[0]: 169.254.169.254 is an address no pod can hold (loopback, link-local, multicast); ask for another`,
  ],
  // what Polynet itself cannot give, or gives to others
  [
    {
      [npwg]:
        '[{"name":"data","portMappings":[{"hostPort":80,"containerPort":80}],"bandwidth":{"ingressRate":1}}]',
    },
    `${at}[0]: Network blue/data has no portMappings; leave it out, or use a plugin that has; ${at}[0]: Network blue/data has no bandwidth; leave it out, or use a plugin that has`,
  ],
  [
    { [npwg]: '[{"name":"data","mac":"0A:58:A9:FE:01:01"}]' },
    `${at}[0]: mac 0a:58:a9:fe:01:01 is one that Network blue/data gives by address; ask for the address, or another mac`,
  ],
  [
    { [npwg]: '[{"name":"data","mac":"0a:58:0a:01:00:07","ips":["10.1.0.8"]}]' },
    `${at}[0]: mac 0a:58:0a:01:00:07 is one that Network blue/data gives by address; ask for the address, or another mac`,
  ],
  // all at once
  [
    { networks: 'nowhere data:lo Data', [multus]: 'nada' },
    'annotation networks[1]: interface name lo belongs to the kernel; choose another, like eth1; ' +
      'annotation networks[2]: Data is not the name of a network; use lower-case letters, digits, dashes and dots; ' +
      'annotation networks[0]: there is no Network nowhere in namespace blue; create it, or correct the name; ' +
      'annotation v1.multus-cni.io/default-network: there is no NetworkAttachmentDefinition or Network nada in namespace blue; create it, or correct the name',
  ],
  // attackers
  [
    { networks: '\u202edata\n\u0007"' },
    'annotation networks[0]: "\\u202edata" is not the name of a network; use lower-case letters, digits, dashes and dots; annotation networks[1]: "\\u0007\\"" is not the name of a network; use lower-case letters, digits, dashes and dots',
  ],
  [
    { networks: 'x'.repeat(300) },
    `annotation networks[0]: "${'x'.repeat(48)}…" is not the name of a network; use lower-case letters, digits, dashes and dots`,
  ],
  [{ networks: 'a'.repeat(40000) }, 'annotation networks: has 40000 characters; write at most 32768'],
  [
    { [npwg]: '['.repeat(30000) },
    `${at}: is not JSON (Unexpected end of JSON input); write it like [{"name": "blue"}] or blue,red`,
  ],
  [
    { [multus]: `[${'['.repeat(40000)}` },
    'annotation v1.multus-cni.io/default-network: has 40001 characters; write at most 32768',
  ],
  [{ networks: 'data '.repeat(33) }, 'annotation networks: has 33 entries; write at most 32'],
  [
    { networks: 'data '.repeat(32) },
    'annotation networks[31]: is interface 33 of the pod; ask for at most 32',
  ],
  [{ [npwg]: JSON.stringify(Array(33).fill({ name: 'data' })) }, `${at}: has 33 entries; write at most 32`],
  [
    { networks: `data${' '.repeat(32000)}x:lo` },
    'annotation networks[1]: interface name lo belongs to the kernel; choose another, like eth1',
  ],
]

for (const [annotations, want] of wrong) {
  const [first] = Object.entries(annotations)
  test(`refused: ${first![0]}: ${JSON.stringify(first![1].slice(0, 60))}`, () =>
    assert.deepEqual(told(asking(annotations)), [want]))
}

test('a pod with thousands of mistakes gets sixteen of them', () => {
  const ips = Array(16).fill('x')
  const parsed = attachmentsFor(asking({ [npwg]: JSON.stringify(Array(32).fill({ name: 'data', ips })) }))
  assert.equal(parsed.ok, false)
  assert.deepEqual(parsed.ok || [parsed.problems.length, parsed.problems.at(-1)], [
    17,
    { path: '', problem: 'and 496 more' },
  ])
})

test('a list of a thousand words or keys takes no time', () => {
  const began = performance.now()
  for (const text of [
    ' '.repeat(32000),
    `${','.repeat(32000)}`,
    `data${'\t'.repeat(30000)},`,
    `[${'{"a.":1},'.repeat(3000)}]`,
  ])
    for (const key of ['networks', 'cni', npwg, multus]) attachmentsFor(asking({ [key]: text }))
  assert.ok(performance.now() - began < 1000)
})

test("who is not admitted hears of others' networks what he would hear if there were none", () => {
  for (const key of ['networks', npwg, multus, 'polynet.dev/default-network'])
    for (const name of ['red/private', 'red/tenant', 'red/silver', 'red/sriov-net', 'polynet-system/other']) {
      const others = asking({ [key]: name })
      const none = { ...others, network: () => undefined, definition: () => undefined }
      assert.deepEqual(attachmentsFor(others), attachmentsFor(none))
    }
})

test('what a pod lacks is told apart by who can make it, and what is simply wrong is neither', () => {
  const parsed = attachmentsFor(asking({ networks: 'nowhere red/private data:lo' }))
  assert.deepEqual(parsed.ok || parsed.problems.map((p) => p.lacking), [undefined, 'here', 'elsewhere'])
})

test('while no node is chosen, any plugin may be on it', () => {
  const nodeless = (annotations: Record<string, string>) => told({ ...asking(annotations), confs: undefined })
  assert.deepEqual(nodeless({ cni: 'calico,weave' }), [
    'eth0=Plugin calico from cni, route',
    'eth1=Plugin weave from cni',
  ])
  assert.deepEqual(nodeless({ cni: 'calico@eth1,weave@eth1' }), [
    'annotation cni[1]: asks for eth1, as annotation cni[0] does; choose another name',
  ])
  assert.deepEqual(nodeless({ 'polynet.dev/default-network': 'calico', networks: 'data' }), [
    'eth0=Plugin calico from polynet.dev/default-network, route',
    'eth1=Network blue/data from networks',
  ])
})
