import type { CniResult } from '../cni/result.ts'
import { withoutLength } from '../lib/ip.ts'

/** One attachment as it was made. */
export interface Attached {
  /** `<namespace>/<name>` of a Network or NetworkAttachmentDefinition, else the name of the conf. */
  name: string
  interface: string
  default: boolean
  result: CniResult
  deviceInfo?: Record<string, unknown>
}

/**
 * The annotations that tell a pod's owner and other tools what it came to:
 * NPWG's `network-status` (v1.3 section 5, with the field names of its Go
 * client), and beside CNI-Genie's `cni`, which the pod's own `annotations`
 * say, its `multi-ip-preferences`.
 */
export function networkStatus(
  attached: readonly Attached[],
  annotations: Record<string, string> = {},
): Record<string, string> {
  const status = JSON.stringify(attached.map(entryOf), undefined, 4)
  const preferences = multiIpPreferences(attached, annotations)
  return {
    'k8s.v1.cni.cncf.io/network-status': status,
    ...(preferences !== undefined && { 'multi-ip-preferences': preferences }),
  }
}

/** One entry, from the first interface that is in the pod. Fields without a value are left out, except `dns`. */
function entryOf({ name, interface: ifname, default: isDefault, result, deviceInfo }: Attached) {
  const inside = (result.interfaces ?? []).filter((i) => i.sandbox)
  const link = inside.find((i) => i.name === ifname) ?? inside[0]
  const ips = addressesOf(result)
  const gateway = gatewaysOf(result)
  const { nameservers, domain, search, options } = result.dns ?? {}
  return {
    name,
    interface: link?.name ?? ifname,
    ...(ips.length > 0 && { ips }),
    ...(link?.mac && { mac: link.mac }),
    ...(link?.mtu && { mtu: link.mtu }),
    ...(isDefault && { default: true }),
    dns: {
      ...(nameservers?.length && { nameservers }),
      ...(domain && { domain }),
      ...(search?.length && { search }),
      ...(options?.length && { options }),
    },
    ...(deviceInfo && { 'device-info': deviceInfo }),
    ...(gateway.length > 0 && { gateway }),
  }
}

const addressesOf = (result: CniResult): string[] => (result.ips ?? []).map((ip) => withoutLength(ip.address))

/** Where the default routes go; a route without gateway goes to that of its family's first address. */
function gatewaysOf({ routes = [], ips = [] }: CniResult): string[] {
  const gateways = routes
    .filter((route) => route.dst === '0.0.0.0/0' || route.dst === '::/0')
    .map(({ dst, gw }) => gw ?? ips.find((ip) => ip.address.includes(':') === dst.includes(':'))?.gateway)
  return [...new Set(gateways.filter((gw) => gw !== undefined))]
}

/** CNI-Genie wrote it for pods with several of its interfaces: each one's first address. */
function multiIpPreferences(
  attached: readonly Attached[],
  annotations: Record<string, string>,
): string | undefined {
  const genie =
    Object.hasOwn(annotations, 'cni') && !Object.hasOwn(annotations, 'k8s.v1.cni.cncf.io/networks')
  if (!genie || attached.length < 2) return undefined
  const ips = attached.map(({ interface: ifname, result }, i) => {
    const [ip] = addressesOf(result)
    return [`ip${i + 1}`, { ...(ip && { ip }), interface: ifname }]
  })
  return JSON.stringify({ multi_entry: attached.length, ips: Object.fromEntries(ips) })
}
