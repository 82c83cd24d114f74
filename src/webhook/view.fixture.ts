import type { Pod } from '../api/core.ts'
import type { Network } from '../api/network.ts'
import { resourceNameKey } from '../attach/making.ts'
import type { View } from './view.ts'

/** For tests: a pod of namespace blue, and what it can see. */
export const pod = (annotations: Record<string, string>, spec: Partial<Pod['spec']> = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'blue', name: 'web', annotations },
  spec: { containers: [{ name: 'main' }], ...spec },
})

const network = (namespace: string, name: string, spec: Network['spec'], made = '2026-01-01'): Network => ({
  apiVersion: 'polynet.dev/v1alpha1',
  kind: 'Network',
  metadata: { namespace, name, uid: `${namespace}/${name}`, creationTimestamp: `${made}T00:00:00Z` },
  spec,
})
const subnets = [{ cidr: '10.1.0.0/16' }]
const wire: Network['spec'] = { topology: 'Direct', subnets: [{ cidr: '192.168.10.0/24' }] }

const networks = [
  network('blue', 'data', { subnets, physicalNetwork: 'phy-net1' }),
  network('blue', 'green', { subnets }, '2026-01-02'),
  network('blue', 'broken', { subnets: [{ cidr: '10.1.0.0/33' }] }),
  network('blue', 'wire', { ...wire }),
  network('blue', 'vlan7', { ...wire, physicalNetwork: 'phy-net0', vlan: 7 }),
  network('default', 'nic', {
    ...wire,
    physicalNetwork: 'phy-net0',
    direct: { mode: 'host-device' },
    allowedNamespaces: { from: 'All' },
  }),
  network('blue', 'named', {
    subnets: [{ cidr: 'fd00:10:1::/64' }],
    dns: {
      nameservers: ['10.1.0.53', 'FD00:10:1:0::53'],
      searches: ['blue.example', 'example'],
      options: ['ndots:2', 'edns0'],
    },
  }),
  network('blue', 'flat', { plugin: 'flannel', dns: { nameservers: ['192.168.1.53'] } }),
  network('blue', 'weave', { plugin: 'weave' }),
  network('polynet-system', 'default', {
    subnets: [{ cidr: '10.244.0.0/16' }],
    allowedNamespaces: { from: 'All' },
  }),
  network('red', 'private', { subnets: [{ cidr: '10.2.0.0/16' }] }),
  network('red', 'open', { subnets: [{ cidr: '10.2.0.0/16' }], allowedNamespaces: { from: 'All' } }),
]

const definition = (name: string, resource: string) => ({
  apiVersion: 'k8s.cni.cncf.io/v1',
  kind: 'NetworkAttachmentDefinition',
  metadata: { namespace: 'default', name, annotations: { [resourceNameKey]: resource } },
  spec: { config: '{"cniVersion": "1.0.0", "type": "bridge"}' },
})
const definitions = [
  definition('vf', 'intel.com/sriov'),
  definition('cpu', 'cpu'),
  definition('own', 'x.kubernetes.io/y'),
]

export const viewOf = (): View => ({
  network: (namespace, name) =>
    networks.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  networks: () => networks,
  definition: (namespace, name) =>
    definitions.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  namespace: (name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }),
  allowedPlugins: ['bridge'],
})
