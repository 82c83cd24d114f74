import type { KubeObject, Resource } from '../../api/meta.ts'
import { resources } from '../../api/resources.ts'
import type { Kube, Ref } from '../../kube/port.ts'
import type { Clock } from '../../lib/clock.ts'
import { asFault, Fault, isFault } from '../../lib/fault.ts'

export const daemonSets: Resource<KubeObject> = {
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
   * `removed` when the agents' DaemonSet or its namespace is gone or on its way, else why it is
   * supposed to be there. A removal takes the right to ask away as well: who
   * may not ask any more is removed. A DaemonSet that was never seen cannot be
   * missed, and no answer is no removal.
   */
  ask(): Promise<string>
}

export function removalOf(kube: Kube, daemonSet: Ref, clock: Clock): Removal {
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
  return {
    async ask() {
      over.abort()
      const answer = get().then(
        async ({ metadata }) =>
          metadata.deletionTimestamp || (await namespaceGoes()) ? 'removed' : 'its DaemonSet is there',
        (error) => {
          if (seen && isFault(error, 'missing', 'forbidden')) return 'removed'
          return asFault(error, `ask for DaemonSet ${namespace}/${name}`).message
        },
      )
      const late = new AbortController()
      const silence = clock.sleep(patienceMs, late.signal).then(() => 'the API server does not answer')
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
