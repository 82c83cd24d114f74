import type { KubeObject, Resource } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import type { Kube, Ref } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, Fault, isFault } from '../../lib/fault.ts'
import { isWanted, type PodTemplate } from './wanted.ts'

/** apps/v1 DaemonSet, as far as an agent reads its own. */
export interface DaemonSet extends KubeObject {
  spec?: { template?: { spec?: PodTemplate } }
}

export const daemonSets: Resource<DaemonSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'DaemonSet',
  plural: 'daemonsets',
  namespaced: true,
}

/** How long whoever ends an agent waits for the API server to say why. */
const patienceMs = 2000

/** Tells a removal from a restart: both end an agent by SIGTERM. */
export interface Removal {
  /**
   * A removal when the agents' DaemonSet or its namespace is gone or on its
   * way, or when it wants no agent on this node any more. A removal takes the
   * right to ask away as well: who may not ask any more is removed. A DaemonSet
   * that was never seen cannot be missed, and no answer is no removal.
   */
  ask(): Promise<Ending>
}

/** What an agent's end is, and by which answer. */
export interface Ending {
  removed: boolean
  why: string
}

const removed = (why: string): Ending => ({ removed: true, why })
const restarted = (why: string): Ending => ({ removed: false, why })

/** Of the agent on `node`. */
export function removalOf(kube: Kube, node: string, daemonSet: Ref, clock: Clock): Removal {
  const { namespace, name } = daemonSet
  const get = () => kube.get(daemonSets, daemonSet)
  /** Of a namespace that goes, pods may go first. */
  const namespaceGoes = () =>
    kube.list(resources.namespaces, { fields: `metadata.name=${namespace}` }).then(
      ({ items }) => items.some(({ metadata }) => metadata.deletionTimestamp),
      () => false,
    )
  const over = new AbortController()
  let seen = false
  const look = async () => {
    for (let delayMs = 500; !seen && !over.signal.aborted; delayMs = Math.min(delayMs * 2, 60_000)) {
      seen = await get().then(
        () => true,
        () => false,
      )
      if (!seen) await clock.sleep(delayMs, over.signal)
    }
  }
  void look()
  const judged = async ({ metadata, spec }: DaemonSet): Promise<Ending> => {
    if (metadata.deletionTimestamp) return removed('its DaemonSet is being deleted')
    if (await namespaceGoes()) return removed('its namespace is being deleted')
    try {
      const own = await kube.get(resources.nodes, { name: node })
      if (!isWanted(own.metadata, spec?.template?.spec)) return removed('its DaemonSet is for other nodes')
    } catch (error) {
      const { message } = asFault(error, `ask for Node ${node}`)
      return restarted(`its DaemonSet is there, for which nodes nobody knows: ${message}`)
    }
    return restarted('its DaemonSet is there')
  }
  return {
    async ask() {
      over.abort()
      const answer = get().then(judged, (error) => {
        const { message } = asFault(error, `ask for DaemonSet ${namespace}/${name}`)
        return seen && isFault(error, 'missing', 'forbidden') ? removed(message) : restarted(message)
      })
      const late = new AbortController()
      const silence = clock
        .sleep(patienceMs, late.signal)
        .then(() => restarted('the API server does not answer'))
      return Promise.race([answer, silence]).finally(() => late.abort())
    },
  }
}

/** `namespace/name`, as the environment says it. */
export function daemonSetNamed(text: string): Ref {
  const [namespace, name, ...more] = text.split('/')
  if (namespace && name && more.length === 0) return { namespace, name }
  throw new Fault('invalid', 'read POLYNET_DAEMONSET', `${JSON.stringify(text)} is no namespace/name`)
}
