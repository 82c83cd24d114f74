import { addressBlockKind } from './address-block.ts'
import { attachmentSliceKind } from './attachment-slice.ts'
import { ipamClaimKind, networkAttachmentDefinitionKind } from './cncf.ts'
import { type CustomResourceDefinition, crdOf } from './crd.ts'
import { hostPhysicalNetworkKind } from './host-physical-network.ts'
import { networkKind } from './network-kind.ts'
import { physicalNetworkKind } from './physical-network.ts'

/** Every CustomResourceDefinition that Polynet needs: its own five, and two of the NPWG. */
export const crds = (): CustomResourceDefinition[] => [
  crdOf(physicalNetworkKind),
  crdOf(hostPhysicalNetworkKind),
  crdOf(networkKind),
  crdOf(addressBlockKind),
  crdOf(attachmentSliceKind),
  crdOf(networkAttachmentDefinitionKind),
  crdOf(ipamClaimKind),
]
