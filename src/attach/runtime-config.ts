import type { NetworkConf } from '../cni/plugins.ts'
import type { Problem } from '../lib/fault.ts'
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
 * One problem for each thing asked for that no plugin of the list can give:
 * NPWG lets the attachment fail then, where it would vanish silently. A device
 * is excepted, because `confFor` hands it over without a capability.
 */
export function missingCapabilities(conf: NetworkConf, capabilityArgs: Record<string, unknown>): Problem[] {
  return Object.keys(capabilityArgs)
    .filter((name) => name !== 'deviceID' && !conf.plugins.some((plugin) => declares(plugin, name)))
    .map((name) => ({
      path: keys[name] ?? name,
      problem: `no plugin of ${conf.source} takes it; add "capabilities": {"${name}": true} to the one that does, or do not ask for it`,
    }))
}

/** What the pod's owner wrote, where it is called otherwise. */
const keys: Record<string, string> = { infinibandGUID: 'infiniband-guid' }

function declares(plugin: Record<string, unknown>, capability: string): boolean {
  const { capabilities } = plugin as { capabilities?: Record<string, unknown> }
  return capabilities?.[capability] === true
}

/**
 * The conf with what a request writes into it: `cni-args` over each plugin's
 * own `args.cni` (NPWG v1.3 section 4.1.2.1.6), and the device where SR-IOV
 * plugins look for it, in the first plugin.
 */
export function confFor(conf: NetworkConf, request: AttachmentRequest): NetworkConf {
  const { cniArgs, deviceID } = request
  const plugins = conf.plugins.map((plugin, i) => ({
    ...plugin,
    ...(cniArgs && { args: argsWith(plugin, cniArgs) }),
    ...(deviceID && i === 0 && { deviceID, pciBusID: deviceID }),
  }))
  return { ...conf, plugins }
}

function argsWith(plugin: Record<string, unknown>, cniArgs: Record<string, unknown>) {
  const { args } = plugin as { args?: { cni?: object } }
  return { ...args, cni: { ...args?.cni, ...cniArgs } }
}
