import type { Parsed } from '../lib/fault.ts'
import { isObject } from '../lib/json.ts'
import { parseAddressBlock } from './address-block.ts'
import { parseAttachmentSlice } from './attachment-slice.ts'
import { parseHostPhysicalNetwork } from './host-physical-network.ts'
import { apiVersionOf, group, type KubeObject, version } from './meta.ts'
import { parseNetwork } from './network.ts'
import { parsePhysicalNetwork } from './physical-network.ts'

const parsers = new Map<unknown, (input: unknown) => Parsed<KubeObject>>([
  ['PhysicalNetwork', parsePhysicalNetwork],
  ['HostPhysicalNetwork', parseHostPhysicalNetwork],
  ['Network', parseNetwork],
  ['AddressBlock', parseAddressBlock],
  ['AttachmentSlice', parseAttachmentSlice],
])

/** The object of Polynet's that `input` is, or every problem with it; undefined where it is none of Polynet's. */
export const parseAny = (input: unknown): Parsed<KubeObject> | undefined =>
  isObject(input) && input.apiVersion === apiVersionOf({ group, version })
    ? parsers.get(input.kind)?.(input)
    : undefined
