import type { AddressBlock } from './address-block.ts'
import type { AttachmentSlice } from './attachment-slice.ts'
import type * as core from './core.ts'
import type { HostPhysicalNetwork } from './host-physical-network.ts'
import { group, type KubeObject, type Resource, version } from './meta.ts'
import type { Network } from './network.ts'
import type { PhysicalNetwork } from './physical-network.ts'

const ours = <T extends KubeObject>(kind: string, plural: string, namespaced: boolean): Resource<T> => ({
  group,
  version,
  kind,
  plural,
  namespaced,
})

const configurations = (kind: string): Resource<core.WebhookConfiguration> => ({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind,
  plural: `${kind.toLowerCase()}s`,
  namespaced: false,
})

/** Every kind that Polynet reads or writes. */
export const resources = {
  physicalNetworks: ours<PhysicalNetwork>('PhysicalNetwork', 'physicalnetworks', false),
  hostPhysicalNetworks: ours<HostPhysicalNetwork>('HostPhysicalNetwork', 'hostphysicalnetworks', false),
  networks: ours<Network>('Network', 'networks', true),
  addressBlocks: ours<AddressBlock>('AddressBlock', 'addressblocks', true),
  attachmentSlices: ours<AttachmentSlice>('AttachmentSlice', 'attachmentslices', true),
  pods: { group: '', version: 'v1', kind: 'Pod', plural: 'pods', namespaced: true } as Resource<core.Pod>,
  nodes: {
    group: '',
    version: 'v1',
    kind: 'Node',
    plural: 'nodes',
    namespaced: false,
  } as Resource<core.Node>,
  namespaces: {
    group: '',
    version: 'v1',
    kind: 'Namespace',
    plural: 'namespaces',
    namespaced: false,
  } as Resource<core.Namespace>,
  events: {
    group: '',
    version: 'v1',
    kind: 'Event',
    plural: 'events',
    namespaced: true,
  } as Resource<core.Event>,
  leases: {
    group: 'coordination.k8s.io',
    version: 'v1',
    kind: 'Lease',
    plural: 'leases',
    namespaced: true,
  } as Resource<core.Lease>,
  secrets: {
    group: '',
    version: 'v1',
    kind: 'Secret',
    plural: 'secrets',
    namespaced: true,
  } as Resource<core.Secret>,
  serviceCIDRs: {
    group: 'networking.k8s.io',
    version: 'v1',
    kind: 'ServiceCIDR',
    plural: 'servicecidrs',
    namespaced: false,
  } as Resource<core.ServiceCIDR>,
  validatingWebhookConfigurations: configurations('ValidatingWebhookConfiguration'),
  mutatingWebhookConfigurations: configurations('MutatingWebhookConfiguration'),
  networkAttachmentDefinitions: {
    group: 'k8s.cni.cncf.io',
    version: 'v1',
    kind: 'NetworkAttachmentDefinition',
    plural: 'network-attachment-definitions',
    namespaced: true,
  } as Resource<core.NetworkAttachmentDefinition>,
  ipamClaims: {
    group: 'k8s.cni.cncf.io',
    version: 'v1alpha1',
    kind: 'IPAMClaim',
    plural: 'ipamclaims',
    namespaced: true,
  } as Resource<core.IPAMClaim>,
}
