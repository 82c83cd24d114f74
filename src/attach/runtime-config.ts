import type { NetworkConf } from '../cni/plugins.ts'
import type { Problem } from '../lib/fault.ts'
import { parseAddress } from '../lib/ip.ts'
import type { AttachmentRequest } from './request.ts'

/**
 * What a request says to other plugins by their capabilities (NPWG v1.3
 * section 4.1.2.1, CNI's CONVENTIONS.md), empty when it says nothing.
 */
export function runtimeConfigFor(request: AttachmentRequest): Record<string, unknown> {
  const { ips, mac, portMappings, bandwidth, infinibandGuid, deviceID } = request
  return {
    ...(ips?.length && { ips }),
    ...(mac && { mac }),
    ...(portMappings?.length && { portMappings: portMappings.map((m) => ({ protocol: 'tcp', ...m })) }),
    ...(bandwidth && { bandwidth }),
    ...(infinibandGuid && { infinibandGUID: infinibandGuid }),
    ...(deviceID && { deviceID }),
  }
}

/**
 * What plugins take by CNI_ARGS that declare no capability: `IP` and `MAC`, as
 * Multus and CNI-Genie give them, where the list has a plugin that reads them.
 */
export function argsFor(conf: NetworkConf, { ips, mac }: AttachmentRequest): Record<string, string> {
  const by = (name: string) => !declared(conf, name) && takesByArgs(conf, name)
  return {
    ...(ips?.length && by('ips') && { IP: ips.join(',') }),
    ...(mac && by('mac') && { MAC: mac }),
  }
}

/** Of the reference plugins and Whereabouts, those that read `IP` and `MAC`. */
const readers: Record<string, (plugin: Record<string, unknown>) => boolean> = {
  ips: (plugin) => ['static', 'host-local', 'whereabouts', 'polynet-ipam'].includes(ipamType(plugin)),
  mac: ({ type }) => ['bridge', 'macvlan', 'tuning', 'sriov'].includes(String(type)),
}

const ipamType = ({ ipam }: Record<string, unknown>): string =>
  String((ipam as { type?: unknown } | undefined)?.type ?? '')

const takesByArgs = ({ plugins }: NetworkConf, name: string): boolean =>
  plugins.some((plugin) => readers[name]?.(plugin))

/**
 * One problem for each thing asked for that no plugin of the list can give:
 * NPWG lets the attachment fail then, where it would vanish silently. A device
 * is excepted, because `confFor` hands it over without a capability.
 */
export function missingCapabilities(conf: NetworkConf, capabilityArgs: Record<string, unknown>): Problem[] {
  return Object.keys(capabilityArgs)
    .filter((name) => name !== 'deviceID' && !declared(conf, name) && !takesByArgs(conf, name))
    .map((name) => ({
      path: keys[name] ?? name,
      problem: `no plugin of ${conf.source} takes it; add "capabilities": {"${name}": true} to the one that does, or do not ask for it`,
    }))
}

/** What the pod's owner wrote, where it is called otherwise. */
const keys: Record<string, string> = { infinibandGUID: 'infiniband-guid' }

/** Whether some plugin of the list says that it takes the capability. */
export const declared = ({ plugins }: NetworkConf, capability: string): boolean =>
  plugins.some(
    ({ capabilities }) => (capabilities as Record<string, unknown> | undefined)?.[capability] === true,
  )

/**
 * The conf with what a request writes into it: `cni-args` over each plugin's
 * own `args.cni` (NPWG v1.3 section 4.1.2.1.6), the device where SR-IOV
 * plugins look for it, in the first plugin, and `default-route` among the
 * routes of the address plugin, which is how a plugin hears of routes.
 */
export function confFor(conf: NetworkConf, request: AttachmentRequest): NetworkConf {
  const { cniArgs, deviceID, defaultRoute = [] } = request
  const routed = conf.plugins.findIndex((plugin) => readers.ips!(plugin))
  const plugins = conf.plugins.map((plugin, i) => ({
    ...plugin,
    ...(defaultRoute.length > 0 && i === routed && { ipam: withDefaultRoutes(plugin.ipam, defaultRoute) }),
    ...(cniArgs && { args: argsWith(plugin, cniArgs) }),
    ...(deviceID && i === 0 && { deviceID, pciBusID: deviceID }),
  }))
  return { ...conf, plugins }
}

function argsWith(plugin: Record<string, unknown>, cniArgs: Record<string, unknown>) {
  const { args } = plugin as { args?: { cni?: object } }
  return { ...args, cni: { ...args?.cni, ...cniArgs } }
}

/** In place of default routes that the conf has itself. */
function withDefaultRoutes(ipam: unknown, gateways: string[]) {
  const { routes } = ipam as { routes?: unknown }
  const own = Array.isArray(routes) ? routes : []
  const defaults = gateways.map((gw) => ({ dst: parseAddress(gw)?.family === 6 ? '::/0' : '0.0.0.0/0', gw }))
  return { ...(ipam as object), routes: [...own.filter((route) => !isDefault(route)), ...defaults] }
}

const isDefault = (route: { dst?: unknown } | null): boolean =>
  /^(0\.0\.0\.0|::)\/0$/.test(String(route?.dst))

/** A gateway that no address plugin of the list would hear of: the pod would be without a default route. */
export function unheardRoute(conf: NetworkConf, { defaultRoute = [] }: AttachmentRequest): Problem[] {
  if (defaultRoute.length === 0 || takesByArgs(conf, 'ips')) return []
  const problem = `no address plugin of ${conf.source} takes it; let it be [], and the conf name the gateway`
  return [{ path: 'default-route', problem }]
}
