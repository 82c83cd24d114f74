import type { Network } from '../api/network.ts'
import type { CniRequest } from '../cni/request.ts'
import type { CniResult } from '../cni/result.ts'
import type { Addresses, Owner } from '../ipam/port.ts'
import { type ForeignIpam, parseIpam } from '../ipam/whereabouts.ts'
import { Fault, sentence } from '../lib/fault.ts'

/**
 * The node's addresses for other plugins: `"ipam": {"type": "polynet-ipam"}`,
 * and Whereabouts' configurations as they are. Answers ADD with addresses,
 * gateways, routes and DNS, DEL always.
 */
export class IpamPlugin {
  readonly #addresses: Addresses
  readonly #network: (ref: { namespace: string; name: string }) => Network | undefined

  constructor(
    addresses: Addresses,
    network: (ref: { namespace: string; name: string }) => Network | undefined,
  ) {
    this.#addresses = addresses
    this.#network = network
  }

  async add(request: CniRequest): Promise<CniResult> {
    const asked = this.#asked(request)
    const networks = asked.network ? [this.#known(asked.network)] : asked.pools
    const owner = ownerOf(request)
    const ips = wantedIps(request)
    try {
      const leases = []
      for (const network of networks)
        leases.push(await this.#addresses.lease({ network, owner, ...(ips ? { ips } : {}) }))
      return {
        cniVersion: '1.1.0',
        ips: [...leases.flatMap((l) => l.addresses), ...asked.addresses],
        routes: asked.routes.map(({ to, via }) => ({ dst: to, ...(via ? { gw: via } : {}) })),
        ...(asked.dns ? { dns: asked.dns } : {}),
      }
    } catch (error) {
      await this.#addresses.release(owner)
      throw error
    }
  }

  /** Nothing held is success, and so is a configuration that nobody could read any more. */
  del(request: CniRequest): Promise<void> {
    return this.#addresses.release(ownerOf(request))
  }

  /** Rejects when the interface holds nothing here. */
  async check(request: CniRequest): Promise<void> {
    const { containerID, interface: name } = ownerOf(request)
    const held = this.#addresses.owners().some((o) => o.containerID === containerID && o.interface === name)
    if (!held)
      throw new Fault('missing', `check the addresses of ${name}`, 'it holds none on this node; ADD it again')
  }

  #asked({ config }: CniRequest): ForeignIpam {
    const parsed = parseIpam(config.name, config.ipam)
    if (!parsed.ok) throw new Fault('invalid', `read the conf ${config.name}`, sentence(parsed.problems))
    return parsed.value
  }

  #known(ref: { namespace: string; name: string }): Network {
    const network = this.#network(ref)
    if (network) return network
    throw new Fault(
      'missing',
      'read the conf',
      `ipam.network: Network ${ref.namespace}/${ref.name} does not exist; create it`,
    )
  }
}

const ownerOf = ({ containerID, ifName, args }: CniRequest): Owner => ({
  podUID: args.K8S_POD_UID ?? '',
  containerID,
  interface: ifName,
  pod: `${args.K8S_POD_NAMESPACE ?? ''}/${args.K8S_POD_NAME ?? containerID}`,
})

/** Addresses asked for by the `ips` capability, or by the older `IP` of CNI_ARGS. */
function wantedIps({ config, args }: CniRequest): string[] | undefined {
  const asked = config.runtimeConfig?.ips
  if (Array.isArray(asked) && asked.length > 0 && asked.every((ip) => typeof ip === 'string')) return asked
  return args.IP ? args.IP.split(',') : undefined
}
