import type { Pod } from '../api/core.ts'
import { type Network, parseNetwork } from '../api/network.ts'
import { attachmentsFor } from '../attach/attachments.ts'
import { genieConf } from '../attach/genie.ts'
import { confOf } from '../attach/plugin-name.ts'
import type { AttachmentRequest } from '../attach/request.ts'
import { confFor, missingCapabilities, runtimeConfigFor } from '../attach/runtime-config.ts'
import { parseConf } from '../cni/conf.ts'
import type { NetworkConf } from '../cni/plugins.ts'
import { Fault, type Parsed, sentence } from '../lib/fault.ts'
import type { ForeignAttachment } from './record.ts'
import type { Views } from './views.ts'
import type { Watched } from './watched.ts'

/** An attachment that a pod asks for, and how it will be made. */
export interface Wanted {
  request: AttachmentRequest
  by:
    | { kind: 'polynet'; network: Network }
    | ({ kind: 'plugin' } & Pick<ForeignAttachment, 'name' | 'conf' | 'args' | 'capabilityArgs'>)
}

/**
 * What the pod asks for and how each of it is made. Throws one `invalid`
 * fault with everything that is wrong with the pod's annotations, or one for
 * the first thing that the node does not have.
 */
export function wantedBy(
  pod: Pod,
  watched: Watched,
  views: Pick<Views, 'overlap'>,
  confs: NetworkConf[],
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
  return asked.value.map((request) => ({ request, by: makerOf(request, watched, confs, args) }))
}

function makerOf(
  request: AttachmentRequest,
  watched: Watched,
  confs: NetworkConf[],
  args: Record<string, string>,
): Wanted['by'] {
  const { target } = request
  if (target.kind === 'Network') {
    const network = watched.networks.get(target)
    if (!network)
      throw new Fault(
        'missing',
        `attach ${request.interface}`,
        `Network ${target.namespace}/${target.name} is gone`,
      )
    // An API server without Polynet's webhook takes what the schema takes, which is more than what makes sense.
    const parsed = checked(network)
    if (!parsed.ok)
      throw new Fault(
        'invalid',
        `attach ${request.interface} to Network ${target.namespace}/${target.name}`,
        sentence(parsed.problems),
      )
    if ((network.spec.plugin ?? 'polynet') === 'polynet') return { kind: 'polynet', network: parsed.value }
    return plugin(request, confOfNetwork(parsed.value, confs), args)
  }
  if (target.kind === 'Plugin') return plugin(request, confOfPlugin(target.name, confs), args)
  const definition = watched.definitions.get(target)
  const source = `NetworkAttachmentDefinition ${target.namespace}/${target.name}`
  const config = definition?.spec?.config
  // NPWG v1.3 section 3.2: without a config, the conf on the node of the same name.
  if (!config) return plugin(request, confOfPlugin(target.name, confs), args)
  return plugin(request, parsed(config, source, target.name), args)
}

/** The parsed network; each object is looked at once, an ADD for each of its pods. */
function checked(network: Network): Parsed<Network> {
  const known = checkedBefore.get(network) ?? parseNetwork(network)
  checkedBefore.set(network, known)
  return known
}

const checkedBefore = new WeakMap<Network, Parsed<Network>>()

function plugin(request: AttachmentRequest, conf: NetworkConf, args: Record<string, string>): Wanted['by'] {
  const capabilityArgs = runtimeConfigFor(request)
  const problems = missingCapabilities(conf, capabilityArgs)
  if (problems.length > 0)
    throw new Fault('invalid', `attach ${request.interface} by ${conf.source}`, sentence(problems))
  const { target } = request
  const name = target.kind === 'Plugin' ? conf.name : `${target.namespace}/${target.name}`
  return { kind: 'plugin', name, conf: confFor(conf, request), args, capabilityArgs }
}

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

const confOfPlugin = (name: string, confs: NetworkConf[]): NetworkConf =>
  confOf(name, confs) ?? genieConf(name) ?? missingConf(name)

function missingConf(name: string): never {
  throw new Fault(
    'invalid',
    `attach by plugin ${name}`,
    'the node has no conf for it; put one into the CNI conf directory, or give a Network with spec.config',
  )
}

function parsed(config: string, source: string, name: string): NetworkConf {
  const conf = parseConf(config, source, name)
  if (!conf.ok) throw new Fault('invalid', `read the conf of ${source}`, sentence(conf.problems))
  return conf.value
}
