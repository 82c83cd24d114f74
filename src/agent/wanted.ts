import type { Pod } from '../api/core.ts'
import { type Network, parseNetwork } from '../api/network.ts'
import { type Author, ipamNetworks, kindProblem, pluginProblems } from '../attach/allowed-plugins.ts'
import { attachmentsFor } from '../attach/attachments.ts'
import { genieConf } from '../attach/genie.ts'
import { refusal } from '../attach/permission.ts'
import { confOf } from '../attach/plugin-name.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import { confFor, missingCapabilities, runtimeConfigFor } from '../attach/runtime-config.ts'
import { parseConf } from '../cni/conf.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import { Fault, type Parsed, type Problem, sentence } from '../lib/fault.ts'
import type { ForeignAttachment } from './journal/record.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** A configuration that users of a namespace wrote has at most so many characters: each of their pods keeps it in the node's journal. */
const longestConfig = 65536

/** An attachment that a pod asks for, and how it will be made. */
export interface Wanted {
  request: AttachmentRequest
  by:
    | { kind: 'polynet'; network: Network }
    | ({ kind: 'plugin' } & Pick<ForeignAttachment, 'name' | 'conf' | 'args' | 'capabilityArgs'>)
}

/** What there is on the node, and in the cluster as the node sees it. */
export interface Surroundings {
  watched: Watched
  views: Pick<Views, 'overlap'>
  confs: NetworkConf[]
  /** The plugins that every namespace's configurations may execute. */
  allowedPlugins?: readonly string[]
}

/**
 * What the pod asks for and how each of it is made. Throws one `invalid`
 * fault with everything that is wrong with the pod's annotations, or one for
 * the first thing that the node does not have.
 */
export function wantedBy(
  pod: Pod,
  { watched, views, confs, allowedPlugins = [] }: Surroundings,
  args: Record<string, string>,
): Wanted[] {
  const { namespace = 'default', name, annotations } = pod.metadata
  const asked = attachmentsFor({
    pod: {
      namespace,
      name,
      ...(annotations ? { annotations } : {}),
      hostNetwork: pod.spec.hostNetwork ?? false,
    },
    namespace: watched.namespaces.get({ name: namespace })?.metadata,
    node: watched.node.list()[0]?.metadata,
    network: (ns, n) => watched.networks.get({ namespace: ns, name: n }),
    definition: (ns, n) => watched.definitions.get({ namespace: ns, name: n }),
    confs,
    overlap: (network) => views.overlap(network),
  })
  if (!asked.ok) throw new Fault('invalid', `attach pod ${namespace}/${name}`, sentence(asked.problems))
  const maker = new Maker(namespace, watched, confs, allowedPlugins, args)
  return asked.value.map((request) => ({ request, by: maker.of(request) }))
}

/** How each of a pod's attachments is made. */
class Maker {
  readonly #home: string
  readonly #watched: Watched
  readonly #confs: NetworkConf[]
  readonly #everywhere: readonly string[]
  readonly #args: Record<string, string>

  constructor(
    home: string,
    watched: Watched,
    confs: NetworkConf[],
    everywhere: readonly string[],
    args: Record<string, string>,
  ) {
    this.#home = home
    this.#watched = watched
    this.#confs = confs
    this.#everywhere = everywhere
    this.#args = args
  }

  of(request: AttachmentRequest): Wanted['by'] {
    const { target } = request
    switch (target.kind) {
      case 'Network':
        return this.#network(request, target)
      case 'Plugin': {
        // The pod's wish, unless the node chose it.
        const conf = confOf(target.name, this.#confs)
        if (conf) return this.#plugin(request, conf)
        const chosen = request.source === 'node' || request.source === 'conf'
        return this.#plugin(request, madeFor(target.name), chosen ? undefined : this.#home)
      }
      case 'NetworkAttachmentDefinition': {
        const { namespace, name } = target
        const config = this.#watched.definitions.get(target)?.spec?.config
        if (config)
          return this.#plugin(
            request,
            parsed(config, `NetworkAttachmentDefinition ${namespace}/${name}`, name),
            namespace,
          )
        // NPWG v1.3 section 3.2: without a config, the conf on the node of the same name.
        const conf = confOf(name, this.#confs)
        return conf ? this.#plugin(request, conf) : this.#plugin(request, madeFor(name), namespace)
      }
    }
  }

  #network(request: AttachmentRequest, target: { namespace: string; name: string }): Wanted['by'] {
    const network = this.#watched.networks.get(target)
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
      const known = confOf(plugin, this.#confs)
      const author = known && !config && subnets.length === 0 ? undefined : target.namespace
      return this.#plugin(request, confOfNetwork(parsed.value, this.#confs), author)
    }
    const kind = hostsOwn(parsed.value)
    const problem = kind && kindProblem(kind, this.#author(target.namespace))
    if (problem) throw new Fault('forbidden', doing, problem)
    return { kind: 'polynet', network: parsed.value }
  }

  /** `author`: the namespace whose users wrote the configuration; absent: the administrator did. */
  #plugin(request: AttachmentRequest, conf: NetworkConf, author?: string): Wanted['by'] {
    const doing = `attach ${request.interface} by ${conf.source}`
    const forbidden = author === undefined ? [] : this.#forbidden(conf, author)
    const [first] = conf.plugins
    if (request.deviceID !== undefined && first) {
      // A pod that names a device takes it from the host, or from another pod.
      const problem = kindProblem(String(first.type), this.#author(this.#home))
      if (problem) forbidden.push({ path: 'deviceID', problem })
    }
    if (forbidden.length > 0) throw new Fault('forbidden', doing, sentence(forbidden))
    const capabilityArgs = runtimeConfigFor(request)
    const problems = missingCapabilities(conf, capabilityArgs)
    if (problems.length > 0) throw new Fault('invalid', doing, sentence(problems))
    const { target } = request
    const name = target.kind === 'Plugin' ? conf.name : `${target.namespace}/${target.name}`
    return { kind: 'plugin', name, conf: confFor(conf, request), args: this.#args, capabilityArgs }
  }

  #forbidden(conf: NetworkConf, author: string): Problem[] {
    const problems = pluginProblems(conf, this.#author(author))
    for (const full of ipamNetworks(conf)) {
      const [namespace = '', name = ''] = full.split('/')
      const network = this.#watched.networks.get({ namespace, name })
      const admits = (pods: string) =>
        !network || refusal(network, pods, this.#annotated(pods)?.labels) === undefined
      if (!admits(author) && !admits(this.#home))
        problems.push({
          path: 'ipam.network',
          problem: `Network ${full} does not admit pods of namespace ${[...new Set([author, this.#home])].join(' or ')}; ask its owner to widen spec.allowedNamespaces`,
        })
    }
    return problems
  }

  #author(namespace: string): Author {
    const annotations = this.#annotated(namespace)?.annotations
    return { namespace, everywhere: this.#everywhere, ...(annotations ? { annotations } : {}) }
  }

  #annotated(name: string) {
    return this.#watched.namespaces.get({ name })?.metadata
  }
}

/** The kind of interface by which a Network takes a NIC from the host, or its pods onto the nodes' own wire. */
function hostsOwn({ spec }: Network): string | undefined {
  if (spec.topology !== 'Direct') return undefined
  const mode = spec.direct?.mode ?? 'macvlan'
  return mode === 'host-device' || spec.physicalNetwork === undefined ? mode : undefined
}

/** The parsed network; each object is looked at once, an ADD for each of its pods. */
function checked(network: Network): Parsed<Network> {
  const known = checkedBefore.get(network) ?? parseNetwork(network)
  checkedBefore.set(network, known)
  return known
}

const checkedBefore = new WeakMap<Network, Parsed<Network>>()

/** A Network that another plugin carries: its own conf, else the node's; addresses from the Network where the conf names none. */
function confOfNetwork(network: Network, confs: NetworkConf[]): NetworkConf {
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
