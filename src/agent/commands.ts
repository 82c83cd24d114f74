import type { Pod } from '../api/core.ts'
import { defaultConf } from '../attach/plugin-name.ts'
import { errorAnswer } from '../cni/frame.ts'
import type { Plugins } from '../cni/plugins.ts'
import type { CniRequest } from '../cni/request.ts'
import type { CniResult } from '../cni/result.ts'
import { convertResult } from '../cni/versions.ts'
import { asFault, Fault } from '../lib/fault.ts'
import { limit } from '../lib/limit.ts'
import type { Log } from '../lib/log.ts'
import type { CniAnswer } from './agent.ts'
import type { Attachable } from './attachable.ts'
import type { Events } from './events.ts'
import type { IpamPlugin } from './ipam-plugin.ts'
import { withRuntimeConfig } from './runtime-config.ts'
import { type Sandboxes, takingAway } from './sandboxes.ts'
import type { Traces } from './traces.ts'
import { Turns } from './turns.ts'

export interface Holders {
  sandboxes: Sandboxes
  ipam: IpamPlugin
}

export interface CommandDeps {
  node: string
  /** Why no pod can be attached, or nothing. */
  unready(): string | undefined
  /** Who holds what; nobody, as long as it is not known which node this is. */
  holders(): Holders | undefined
  podOf(request: CniRequest): Promise<Pod>
  attachable: Attachable
  plugins: Plugins
  events: Events
  log: Log
  traces?: Traces
}

/** Does what the shim asks, one thing after another for each container. Rejects with the fault that the runtime is to hear of. */
export class Commands {
  readonly #deps: CommandDeps
  readonly #turns = new Turns()

  constructor(deps: CommandDeps) {
    this.#deps = deps
  }

  async act(request: CniRequest): Promise<CniAnswer> {
    const { command, containerID, config, program } = request
    // The plugin that asks runs within its pod's turn already.
    if (program === 'polynet-ipam') return this.#actAsIpam(request)
    switch (command) {
      case 'ADD':
        return this.#turns.take(containerID, () => this.#add(request))
      case 'DEL':
        await this.#turns.take(containerID, () => this.#del(request))
        return done
      case 'CHECK':
        await this.#turns.take(containerID, () => this.#check(containerID))
        return done
      case 'GC':
        await this.#gc(request)
        return done
      case 'STATUS': {
        const why = this.#deps.unready()
        if (why === undefined) return done
        return errorAnswer(50, `node ${this.#deps.node} cannot attach pods yet`, why, config.cniVersion)
      }
      default:
        throw new Fault('unsupported', `answer ${command}`, 'the shim answers VERSION itself')
    }
  }

  async #add(request: CniRequest): Promise<CniAnswer> {
    const { podOf, attachable, events, traces } = this.#deps
    traces?.turn(request)
    const { sandboxes } = this.#ready()
    const pod = await podOf(request)
    traces?.did(request.containerID, 'pod known')
    try {
      // What was made once is what the pod has, whatever its annotations say by now.
      const made = sandboxes.find(request.containerID)?.state === 'added'
      const { config, args } = request
      const wanted = made ? [] : withRuntimeConfig(await attachable.of(pod, request), config, args)
      traces?.did(request.containerID, 'networks known')
      return answerOf(await sandboxes.add(pod, request, wanted), request)
    } catch (error) {
      const fault = asFault(error, `attach pod ${pod.metadata.namespace}/${pod.metadata.name}`)
      events.tell(pod, 'Warning', reasons[fault.kind] ?? 'AttachmentFailed', fault.message)
      throw fault
    }
  }

  /** A pod that was there before Polynet was made by the node's other plugin, which takes it away. */
  async #del(request: CniRequest): Promise<void> {
    const { containerID, netns, ifName, args } = request
    this.#deps.traces?.turn(request)
    const { sandboxes } = this.#known()
    const isOurs = sandboxes.knows(containerID)
    await sandboxes.del(containerID)
    if (isOurs) return
    const conf = defaultConf(await this.#deps.plugins.confs())
    if (conf) await this.#deps.plugins.del({ conf, containerID, netns, ifName, args, capabilityArgs: {} })
  }

  /**
   * Takes away what is of sandboxes whose namespaces are gone: while Polynet was removed, their DELs went to another
   * plugin. And what ADDs and DELs left unfinished: a runtime that gave up does not ask again. Never rejects.
   */
  async forgetGone(isThere: (netns: string) => boolean): Promise<void> {
    const { sandboxes } = this.#known()
    const gone = sandboxes.records().filter(({ netns }) => !isThere(netns))
    const all = new Set([...gone.map(({ containerID }) => containerID), ...sandboxes.unfinished()])
    for (const error of await this.#takeAll(all)) this.#deps.log.warn(error)
  }

  /** Takes sandboxes away that nobody waits for, as many at once as shall be. What failed, a sentence each. */
  async #takeAll(containerIDs: Iterable<string>): Promise<string[]> {
    const { sandboxes } = this.#known()
    const limited = limit(takingAway)
    const errors: string[] = []
    // All turns are taken now, so that an ADD which comes to one that waits for its place follows and stays.
    const taken = Array.from(containerIDs, (containerID) =>
      this.#turns
        .take(containerID, () => limited(() => sandboxes.del(containerID)))
        .catch((error) => errors.push(asFault(error, `take sandbox ${containerID} away`).message)),
    )
    await Promise.all(taken)
    return errors
  }

  /** Takes away what is left of a sandbox whose ADD or DEL failed. */
  takeRestAway(containerID: string): Promise<void> {
    const { sandboxes } = this.#known()
    return this.#turns.take(containerID, () => sandboxes.takeRestAway(containerID))
  }

  async #check(containerID: string): Promise<void> {
    const differences = await this.#known().sandboxes.check(containerID)
    if (differences.length > 0)
      throw new Fault('kernel', `check sandbox ${containerID}`, differences.join('; '))
  }

  /**
   * Takes away what the runtime does not name, of what was there when it asked: it made its list before, so what comes
   * meanwhile cannot be in it. It asks nobody but the journal.
   */
  async #gc({ config }: CniRequest): Promise<void> {
    const { sandboxes } = this.#known()
    const said = config['cni.dev/valid-attachments']
    if (said === undefined)
      throw new Fault(
        'invalid',
        'collect garbage',
        'cni.dev/valid-attachments is not there; a runtime names what stays (CNI 1.1)',
      )
    const valid = new Set(said.map((a) => a.containerID))
    const garbage = [...sandboxes.known()].filter((id) => !valid.has(id) && !this.#turns.has(id))
    const errors = await this.#takeAll(garbage)
    if (errors.length > 0) throw new Fault('plugin', 'collect garbage', errors.join('; '))
  }

  async #actAsIpam(request: CniRequest): Promise<CniAnswer> {
    const { ipam } = request.command === 'ADD' ? this.#ready() : this.#known()
    switch (request.command) {
      case 'ADD':
        return answerOf(await ipam.add(request), request)
      case 'DEL':
        await ipam.del(request)
        return done
      case 'CHECK':
        await ipam.check(request)
        return done
      default:
        return done
    }
  }

  #ready(): Holders {
    const { node, holders, unready } = this.#deps
    const [all, why] = [holders(), unready()]
    if (all && why === undefined) return all
    throw new Fault('unavailable', `attach a pod on node ${node}`, why ?? starting)
  }

  #known(): Holders {
    const { node, holders, unready } = this.#deps
    const all = holders()
    if (all) return all
    throw new Fault('unavailable', `look after node ${node}`, unready() ?? starting)
  }
}

const starting = 'the agent is starting; try again'

const done: CniAnswer = { exit: 0, stdout: '' }

const answerOf = (result: CniResult, { config }: CniRequest): CniAnswer => ({
  exit: 0,
  stdout: JSON.stringify(convertResult(result, config.cniVersion)),
})

/** Reasons of the Events that an ADD which fails leaves on its pod. */
const reasons: Record<string, string> = {
  invalid: 'InvalidNetworkRequest',
  forbidden: 'NetworkNotAllowed',
  exhausted: 'AddressesExhausted',
  missing: 'NetworkMissing',
  plugin: 'PluginFailed',
}
