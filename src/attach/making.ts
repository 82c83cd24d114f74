import type { NetworkAttachmentDefinition } from '../api/core.ts'
import { type Network, parseNetwork } from '../api/network.ts'
import { parseConf } from '../cni/conf.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import { Fault, type Parsed, type Problem, sentence } from '../lib/fault.ts'
import { type Author, ipamNetworks, kindProblem, pluginProblems } from './allowed-plugins.ts'
import { genieConf } from './genie.ts'
import { admits, noneFor } from './permission.ts'
import { confOf } from './plugin-name.ts'
import type { AttachmentRequest } from './request.ts'
import { argsFor, confFor, missingCapabilities, runtimeConfigFor, unheardRoute } from './runtime-config.ts'

/** A configuration that users of a namespace wrote has at most so many characters: each of their pods keeps it in the node's journal. */
const longestConfig = 65536

/** How an attachment is made: by Polynet, or by other plugins that are given exactly this. */
export type Making =
  | { kind: 'polynet'; network: Network }
  | {
      kind: 'plugin'
      name: string
      conf: NetworkConf
      args: Record<string, string>
      capabilityArgs: Record<string, unknown>
    }

/** What decides how a pod's attachments are made. */
export interface Makers {
  network(namespace: string, name: string): Network | undefined
  definition(namespace: string, name: string): NetworkAttachmentDefinition | undefined
  /** A namespace's metadata. */
  namespace(
    name: string,
  ): { labels?: Record<string, string>; annotations?: Record<string, string> } | undefined
  /** The confs on the node. Absent: no node is chosen yet, and what one would need of it is not made. */
  confs?: readonly NetworkConf[]
  /** The plugins that every namespace's configurations may execute. */
  allowedPlugins?: readonly string[]
  /** Devices that the kubelet gave the pod, by resource name; absent: none, or no node is chosen yet. */
  devices?: () => ReadonlyMap<string, readonly string[]>
  /** CNI_ARGS. */
  args: Record<string, string>
}

/** On a NetworkAttachmentDefinition: each attachment to it has the next device of that resource. */
export const resourceNameKey = 'k8s.v1.cni.cncf.io/resourceName'

export const resourceOf = (definition: NetworkAttachmentDefinition | undefined): string | undefined =>
  definition?.metadata.annotations?.[resourceNameKey] || undefined

/**
 * How each of the requests of a pod of namespace `home` is made, undefined
 * where that depends on a node and none is chosen yet. Throws one fault with
 * everything that keeps any of them from being made.
 */
export function makingsOf(
  pod: { namespace: string; name: string },
  requests: readonly AttachmentRequest[],
  makers: Makers,
): (Making | undefined)[] {
  const maker = new Maker(pod.namespace, makers)
  const faults: Fault[] = []
  const makings = requests.map((request) => {
    try {
      return maker.of(request)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      faults.push(error)
      return undefined
    }
  })
  const [first] = faults
  if (!first) return makings
  if (faults.length === 1) throw first
  // What is missing may come; a pod that also asks wrongly need not wait for it.
  const kind = faults.find((fault) => fault.kind !== 'missing')?.kind ?? first.kind
  const all = faults.map((fault) => fault.message).join('; ')
  throw new Fault(kind, `attach pod ${pod.namespace}/${pod.name}`, all)
}

/** How each of a pod's attachments is made. */
class Maker {
  readonly #home: string
  readonly #makers: Makers
  /** How many devices of a resource are some attachment's already. */
  readonly #used = new Map<string, number>()

  constructor(home: string, makers: Makers) {
    this.#home = home
    this.#makers = makers
  }

  of(request: AttachmentRequest): Making | undefined {
    const { target } = request
    const { confs } = this.#makers
    switch (target.kind) {
      case 'Network':
        return this.#network(request, target)
      case 'Plugin': {
        // The pod's wish, unless the node chose it.
        if (!confs) return undefined
        const conf = confOf(target.name, confs)
        if (conf) return this.#plugin(request, conf)
        const chosen = request.source === 'node' || request.source === 'conf'
        return this.#plugin(request, madeFor(target.name), chosen ? undefined : this.#home)
      }
      case 'NetworkAttachmentDefinition': {
        const { namespace, name } = target
        const definition = this.#makers.definition(namespace, name)
        const config = definition?.spec?.config
        const device = this.#device(definition)
        if (config)
          return this.#plugin(
            request,
            parsed(config, `NetworkAttachmentDefinition ${namespace}/${name}`, name),
            namespace,
            device,
          )
        // NPWG v1.3 section 3.2: without a config, the conf on the node of the same name.
        if (!confs) return undefined
        const conf = confOf(name, confs)
        if (conf) return this.#plugin(request, conf, undefined, device)
        return this.#plugin(request, madeFor(name), namespace, device)
      }
    }
  }

  #network(request: AttachmentRequest, target: { namespace: string; name: string }): Making | undefined {
    const network = this.#makers.network(target.namespace, target.name)
    if (!network)
      throw new Fault(
        'missing',
        `attach ${request.interface}`,
        `Network ${target.namespace}/${target.name} is gone`,
      )
    // The API server takes what the schema takes, which is more than what makes sense.
    const parsed = checked(network)
    const doing = `attach ${request.interface} to Network ${target.namespace}/${target.name}`
    if (!parsed.ok) throw new Fault('invalid', doing, sentence(parsed.problems))
    const { plugin = 'polynet', subnets = [], config } = network.spec
    if (plugin !== 'polynet') {
      // With addresses of its owner's choice, the node's own conf is not the administrator's word any more.
      const { confs } = this.#makers
      if (!confs && !config) return undefined
      const known = confOf(plugin, confs ?? [])
      const author = known && !config && subnets.length === 0 ? undefined : target.namespace
      return this.#plugin(request, confOfNetwork(parsed.value, confs ?? []), author)
    }
    const kind = hostsOwn(parsed.value)
    const problem = kind && kindProblem(kind, this.#author(target.namespace))
    if (problem) throw new Fault('forbidden', doing, problem)
    return { kind: 'polynet', network: parsed.value }
  }

  /**
   * The next device of the definition's resource. None where the kubelet gave
   * the pod none or too few: some resources only lead pods to nodes.
   */
  #device(definition: NetworkAttachmentDefinition | undefined): string | undefined {
    const resource = resourceOf(definition)
    if (!resource) return undefined
    const used = this.#used.get(resource) ?? 0
    this.#used.set(resource, used + 1)
    return this.#makers.devices?.().get(resource)?.[used]
  }

  /**
   * `author`: the namespace whose users wrote the configuration; absent: the
   * administrator did. `device`: what the kubelet gave, which is the pod's to
   * have, unless it names another one.
   */
  #plugin(asked: AttachmentRequest, conf: NetworkConf, author?: string, device?: string): Making {
    const request: AttachmentRequest = { ...(device && { deviceID: device }), ...asked }
    const doing = `attach ${request.interface} by ${conf.source}`
    const forbidden = author === undefined ? [] : this.#forbidden(conf, author)
    const [first] = conf.plugins
    if (asked.deviceID !== undefined && first) {
      // A pod that names a device takes it from the host, or from another pod.
      const problem = kindProblem(String(first.type), this.#author(this.#home))
      if (problem) forbidden.push({ path: 'deviceID', problem })
    }
    if (forbidden.length > 0) throw new Fault('forbidden', doing, sentence(forbidden))
    const capabilityArgs = runtimeConfigFor(request)
    const problems = [...missingCapabilities(conf, capabilityArgs), ...unheardRoute(conf, request)]
    if (problems.length > 0) throw new Fault('invalid', doing, sentence(problems))
    const { target } = request
    const name = target.kind === 'Plugin' ? conf.name : `${target.namespace}/${target.name}`
    const args = { ...this.#makers.args, ...argsFor(conf, request) }
    return { kind: 'plugin', name, conf: confFor(conf, request), args, capabilityArgs }
  }

  #forbidden(conf: NetworkConf, author: string): Problem[] {
    const problems = pluginProblems(conf, this.#author(author))
    for (const full of ipamNetworks(conf)) {
      const [namespace = '', name = ''] = full.split('/')
      const network = this.#makers.network(namespace, name)
      const admitted = (pods: string) =>
        network ? admits(network, pods, this.#annotated(pods)?.labels) : pods === namespace
      if (!admitted(author) && !admitted(this.#home))
        problems.push({
          path: 'ipam.network',
          problem: noneFor(full, [...new Set([author, this.#home])].join(' or ')),
        })
    }
    return problems
  }

  #author(namespace: string): Author {
    const annotations = this.#annotated(namespace)?.annotations
    const { allowedPlugins: everywhere = [] } = this.#makers
    return { namespace, everywhere, ...(annotations ? { annotations } : {}) }
  }

  #annotated(name: string) {
    return this.#makers.namespace(name)
  }
}

/** The kind of interface by which a Network takes a NIC from the host, or its pods onto the nodes' own wire. */
function hostsOwn({ spec }: Network): string | undefined {
  if (spec.topology !== 'Direct') return undefined
  const mode = spec.direct?.mode ?? 'macvlan'
  return mode === 'host-device' || spec.physicalNetwork === undefined ? mode : undefined
}

/** The parsed network; each object is looked at once, an ADD for each of its pods. */
export function checked(network: Network): Parsed<Network> {
  const known = checkedBefore.get(network) ?? parseNetwork(network)
  checkedBefore.set(network, known)
  return known
}

const checkedBefore = new WeakMap<Network, Parsed<Network>>()

/** A Network that another plugin carries: its own conf, else the node's; addresses from the Network where the conf names none. */
function confOfNetwork(network: Network, confs: readonly NetworkConf[]): NetworkConf {
  const { namespace, name } = network.metadata
  const source = `Network ${namespace}/${name}`
  const type = network.spec.plugin ?? ''
  const subnet = network.spec.subnets?.[0]?.cidr
  const conf = network.spec.config
    ? parsed(network.spec.config, source, name)
    : (confOf(type, confs) ?? genieConf(type, subnet) ?? missingConf(type))
  const [first, ...rest] = conf.plugins
  if (!first || !network.spec.subnets?.length) return { ...conf, source }
  const ipam = { type: 'polynet-ipam', network: `${namespace}/${name}` }
  return { ...conf, source, name: `${namespace}-${name}`, plugins: [{ ...first, ipam }, ...rest] }
}

const madeFor = (plugin: string): NetworkConf => genieConf(plugin) ?? missingConf(plugin)

function missingConf(name: string): never {
  throw new Fault(
    'invalid',
    `attach by plugin ${name}`,
    'the node has no conf for it; put one into the CNI conf directory, or give a Network with spec.config',
  )
}

function parsed(config: string, source: string, name: string): NetworkConf {
  if (config.length > longestConfig)
    throw new Fault(
      'invalid',
      `read the conf of ${source}`,
      `it has ${config.length} characters; write at most ${longestConfig}`,
    )
  const conf = parseConf(config, source, name)
  if (!conf.ok) throw new Fault('invalid', `read the conf of ${source}`, sentence(conf.problems))
  return conf.value
}
